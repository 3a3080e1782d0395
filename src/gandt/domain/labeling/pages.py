# SPDX-License-Identifier: GPL-3.0-or-later
"""Which images stand on a page together, and where gold stands among them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from gandt.domain.errors import InvalidInput

T = TypeVar("T")


def pack_pages(items: Sequence[T], group_size: int) -> list[list[T]]:
    """Items dealt onto as few pages as `group_size` allows: item i goes to page `i % number of pages`.

    So the sizes of two pages differ by at most one, and neighbors in the list (a burst of photos) are apart.

    Raises:
        InvalidInput: `group_size` is below 1.
    Source:
        The original project's `prepare_data.prepare_manifest`.
    """
    if group_size < 1:
        raise InvalidInput(
            f"a group size of {group_size} holds no image", field="group_size", reason="BAD_GROUP_SIZE", fix="use 20"
        )
    count = -(-len(items) // group_size)
    return [list(items[page::count]) for page in range(count)]


def mix_gold(pages: Sequence[Sequence[T]], gold: Sequence[T], per_page: int, rng: random.Random) -> list[list[T]]:
    """Every page with `per_page` gold tiles at random places; no gold tile twice on a page.

    Gold is dealt from a shuffled pack that is shuffled anew when it is used up, so its tiles come equally often.

    Args:
        per_page: gold tiles a page; at most all of `gold` that the page does not show anyway.
        rng: the randomness; the same state gives the same pages.
    """
    pack: list[T] = []
    mixed = []
    for page in pages:
        tiles, drawn = list(page), 0
        aside: list[T] = []  # on this page already: stays in the pack for the next one
        for _ in range(2 * len(gold)):
            if drawn == per_page:
                break
            if not pack:
                pack = rng.sample(list(gold), len(gold))
            tile = pack.pop()
            if tile in tiles:
                aside.append(tile)
                continue
            tiles.insert(rng.randint(0, len(tiles)), tile)
            drawn += 1
        pack.extend(aside)
        mixed.append(tiles)
    return mixed
