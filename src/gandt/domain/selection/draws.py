# SPDX-License-Identifier: GPL-3.0-or-later
"""Randomness of selection: counter-based, keyed by seed, round and purpose, with no global state.

The same request draws the same images on every machine, whatever order or blocks the pool came in, because positions
always refer to ids in ascending order. Each purpose has a stream of its own, so a change in one never moves another.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

_MASK = 2**64 - 1


class Stream(IntEnum):
    """What randomness is for."""

    CONTROL = 1
    RANDOM = 2
    SAMPLE = 3
    LANDMARKS = 4
    CANDIDATES = 5
    REPLAY = 6
    AUDIT = 7


def generator(seed: int, round_number: int, stream: Stream) -> np.random.Generator:
    """A generator of its own for one purpose in one round; `seed` is taken modulo 2**64."""
    # A Philox key is two 64-bit words; a round has 2**56 numbers to itself.
    key = np.array([seed & _MASK, (round_number << 8 | stream) & _MASK], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))
