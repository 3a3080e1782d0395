# SPDX-License-Identifier: GPL-3.0-or-later
"""The port for what draws are made from and what came of them: the record that a bound of recall rests on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from gandt.domain.selection.proof import Sampled


class DrawStore(Protocol):
    """Strata of the pool, and labeled picks by draw."""

    def arrivals(self, campaign_id: str, collection: str, outside: Collection[str]) -> dict[int, int]:
        """Embedded images that came after a campaign's first round, by stratum.

        A stratum is named by the number of the campaign's first round that had its images in the pool; what has come
        since the newest round belongs to the next one.

        Args:
            outside: images that are not in the pool (any more); they are not counted.
        """
        ...

    def strata(self, campaign_id: str, image_ids: Sequence[str]) -> dict[str, int]:
        """Stratum of each image that came after the campaign's first round; the others are not listed."""
        ...

    def samples(self, campaign_id: str) -> list[Sampled]:
        """Labeled picks of a campaign's aggregated rounds, by draw and stratum."""
        ...

    def unlabeled_picks(self, campaign_id: str) -> int:
        """Picks of rounds that ended without labels."""
        ...
