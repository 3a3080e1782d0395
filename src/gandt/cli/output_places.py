# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuses a command whose output would take the place of what it reads, or of its other output.

Asked once for every verb, before it does anything: a table is renamed into its place, so what stood there is gone.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from gandt.domain.errors import InvalidInput

# Which of the verbs' flags name files; a test holds this against the flags that there are.
OUTPUTS = ("output", "gold_out", "workers_out", "relabel_out", "audit_out", "plan_out", "state")
INPUTS = (
    "config",
    "answers",
    "audit",
    "decide",
    "exclude",
    "file",
    "gold",
    "groups",
    "images",
    "instructions",
    "labeled",
    "labels",
    "manifest",
    "model_probabilities",
    "paths",
    "place",
    "previous",
    "seed_labels",
    "sources",
    "table",
    "truth",
    "vectors",
    "weights",
    "weights_config",
)
# The file that a verb writes beside its output, by the suffix that it changes.
_BESIDE = {"report": ".json", "run": ".json", "model": ".bin"}


def check_outputs(verb: str, args: argparse.Namespace) -> None:
    """Refuse an output that is also an input, or that two outputs share; links are followed.

    Raises:
        InvalidInput: OUTPUT_IS_INPUT or OUTPUT_TWICE; names the place.
    """
    inputs = [place for place in _inputs(args) if not Path(place).is_dir()]
    outputs: list[tuple[str, str]] = []
    for flag, place in _outputs(verb, args):
        for read in inputs:
            if _same(place, read):
                also = "" if place == read else f", as {read}"
                raise InvalidInput(
                    f"the output {place} is also an input{also}; it would be overwritten",
                    field="output",
                    reason="OUTPUT_IS_INPUT",
                    fix="name another file to write",
                )
        for other, written in outputs:
            if _same(place, written):
                raise InvalidInput(
                    f"{other} and {flag} both write {'to stdout' if place == '-' else place}",
                    field="output",
                    reason="OUTPUT_TWICE",
                    fix="name a file for each",
                )
        outputs.append((flag, place))


def _inputs(args: argparse.Namespace) -> Iterator[str]:
    for name in INPUTS:
        given = getattr(args, name, None)
        for place in given if isinstance(given, list) else [given]:
            if name == "instructions" and place:  # a text, or a file after an @
                place = place[1:] if place.startswith("@") else ""
            if place and place != "-":
                yield place
    if not args.config:
        yield str(Path(args.project) / "gandt.toml")


def _outputs(verb: str, args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """(flag, place) of each."""
    for name in OUTPUTS:
        place = getattr(args, name, None)
        if name == "output" and not place and verb == "aggregate" and args.answers and not args.json:
            place = "-"
        if not place:
            continue
        flag = f"--{name.replace('_', '-')}"
        yield flag, place
        if name == "output" and verb in _BESIDE and Path(place).name:
            beside = str(Path(place).with_suffix(_BESIDE[verb]))
            yield f"what stands beside {flag}", beside


def _same(one: str, other: str) -> bool:
    """Whether two places are one file; for those that are not there yet, whether they would be."""
    if "-" in (one, other) or "://" in one or "://" in other:
        return one == other
    try:
        return os.path.samefile(one, other)  # noqa: PTH121  one of them may be no path at all
    except (OSError, ValueError):
        return os.path.realpath(one) == os.path.realpath(other)
