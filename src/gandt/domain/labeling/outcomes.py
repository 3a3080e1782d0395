# SPDX-License-Identifier: GPL-3.0-or-later
"""What the job controller's calls give back, and what callers hand in by name: records without behavior."""

from __future__ import annotations

from dataclasses import dataclass

from gandt.domain.catalog import QuarantinedAnswer
from gandt.domain.errors import GandtError
from gandt.domain.labeling.rounds import Round
from gandt.domain.progress import Progress


@dataclass(frozen=True, slots=True)
class RefusedFile:
    """A file that was not taken, and why."""

    uri: str
    error: GandtError


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """Counts of an import of images.

    Attributes:
        files: looked at.
        added: images new in the catalog.
        unchanged: files whose image was known already under this path.
        duplicates: further paths of known images.
        rejected: files refused.
    """

    files: int = 0
    added: int = 0
    unchanged: int = 0
    duplicates: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class ImportReport:
    """One message of an import of images; `done` in the last one.

    Attributes:
        rejected: files refused since the last message.
    """

    progress: Progress
    summary: ImportSummary
    rejected: tuple[RefusedFile, ...] = ()
    done: bool = False


@dataclass(frozen=True, slots=True)
class GivenLabel:
    """Labels that somebody gave for an image, named by id, URI or path."""

    image: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RefusedLabel:
    """Position in the request, the image as given, and why it was refused."""

    index: int
    image: str
    error: GandtError


SHOWN_REPLACED = 20


@dataclass(frozen=True, slots=True)
class ReplacedLabel:
    """An image as given, and the labels that took the place of others."""

    image: str
    old: tuple[str, ...]
    new: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Imported:
    """Counts of an import of labels or answers, and what was refused.

    Attributes:
        replaced: labels that took the place of other ones; they are imported, too.
        examples: the first SHOWN_REPLACED of them.
    """

    imported: int
    unchanged: int
    rejected: tuple[RefusedLabel, ...] = ()
    replaced: int = 0
    examples: tuple[ReplacedLabel, ...] = ()


@dataclass(frozen=True, slots=True)
class Exported:
    """A dataset that was written; `sha256` in lower-case hex."""

    uri: str
    rows: int
    sha256: str


@dataclass(frozen=True, slots=True)
class RoundCollected:
    """What reading a round's answers brought.

    Attributes:
        new_answers: new in this call.
        failed_images: images without an answer because their page failed or was not reached.
        quarantined: all that was set aside of the round's jobs.
    """

    round: Round
    new_answers: int
    failed_images: int
    quarantined: tuple[QuarantinedAnswer, ...] = ()


@dataclass(frozen=True, slots=True)
class Aggregated:
    """What came of a round.

    Attributes:
        certain: images of the round with a certain label.
        need_answers: images that need another answer and may get one.
    """

    round: Round
    method: str
    certain: int
    need_answers: int
    warnings: tuple[str, ...] = ()
