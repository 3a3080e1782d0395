# SPDX-License-Identifier: GPL-3.0-or-later
"""What the embedding benchmarks share: a real server in a process of its own, photos, and its CPU time."""

from __future__ import annotations

import contextlib
import io
import os
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _serving import serving as start
from PIL import Image

from gandt.client.embedding import EmbeddingClient

SHARED = Path(os.environ.get("GANDT_SHARED_DIR", Path(__file__).resolve().parents[2] / "shared"))
MOBILENET = SHARED / "weights" / "mobilenet_v2_coral_ptq_fp16.safetensors"
_TICKS = os.sysconf("SC_CLK_TCK")
_MOBILENET_DESCRIPTION = """\
classes = 1001
size = 224
scale = 127.5
mean = 1.0
std = 1.0
rotate180 = true
"""


@dataclass(frozen=True)
class Server:
    """A running embedding service."""

    client: EmbeddingClient
    address: str
    metrics_url: str
    pid: int

    def cpu_seconds(self) -> float:
        """Of the server alone, since its start; in steps of a hundredth."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_bytes(self) -> int:
        """Memory of the server now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def metric(self, line: str) -> float:
        """The value of one line of its metrics, by its beginning; 0 when it is not there."""
        with urllib.request.urlopen(self.metrics_url) as page:
            text = page.read().decode()
        return sum(float(row.rsplit(" ", 1)[1]) for row in text.splitlines() if row.startswith(line + " "))


@contextlib.contextmanager
def serving(folder: Path, processor: int | None = None, **settings: object) -> Iterator[Server]:
    """A new server with these settings, on one processor alone if wanted."""
    with start("embedding", folder, lambda c: EmbeddingClient(c).get_model(), processor, **settings) as running:
        client = EmbeddingClient(running.channel)
        yield Server(client, running.address, running.metrics_url, running.process.pid)


def mobilenet(folder: Path) -> dict[str, object]:
    """Settings of mobilenet_v2 in float32 with the shared weights, on one thread."""
    description = folder / "mobilenet.toml"
    description.write_text(_MOBILENET_DESCRIPTION)
    return {
        "model": "mobilenet_v2",
        "weights": MOBILENET,
        "weights_config": description,
        "engine": "eager",
        "device": "cpu",
        "torch_threads": 1,
    }


def photos(count: int, width: int = 640, height: int = 480, seed: int = 0) -> list[bytes]:
    """Different JPEGs of about 60 KB: smooth ground, edges and grain, quality 85."""
    rng = np.random.default_rng(seed)
    grain = rng.integers(-12, 13, (height, width, 1))
    images = []
    for _ in range(count):
        small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((width, height), 3)
        pixels = np.asarray(small).astype(np.int16) + np.roll(grain, int(rng.integers(height)), 0)
        left, top = rng.integers(0, width // 2), rng.integers(0, height // 2)
        pixels[top : top + height // 4, left : left + width // 4] //= 2
        data = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(data, "JPEG", quality=85)
        images.append(data.getvalue())
    return images
