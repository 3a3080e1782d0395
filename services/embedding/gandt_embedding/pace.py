# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the device takes for a batch, as measured lately, and so how long a queue will take. Pure arithmetic."""

from __future__ import annotations

# A measurement's share in the running mean. Slower ones count more: calls admitted in hope are computed for nobody.
_SLOWER_SHARE, _FASTER_SHARE = 0.5, 0.1
_OUTLIER = 3.0  # one stall (a paused machine) counts for no more than this many times the mean


class Pace:
    """Seconds a batch, one running mean for each power of two.

    A pace that was never measured is taken from the nearest size that was: a larger batch takes at least as long, a
    smaller one at least its share. Not thread-safe; `Admission` holds its lock.

    Args:
        max_batch: most images in a batch.

    Example:
        >>> pace = Pace(max_batch=8)
        >>> pace.note(8, 0.4)
        >>> round(pace.seconds(ahead=16, images=8), 2)
        1.6
    """

    def __init__(self, max_batch: int) -> None:
        self._max_batch = max_batch
        self._means: dict[int, float] = {}  # power of two -> seconds

    def note(self, images: int, seconds: float) -> None:
        """Takes in one batch."""
        size = _bucket(images)
        mean = self._means.get(size)
        if mean is None:
            self._means[size] = seconds
        else:
            share = _SLOWER_SHARE if seconds > mean else _FASTER_SHARE
            self._means[size] = mean + share * (min(seconds, _OUTLIER * mean) - mean)

    def seconds(self, ahead: int, images: int) -> float:
        """Until `images` more are done behind `ahead`; 0 as long as nothing was measured.

        Once the queue is longer than a batch, later arrivals may fill the last one up, so it counts as full, and one
        batch more stands for what nobody foresees.
        """
        total = ahead + images
        if total > self._max_batch:
            return (1 - (-total // self._max_batch)) * self._batch(self._max_batch)
        return (self._batch(ahead) if ahead else 0.0) + self._batch(images)

    def _batch(self, images: int) -> float:
        size = _bucket(images)
        known = self._means.get(size)
        if known is not None:
            return known
        bounds = (mean if other > size else mean * size / other for other, mean in self._means.items())
        return min(bounds, default=0.0)


def _bucket(images: int) -> int:
    """The smallest power of two that holds them."""
    return 1 << (images - 1).bit_length()
