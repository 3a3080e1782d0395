# SPDX-License-Identifier: GPL-3.0-or-later
"""What the CLI prints: data to stdout, everything else to stderr."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from gandt.domain.errors import GandtError

REDRAW_SECONDS = 0.1


class Output:
    """Prints results, progress, warnings and errors as the common flags ask.

    Args:
        as_json: print one summary object on stdout and nothing else there.
        color: color errors and warnings; only on a terminal and without NO_COLOR.
    """

    def __init__(self, as_json: bool = False, color: bool = True) -> None:
        self._terminal = sys.stderr.isatty()
        self.as_json, self.quiet, self.verbose = as_json, False, False
        self._progress = self._terminal
        self._color = color and self._terminal and "NO_COLOR" not in os.environ
        self._drawn, self._last, self._stage = False, 0.0, ""
        self.warnings: list[str] = []

    def configure(self, quiet: bool, verbose: bool, progress: bool) -> None:
        """Takes the flags that are known only once the verb is parsed."""
        self.quiet, self.verbose = quiet, verbose
        self._progress = progress and not quiet and self._terminal

    def summary(self, values: Mapping[str, Any], human: str = "") -> None:
        """The verb's one result: a JSON object on stdout with --json, else `human` (or the values) on stderr."""
        self.clear()
        if self.as_json:
            print(
                json.dumps({**values, "warnings": self.warnings}, default=str, ensure_ascii=False, allow_nan=False),
                file=sys.stdout,
                flush=True,
            )
        elif not self.quiet:
            self._line(
                human or ", ".join(f"{k.replace('_', ' ')} {shown(v)}" for k, v in values.items() if v is not None)
            )

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table for people on stdout (nothing with --json, where the summary carries the data)."""
        if self.as_json:
            return
        self.clear()
        cells = [list(columns), *[[shown(cell) for cell in row] for row in rows]]
        widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
        for row in cells:
            print(
                "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), file=sys.stdout
            )

    def note(self, text: str) -> None:
        """A line of what is going on."""
        if not self.quiet:
            self._line(text)

    def detail(self, text: str) -> None:
        """A line for --verbose."""
        if self.verbose:
            self._line(text)

    def warn(self, text: str) -> None:
        """A warning; it is also part of the --json summary."""
        self.warnings.append(text)
        self._line(self._paint("33", "warning") + f": {text}")

    def error(self, error: GandtError) -> None:
        """An error in at most four lines: what, why, what to do."""
        self._line(self._paint("31", "error") + f" {error.reason}: {error.message}")
        if error.fix:
            self._line(f"  fix: {error.fix}")

    @property
    def draws(self) -> bool:
        """Whether progress is drawn: on a terminal, unless it is turned off."""
        return self._progress

    def progress(self, stage: str, done: int, total: int = 0, more: str = "") -> None:
        """Draws how far a stage is; at most ten times a second, and at its end."""
        now = time.monotonic()
        ended = bool(total) and done >= total
        if not self._progress or (now - self._last < REDRAW_SECONDS and not ended and stage == self._stage):
            return
        self._last, self._stage, self._drawn = now, stage, True
        share = f" {100 * done // total:3d} %" if total else ""
        print(
            f"\r\x1b[K{stage} {done:,}{f' of {total:,}' if total else ''}{share}{more}",
            end="",
            file=sys.stderr,
            flush=True,
        )

    def clear(self) -> None:
        """Removes the progress line."""
        if self._drawn:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._drawn = False

    def _line(self, text: str) -> None:
        self.clear()
        print(text, file=sys.stderr, flush=True)

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._color else text


def shown(value: Any) -> str:
    """A cell for people: grouped integers, short floats, `-` for nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(str(part) for part in value)
    return str(value)


def usd(micros: int) -> str:
    """Money for people: `$1.20`, four digits where cents do not suffice."""
    sign, amount = ("-", -micros) if micros < 0 else ("", micros)
    digits = 2 if amount % 10_000 == 0 else 4
    return f"{sign}${amount / 1e6:,.{digits}f}"
