# SPDX-License-Identifier: GPL-3.0-or-later
"""The images of one run in the order of their names; beyond a certain number they lie in temporary files."""

from __future__ import annotations

import heapq
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gandt.domain.errors import InvalidInput

RUN_IMAGES = 100_000  # held and sorted in memory, some 40 MB
S3 = "s3://"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image.

    Attributes:
        image: its name in tables: the path relative to the folder given, or as it was given.
        place: path of a file, or `s3://bucket/key`.
        version: changes whenever the file does; 0 when that is not known.
        size: bytes; 0 when that is not known.
    """

    image: str
    place: str
    version: int
    size: int


class ImageList:
    """An ordered list without repetitions that can be walked any number of times; close it to free its files.

    Args:
        images: in any order. The same file may come twice.
        run_images: how many are held in memory.
    Raises:
        InvalidInput: SAME_NAME, two files would get the same name.
    """

    def __init__(self, images: Iterable[ImageFile], run_images: int = RUN_IMAGES) -> None:
        self._files: list[IO[str]] = []
        self._last: list[ImageFile] = []
        for image in images:
            self._last.append(image)
            if len(self._last) >= run_images:
                self._spill()
        self._last.sort(key=_order)
        self._count = sum(1 for _ in self._checked())

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[ImageFile]:
        name = None
        for image in self._merged():
            if image.image != name:
                name = image.image
                yield image

    def close(self) -> None:
        """Frees the temporary files."""
        for file in self._files:
            file.close()

    def _spill(self) -> None:
        self._last.sort(key=_order)
        file = tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogateescape", prefix="gandt-")  # noqa: SIM115
        file.writelines(json.dumps([i.image, i.place, i.version, i.size]) + "\n" for i in self._last)
        self._files.append(file)
        self._last = []

    def _merged(self) -> Iterator[ImageFile]:
        return heapq.merge(*map(_read, self._files), self._last, key=_order)

    def _checked(self) -> Iterator[ImageFile]:
        """Those that count; of one name there may be one file alone."""
        before: ImageFile | None = None
        for image in self._merged():
            if before is None or image.image != before.image:
                before = image
                yield image
            elif not _is_same(before.place, image.place):
                raise InvalidInput(
                    f"{before.place} and {image.place} would both be named {image.image!r}",
                    field="PATH",
                    reason="SAME_NAME",
                    fix="give the folder that holds both",
                )


def _order(image: ImageFile) -> tuple[bytes, str]:
    return os.fsencode(image.image), image.place


def _read(file: IO[str]) -> Iterator[ImageFile]:
    """One reader of a file at a time: a list is walked by one caller."""
    file.seek(0)
    for line in iter(file.readline, ""):
        yield ImageFile(*json.loads(line))


def _is_same(one: str, other: str) -> bool:
    return one == other or (not one.startswith(S3) and not other.startswith(S3) and Path(one).samefile(other))
