# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of the images that failed: told one by one, and all of them listed in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO

from gandt.cli.image_files import short
from gandt.cli.output import Output
from gandt.domain.errors import GandtError

TOLD = 100  # then the file alone has them


class Failures:
    """Counts failures, warns of the first ones and writes each as a line `{image, reason, message}`.

    Args:
        path: the list; it is written anew with the first failure, and there is none without any. None writes none.
    """

    def __init__(self, out: Output, path: Path | None) -> None:
        self._out, self.path = out, path
        self._file: IO[str] | None = None
        self.count = 0
        self.first: list[dict[str, str]] = []
        if path is not None and path.is_file():
            path.unlink()

    def tell(self, image: str, error: GandtError) -> None:
        """Notes that an image, or a file or folder of a listing, failed and why."""
        self.count += 1
        row = {"image": image, "reason": error.reason, "message": str(error)}
        if self.count <= TOLD:
            self.first.append(row)
            self._out.warn(f"{short(image)}: {error.reason}: {error}")
        elif self.count == TOLD + 1:
            self._out.warn(f"more than {TOLD} failed; all are listed in {self.path}")
        if self.path is None:
            return
        if self._file is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("w", encoding="utf-8", errors="backslashreplace", buffering=1)
            except OSError as failure:
                raise GandtError(
                    f"{self.path} cannot be written: {failure.strerror}",
                    reason="CANNOT_WRITE",
                    fix="choose another place with -o, or free the disk",
                ) from failure
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Ends the list."""
        if self._file is not None:
            self._file.close()
