# SPDX-License-Identifier: GPL-3.0-or-later
"""`gandt embed` as a user runs it: exit codes, what it lists, and a run that is killed and started again."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gandt.cli.main import main
from gandt.tables.vectors import read_vectors


def png(seed: int, side: int = 8) -> bytes:
    data = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GANDT_EMBEDDING__TORCH_THREADS", "1")
    monkeypatch.chdir(tmp_path)


def summary(capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    captured = capsys.readouterr()
    return json.loads(captured.out) if captured.out else {}, captured.err


def test_bad_images_are_listed_and_the_rest_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = tmp_path / "photos"
    (photos / "x").mkdir(parents=True)
    for n in range(40):
        (photos / "x" / f"{n}.png").write_bytes(png(n))
    (photos / "cut.png").write_bytes(png(1)[:100])
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 40)
    assert main(["embed", str(photos), "-o", "v.parquet", "--json"]) == 4
    said, stderr = summary(capsys)
    assert (said["images"], said["embedded"], said["failed"]) == (43, 40, 3)
    assert {e["image"]: e["reason"] for e in said["errors"]} == {
        "cut.png": "IMAGE_TRUNCATED",
        "empty.jpg": "IMAGE_EMPTY",
        "phone.heic": "IMAGE_FORMAT_UNSUPPORTED",
    }
    assert "cut.png: IMAGE_TRUNCATED" in stderr
    assert "convert it to JPEG" in stderr
    assert "sees outlines only" in stderr
    vectors = read_vectors("v.parquet")
    assert list(vectors.ids) == sorted(f"x/{n}.png" for n in range(40))
    assert vectors.model_id == said["model_id"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "v.parquet"]


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["empty", "-o", "v.parquet"], 3, "NOTHING_TO_DO"),
        (["nowhere", "-o", "v.parquet"], 2, "PATH_NOT_FOUND"),
        (["photos"], 2, "-o vectors.parquet"),
        (["photos", "-o", "v.csv"], 2, "UNKNOWN_FORMAT"),
        (["photos", "-o", "v.parquet", "--shard", "3"], 2, "BAD_SHARD"),
        (["photos", "-o", "v.parquet", "--model", "resnet50"], 2, "NO_WEIGHTS"),
        (["photos", "-o", "v.parquet", "--model", "resnet5O", "--weights", "DEFAULT"], 2, "UNKNOWN_MODEL"),
        (["photos", "-o", "v.parquet", "--weights", "w.safetensors"], 2, "MODEL_NOT_NAMED"),
        (["photos", "-o", "v.parquet", "--model", "resnet50", "--weights", "w.pth"], 2, "WEIGHTS_NOT_FOUND"),
        (["broken", "-o", "v.parquet"], 1, "NOTHING_EMBEDDED"),
        (["--model", "hog"], 2, "no PATH is given"),
    ],
)
def test_exit_codes(
    arguments: list[str], code: int, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("empty", "photos", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "photos" / "1.png").write_bytes(png(1))
    (tmp_path / "broken" / "1.png").write_bytes(b"x")
    assert main(["embed", *arguments]) == code
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "v.parquet").exists()
    assert not (tmp_path / "v.parquet.parts").exists()


def test_shards_together_are_the_whole(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for n in range(7):
        (tmp_path / "photos" / f"{n}.png").write_bytes(png(n))
    for i in range(2):
        assert main(["embed", "photos", "-o", f"{i}.parquet", "--shard", f"{i}/2", "--quiet"]) == 0
    ids = [set(read_vectors(f"{i}.parquet").ids) for i in range(2)]
    assert ids[0] | ids[1] == {f"{n}.png" for n in range(7)}
    assert not ids[0] & ids[1]


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    total = 600
    for n in range(total):
        (photos / f"{n:03}.png").write_bytes(png(n, 4))
    # Small parts, so that the first is written long before the end.
    program = (
        "import gandt.tables.vector_parts as p, sys; p.PART_ROWS = 20; from gandt.cli.main import main;"
        "sys.exit(main(['embed', 'photos', '-o', 'v.parquet']))"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL, env=dict(os.environ))
    parts = tmp_path / "v.parquet.parts"
    ends_at = time.monotonic() + 90
    while len(list(parts.glob("part-*.parquet"))) < 2 and process.poll() is None:
        assert time.monotonic() < ends_at
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was done before it could be killed"
    assert not (tmp_path / "v.parquet").exists()
    saved = sum(len(read_vectors(str(part)).ids) for part in parts.glob("part-*.parquet"))
    assert main(["embed", "photos", "-o", "v.parquet", "--json"]) == 0
    said, stderr = summary(capsys)
    assert said["embedded"] == total
    assert said["resumed"] == saved
    assert 0 < saved < total
    assert f"going on: {saved} of {total}" in stderr
    resumed = read_vectors("v.parquet")
    assert list(resumed.ids) == [f"{n:03}.png" for n in range(total)]
    assert main(["embed", "photos", "-o", "again.parquet", "--quiet"]) == 0
    np.testing.assert_array_equal(read_vectors("again.parquet").matrix, resumed.matrix)
    assert not parts.exists()
