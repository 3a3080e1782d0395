# SPDX-License-Identifier: GPL-3.0-or-later
"""All answers of a labeling job, put together from the files that it left.

The same answer can lie in three files: the batch, the worker's response (with times) and the output manifest. It
comes out once. A worker who sent several forms for one object counts with the latest. What cannot be read is
quarantined by itself and listed; no answer vanishes: `answers`, `repeated` and `quarantined` hold all that came in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from gandt.domain.datasets import Answer
from gandt.domain.errors import InvalidInput, NotFound
from gandt.domain.images import split_uri
from gandt.domain.labeling import ground_truth
from gandt.domain.labeling.answers import latest_answers
from gandt.domain.labeling.ground_truth import FileKind, LineKind, OutputLine, Parsed, Submission
from gandt.domain.labeling.worker_answer import Page, TileAnswer, malformed, read_form

_NEVER = datetime.min.replace(tzinfo=UTC)


class ReadsObjects(Protocol):
    """The part of an object store that reading needs."""

    def get(self, uri: str) -> bytes:
        """The bytes of one object, or NotFound."""
        ...

    def list(self, prefix_uri: str) -> Iterator[Any]:
        """Records with the attribute `uri`, below a prefix."""
        ...


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An answer, or a part of one, that could not be read.

    Attributes:
        source: URI of the file.
        object_id, worker_id: "" when the broken part does not say.
        rule: what it broke; the names are listed in `worker_answer` and `ground_truth`.
        excerpt: its first 500 bytes.
    """

    job: str
    source: str
    object_id: str
    worker_id: str
    rule: str
    excerpt: str


@dataclass(frozen=True, slots=True)
class JobOutput:
    """What a job brought.

    Attributes:
        answers: one per worker and image in a job; blank ones too, as state `blank`.
        quarantined: what could not be read.
        lines: the output manifest; empty when it was not there.
        repeated: earlier answers of a worker on an image that he answered again; they do not count.
        files: how many files were read.
    """

    answers: tuple[Answer, ...]
    quarantined: tuple[Quarantined, ...]
    lines: tuple[OutputLine, ...]
    repeated: tuple[Answer, ...]
    files: int

    @property
    def failed(self) -> tuple[OutputLine, ...]:
        """Lines that the service gave up, with its reason."""
        return tuple(line for line in self.lines if line.kind == LineKind.FAILED)

    @property
    def unlabeled(self) -> tuple[OutputLine, ...]:
        """Lines that were not reached."""
        return tuple(line for line in self.lines if line.kind == LineKind.UNLABELED)

    def is_complete(self, expected_lines: int) -> bool:
        """Whether the output manifest accounts for every line of the input."""
        return len(self.lines) == expected_lines


def read_job(store: ReadsObjects, place_uri: str, label_attribute: str = "") -> JobOutput:
    """Read all answers below a folder of the store, or in a single file.

    Args:
        place_uri: the job's folder, one above several jobs, or one file of a job.
        label_attribute: the job's label attribute; "" takes it from the output manifest.
    Raises:
        NotFound: nothing there holds answers.
        BackendUnavailable, PermissionDenied: from the store.
    """
    reader = _Reader(store)
    for uri, kind in _files(store, place_uri):
        reader.read(uri, kind, label_attribute)
    if not reader.files:
        raise NotFound(
            f"there are no Ground Truth answers at {place_uri}",
            kind="labeling job output",
            id=place_uri,
            reason="NO_ANSWERS_FOUND",
            fix="name the job's output folder: it holds annotations/ and manifests/",
        )
    return reader.output()


def _files(store: ReadsObjects, place_uri: str) -> list[tuple[str, FileKind]]:
    folder = place_uri.rstrip("/") + "/"
    keys = [info.uri for info in store.list(folder)]
    found = [(uri, kind) for uri in keys if (kind := ground_truth.file_kind(split_uri(uri)[1]))]
    if not keys and split_uri(place_uri)[1]:
        try:
            data = store.get(place_uri)
        except NotFound:
            return []
        return [(place_uri, ground_truth.file_kind(split_uri(place_uri)[1]) or ground_truth.guess_kind(data))]
    return sorted(found, key=lambda item: ground_truth.file_order(item[0]))


class _Reader:
    """Collects what the files say; `output` puts it together."""

    def __init__(self, store: ReadsObjects) -> None:
        self._store = store
        self._pages: dict[tuple[str, str], Page] = {}
        self._lines: list[OutputLine] = []
        self._quarantined: list[Quarantined] = []
        self._unread: list[Quarantined] = []  # what our Lambda could not read; counts where no other file has it
        # (job, object id, worker id) to (file, form), one table a kind of file
        self._forms: dict[FileKind, dict[tuple[str, str, str], list[tuple[str, Submission]]]] = {
            kind: defaultdict(list) for kind in FileKind
        }
        self.files = 0

    def read(self, uri: str, kind: FileKind, label_attribute: str) -> None:
        """Take in one file."""
        data, key = self._store.get(uri), split_uri(uri)[1]
        job = ground_truth.job_of(key)
        self.files += 1
        if kind == FileKind.REQUEST:
            parsed = ground_truth.read_request(data)
        elif kind == FileKind.RESPONSE:
            parsed = ground_truth.read_worker_response(data, key)
        else:
            parsed = ground_truth.read_output_manifest(data, label_attribute)
            self._take_lines(uri, job, parsed)
        for object_id, page in (parsed.pages or {}).items():
            self._pages[job, object_id] = page
        for form in parsed.submissions:
            self._forms[kind][job, form.object_id, form.worker_id].append((uri, form))
        for object_id, worker, broken in parsed.broken:
            self._quarantined.append(Quarantined(job, uri, object_id, worker, broken.rule, broken.excerpt))

    def _take_lines(self, uri: str, job: str, parsed: Parsed) -> None:
        self._lines.extend(parsed.lines)
        for line in parsed.lines:
            name, object_id = job or line.job, str(line.number)
            if line.page is not None:
                self._pages.setdefault((name, object_id), line.page)  # a batch, read before, knows it for certain
            for form in line.submissions:
                self._forms[FileKind.MANIFEST][name, object_id, form.worker_id].append((uri, form))
            for worker, broken in line.broken:
                self._unread.append(Quarantined(name, uri, object_id, worker, broken.rule, broken.excerpt))

    def output(self) -> JobOutput:
        """The answers of all files together."""
        answers: list[Answer] = []
        repeated: list[Answer] = []
        requests, responses = self._forms[FileKind.REQUEST], self._forms[FileKind.RESPONSE]
        manifest = self._forms[FileKind.MANIFEST]
        answered = {(job, object_id) for job, object_id, _ in [*requests, *responses]}
        keys = dict.fromkeys([*requests, *responses])
        keys |= dict.fromkeys(key for key in manifest if key[:2] not in answered)
        self._quarantined.extend(part for part in self._unread if (part.job, part.object_id) not in answered)
        for key in keys:
            forms = responses.get(key) or requests.get(key) or manifest[key]
            counted = False
            for uri, form in reversed(_by_time(forms)):  # the latest that can be read counts
                found = self._answers(key[0], uri, form)
                (repeated if counted else answers).extend(found)
                counted = counted or bool(found)
        kept, dropped = latest_answers(answers)
        return JobOutput(tuple(kept), tuple(self._quarantined), tuple(self._lines), (*repeated, *dropped), self.files)

    def _answers(self, job: str, uri: str, form: Submission) -> list[Answer]:
        page = self._pages.get((job, form.object_id))
        content = form.content
        if form.content_uri:
            try:
                content = self._store.get(form.content_uri).decode("utf-8", "replace")
            except (NotFound, InvalidInput) as e:
                self._quarantine(job, uri, form, "unreadable", f"{form.content_uri}: {e.message}")
                return []
        if page is None:
            self._quarantine(job, uri, form, "object_unknown", content)
            return []
        tiles, broken = read_form(content, page)
        for part in broken:
            self._quarantined.append(Quarantined(job, uri, form.object_id, form.worker_id, part.rule, part.excerpt))
        return [_answer(job, form, page, tile, len(tiles)) for tile in tiles]

    def _quarantine(self, job: str, uri: str, form: Submission, rule: str, content: object) -> None:
        part = malformed(rule, content)
        self._quarantined.append(Quarantined(job, uri, form.object_id, form.worker_id, part.rule, part.excerpt))


def _by_time(forms: list[tuple[str, Submission]]) -> list[tuple[str, Submission]]:
    """A worker's forms on one object by time. The service may write one answer into several files: that is one form."""
    unique = {(form.submitted_at or repr(form.content), form.content_uri): (uri, form) for uri, form in forms}
    return sorted(unique.values(), key=lambda item: item[1].submitted_at or _NEVER)


def _answer(job: str, form: Submission, page: Page, tile: TileAnswer, tiles: int) -> Answer:
    """`seconds` of a form that does not say them per tile are an equal share of the page's."""
    seconds = tile.seconds
    if seconds is None and form.seconds is not None:
        seconds = form.seconds / tiles
    return Answer(
        tile.image_id,
        form.worker_id,
        tile.labels,
        tile.state,
        job=job,
        page=page.task or form.object_id,
        answered_at=form.submitted_at,
        seconds=seconds,
    )
