# SPDX-License-Identifier: GPL-3.0-or-later
"""Use cases of the catalog: images in, labels that are known beforehand, and lists of both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from gandt.domain.catalog import CatalogImage, KnownLabel, LabelKind, StoredLabel
from gandt.domain.datasets import LabelStatus
from gandt.domain.errors import GandtError, InvalidInput
from gandt.domain.labeling.outcomes import (
    SHOWN_REPLACED,
    GivenLabel,
    Imported,
    ImportReport,
    RefusedLabel,
    ReplacedLabel,
)
from gandt.domain.paging import page_size, text_of, token_after
from gandt.ports.clock import NO_DEADLINE, Deadline
from gandt_jobcontroller.service.importing import ImageImport
from gandt_jobcontroller.service.naming import check_space, checked_labels, resolve
from gandt_jobcontroller.service.parts import Parts


class Catalog:
    """Images and the labels that were known beforehand."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._import = ImageImport(parts.store, parts.objects, parts.inspector, parts.places)

    def import_images(self, uris: Sequence[str], deadline: Deadline = NO_DEADLINE) -> Iterator[ImportReport]:
        """Read images into the catalog; see `ImageImport.run`."""
        return self._import.run(uris, deadline)

    def list_images(self, size: int, token: str) -> tuple[list[CatalogImage], str, int]:
        """A page of images by id, the next token, and how many there are in all."""
        limit = page_size(size, 100, 1000)
        images = self._parts.store.list_images(text_of(token, "images"), limit)
        after = token_after("images", images[-1].image_id) if len(images) == limit else ""
        return images, after, self._parts.store.count_images()

    def import_labels(self, given: Sequence[GivenLabel], kind: LabelKind, multi_label: bool) -> Imported:
        """Store labels by image; what cannot be taken is refused alone.

        While a campaign is under way a label outside its classes is refused, too: it could only be a mistake.
        The same image (the same bytes, under whatever paths) with different labels is refused, unless images may
        carry several: then they are put together.
        """
        space = self._open_space()
        may_be_empty = multi_label and kind is not LabelKind.SEED
        rejected: list[RefusedLabel] = []
        entries: dict[str, list[tuple[int, tuple[str, ...]]]] = defaultdict(list)
        for index, (item, found) in enumerate(zip(given, self._resolved(given), strict=True)):
            labels = checked_labels(item.labels, multi_label, may_be_empty)
            if space and isinstance(labels, tuple):
                labels = check_space(labels, space, item.image) or labels
            error = found if isinstance(found, GandtError) else labels if isinstance(labels, GandtError) else None
            if error is not None:
                rejected.append(RefusedLabel(index, item.image, error))
            elif isinstance(found, str) and isinstance(labels, tuple):
                entries[found].append((index, labels))
        taken: list[KnownLabel] = []
        for image_id, several in entries.items():
            sets = {frozenset(labels) for _, labels in several}
            if len(sets) > 1 and not multi_label:
                rejected.extend(_conflicts(given, several))
                continue
            taken.append(KnownLabel(image_id, tuple(dict.fromkeys(name for _, labels in several for name in labels))))
        before = {label.image_id: label.labels for label in self._parts.store.known_labels(kind)}
        names = {image_id: given[several[0][0]].image for image_id, several in entries.items()}
        replaced = [
            ReplacedLabel(names[label.image_id], before[label.image_id], label.labels)
            for label in taken
            if set(before.get(label.image_id, label.labels)) != set(label.labels)
        ]
        changed = self._parts.store.put_known_labels(kind, taken)
        rejected.sort(key=lambda item: item.index)
        unchanged = len(given) - len(rejected) - changed
        return Imported(changed, unchanged, tuple(rejected), len(replaced), tuple(replaced[:SHOWN_REPLACED]))

    def _open_space(self) -> tuple[str, ...]:
        """Classes of the campaign under way; () when there is none."""
        newest = self._parts.store.list_campaigns(0, 1)
        return newest[0][1].spec.space.classes if newest and not newest[0][1].state.is_final else ()

    def _resolved(self, given: Sequence[GivenLabel]) -> list[str | GandtError]:
        return resolve(self._parts.store, [item.image for item in given])

    def list_labels(
        self, campaign_id: str, status: str, include_seeds: bool, size: int, token: str
    ) -> tuple[list[StoredLabel], str, int]:
        """A page of labels by image id, the next token, and how many there are in all.

        Raises:
            InvalidInput: an unknown status.
            NotFound: no such campaign.
        """
        if status and status not in set(LabelStatus):
            raise InvalidInput(
                f"status {status!r} is none of {', '.join(LabelStatus)}", field="status", reason="UNKNOWN_STATUS"
            )
        limit = page_size(size, 1000, 10_000)
        campaign = self._parts.store.get_campaign(campaign_id)
        listing = f"labels:{campaign.campaign_id}:{status}:{include_seeds}"
        after = text_of(token, listing)
        labels = self._parts.store.list_labels(campaign.campaign_id, status, include_seeds, after, limit)
        total = self._parts.store.count_labels(campaign.campaign_id, status, include_seeds)
        return labels, token_after(listing, labels[-1].image_id) if len(labels) == limit else "", total


def _conflicts(given: Sequence[GivenLabel], several: Sequence[tuple[int, tuple[str, ...]]]) -> list[RefusedLabel]:
    words = "; ".join(f"{given[index].image} is {', '.join(labels)}" for index, labels in several[:5])
    error = InvalidInput(
        f"the same image is labeled in different ways: {words}",
        field="labels",
        reason="CONFLICTING_LABELS",
        fix="keep one of them, or say that images may carry several labels",
    )
    return [RefusedLabel(index, given[index].image, error) for index, _ in several]
