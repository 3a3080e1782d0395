# SPDX-License-Identifier: GPL-3.0-or-later
"""The port for vectors by content that outlive the process. It is a cache: what it loses is computed again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class KeptVectors(Protocol):
    """Vectors of one model. Thread-safe; trouble is told in the log and never raised."""

    def get(self, key: bytes) -> NDArray[np.float32] | None:
        """f32[D], read-only, bit for bit what was put; or None."""
        ...

    def put(self, rows: Sequence[tuple[bytes, NDArray[np.float32]]]) -> None:
        """Keeps some vectors by their content's hash."""
        ...

    def close(self) -> None:
        """Frees its file."""
        ...
