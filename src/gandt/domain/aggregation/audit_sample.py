# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit's sample: settled images in an order that only their ids and a seed decide, and what judgments of it prove.

The order is uniform, and the same in every call, so that an expert can go on judging while answers come in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gandt.domain.aggregation.audit import error_bounds, judgments_needed
from gandt.domain.aggregation.records import counted
from gandt.domain.aggregation.trust import Audit

ALPHA = 0.05
EXPECTED = 0.4  # of the target: the share of wrong labels that the second price supposes

Judged = Mapping[str, Sequence[str]]
"""An expert's labels by image."""


def draw_order(images: Sequence[str], seed: int) -> NDArray[np.int64]:
    """i64[N]: numbers of the images in the order in which they are drawn."""
    key = seed.to_bytes(8, "little")
    draws = [hashlib.blake2b(name.encode(), digest_size=8, key=key, person=b"audit").digest() for name in images]
    # two images with one digest would still come in one order, by their ids
    return np.array(sorted(range(len(images)), key=lambda i: (draws[i], images[i])), np.int64)


def price(target: float) -> tuple[int, int, float]:
    """Judgments that bound the wrong labels by `target` when none is wrong, and when a share is; and that share.

    Raises:
        InvalidInput: the target is so small that millions of judgments would be needed.
    """
    expected = EXPECTED * target
    return judgments_needed(target, 0.0, ALPHA), judgments_needed(target, expected, ALPHA), expected


def audited(
    images: Sequence[str], labels: Sequence[Sequence[str]], order: NDArray[np.int64], judged: Judged, target: float
) -> Audit:
    """What the judgments prove of the labels of settled images.

    Only judgments from the begin of the order up to the first image without one count: were hard images skipped, the
    rest would be no uniform sample.

    Args:
        images, labels: of all settled images.
        order: from `draw_order`.
        judged: an expert's labels; of other images they do no harm.
        target: share of wrong labels to be bounded.
    Raises:
        InvalidInput: the target is so small that millions of judgments would be needed.
    """
    wrong = [set(judged[images[i]]) != set(labels[i]) for i in order[: _unbroken(images, order, judged)].tolist()]
    none_wrong, some_wrong, expected = price(target)
    bound = float(error_bounds(wrong, ALPHA)[-1]) if wrong else 1.0
    if len(wrong) == len(images):
        bound = sum(wrong) / len(images) if len(images) else 0.0  # all were judged: this is no estimate any more
    return Audit(
        settled=len(images),
        judged=len(wrong),
        wrong=sum(wrong),
        error_bound=bound,
        confidence=1 - ALPHA,
        target=target,
        if_none_wrong=min(none_wrong, len(images)),
        if_some_wrong=min(some_wrong, len(images)),
        expected_share=expected,
    )


def spoken(judged: Judged, several: bool) -> Judged:
    """The judgments that say something: where an image has one label, an empty one is not judged yet.

    Args:
        several: whether an image may carry several labels; an empty judgment then means none of them.
    """
    return judged if several else {image: labels for image, labels in judged.items() if labels}


def unheard(judged: Judged, classes: Collection[str]) -> Iterator[str]:
    """A warning about judgments with labels that no class has: they count as wrong labels, misspelled or not."""
    strange = [(image, label) for image, labels in judged.items() for label in labels if label not in classes]
    if strange:
        image, label = strange[0]
        yield (
            f"{counted(len({name for name, _ in strange}), 'judgment')} with a label that no class has, the first "
            f"{label!r} for image {image}: the labels of the images count as wrong; is it misspelled?"
        )


def uncounted(images: Sequence[str], order: NDArray[np.int64], judged: Judged) -> Iterator[str]:
    """Warnings about judgments that do not count."""
    if not judged:
        return
    counts = _unbroken(images, order, judged)
    settled = set(images)
    outside = sum(image not in settled for image in judged)
    late = len(judged) - outside - counts
    if outside:
        yield f"{counted(outside, 'judgment')} of images that are not settled (now) not counted"
    if late:
        first = images[int(order[counts])]
        yield f"{counted(late, 'judgment')} not counted: image {first}, which comes before, has none"


def _unbroken(images: Sequence[str], order: NDArray[np.int64], judged: Judged) -> int:
    for place, i in enumerate(order.tolist()):
        if images[i] not in judged:
            return place
    return len(order)
