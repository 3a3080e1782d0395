# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of the images that failed: told one by one, and all of them listed in a file."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import IO

from gandt.cli.image_files import short
from gandt.cli.output import Output
from gandt.domain.errors import GandtError
from gandt.ports.object_store import ObjectStore

TOLD = 100  # then the file alone has them


class Failures:
    """Counts failures, warns of the first ones and writes each as a line `{image, reason, message}`.

    Nothing is written before `begin`: until the output is ours, the list there may be of a run under way.

    Args:
        path: the list; it is written anew with the first failure, and there is none without any. None writes none.
        objects: the store of an `s3://` path; the list is put there when it is closed.
    """

    def __init__(self, out: Output, path: Path | str | None, objects: ObjectStore | None = None) -> None:
        self._out, self.path, self._objects = out, path, objects
        self._file: IO[str] | None = None
        self.count = 0
        self.first: list[dict[str, str]] = []
        self._early: list[str] | None = []  # lines of before `begin`

    def begin(self) -> None:
        """The output is ours: the last run's list goes, and what was told so far is written."""
        lines, self._early = self._early or [], None
        if self._objects is not None:
            self._objects.delete(str(self.path))
        elif self.path is not None and Path(self.path).is_file():
            Path(self.path).unlink()
        if self.count > TOLD:
            self._say_where()
        for line in lines:
            self._write(line)

    def tell(self, image: str, error: GandtError) -> None:
        """Notes that an image, or a file or folder of a listing, failed and why."""
        self.count += 1
        row = {"image": image, "reason": error.reason, "message": str(error)}
        if self.count <= TOLD:
            self.first.append(row)
            self._out.warn(f"{short(image)}: {error.reason}: {error}")
        elif self.count == TOLD + 1 and self._early is None:
            self._say_where()
        self._write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Ends the list."""
        if self._file is None or self._file.closed:
            return
        if self._objects is not None:
            self._file.seek(0)
            self._objects.put(str(self.path), self._file.read().encode(errors="backslashreplace"), "application/jsonl")
        self._file.close()

    def _say_where(self) -> None:
        if self.path is not None:
            self._out.warn(f"more than {TOLD} failed; all are listed in {self.path}")

    def _write(self, line: str) -> None:
        if self.path is None:
            return
        if self._early is not None:
            self._early.append(line)
            return
        if self._file is None:
            self._file = self._opened(self.path)
        self._file.write(line)

    def _opened(self, path: Path | str) -> IO[str]:
        try:
            if self._objects is not None:
                return tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace", prefix="gandt-")
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            return Path(path).open("w", encoding="utf-8", errors="backslashreplace", buffering=1)
        except OSError as failure:
            raise GandtError(
                f"{path} cannot be written: {failure.strerror}",
                reason="CANNOT_WRITE",
                fix="choose another place with -o, or free the disk",
            ) from failure
