# SPDX-License-Identifier: GPL-3.0-or-later
"""Advice about a name that nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

SHARE = 0.5  # of a name that must agree


def nearest_name(name: str, known: Iterable[str]) -> str:
    """What to do about a name that nobody knows: the nearest known one, or all of them in their order.

    >>> nearest_name("clases", ["name", "classes"])
    'did you mean classes?'
    >>> nearest_name("x", ["name", "classes"])
    'use one of name, classes'
    """
    names = list(known)
    near = difflib.get_close_matches(name, sorted(names), 1, SHARE)
    return f"did you mean {near[0]}?" if near else f"use one of {', '.join(names)}"
