# SPDX-License-Identifier: GPL-3.0-or-later
"""`gandt embed` as a user runs it: exit codes, what it lists, and a run that is killed and started again."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gandt.adapters.local_files import LocalFiles
from gandt.cli.main import main
from gandt.tables.vector_parts import VectorParts
from gandt.tables.vectors import iter_vectors, read_vectors


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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "v.parquet", "v.parquet.failed.jsonl"]
    assert said["failures"] == "v.parquet.failed.jsonl"
    listed = [json.loads(line) for line in Path("v.parquet.failed.jsonl").read_text().splitlines()]
    assert listed == said["errors"]
    for row in listed:
        (photos / row["image"]).unlink()
    assert main(["embed", str(photos), "-o", "v.parquet", "--quiet"]) == 0
    assert not Path("v.parquet.failed.jsonl").exists()


def test_of_many_broken_images_all_are_listed_and_some_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    good = png(1)
    for n in range(3000):
        (photos / f"{n:04}.png").write_bytes(good if n % 20 else good[: len(good) // 2])
    assert main(["embed", "photos", "-o", "vectors", "--json"]) == 4
    said, stderr = summary(capsys)
    assert (said["images"], said["embedded"], said["failed"], len(said["errors"])) == (3000, 2850, 150, 100)
    assert stderr.count("IMAGE_TRUNCATED") == 100
    assert "more than 100 failed; all are listed in vectors/failed.jsonl" in stderr
    listed = {json.loads(line)["image"] for line in Path("vectors/failed.jsonl").read_text().splitlines()}
    assert listed == {f"{n:04}.png" for n in range(0, 3000, 20)}
    assert embedded("vectors").keys() == {f"{n:04}.png" for n in range(3000)} - listed


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


def embedded(folder: str) -> dict[str, bytes]:
    """The vectors of a folder of parts, each image once."""
    pairs = [
        (image, vector.tobytes())
        for block in iter_vectors(folder)
        for image, vector in zip(block.ids, block.matrix, strict=True)
    ]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def test_shards_together_are_the_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    names = [f"photos/{n}.png" for n in range(30)]
    for n, name in enumerate(names):
        Path(name).write_bytes(png(n))
    Path("list.txt").write_text("\n".join(names))
    for i in range(4):
        assert main(["embed", "--manifest", "list.txt", "-o", "vectors", "--shard", f"{i}/4", "--quiet"]) == 0
    assert embedded("vectors").keys() == set(names)
    assert main(["embed", "photos/0.png", "-o", "one", "--shard", "0/1000", "--json"]) == 0  # not its shard
    assert summary(capsys)[0]["images"] == 0
    assert not Path("one").exists()


# Small parts, so that the first is written long before the end.
_PROGRAM = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"  # a background shell ignores it
    "import gandt.tables.vector_parts as p, sys; p.PART_ROWS = 20; from gandt.cli.main import main;"
    "sys.exit(main(['embed', 'photos', '-o', sys.argv[1], '--quiet']))"
)


def end_in_the_middle(output: str, folder: Path, parts: int, sign: signal.Signals) -> int:
    """Starts a run, sends the signal once it has so many parts, and returns its exit status."""
    process = subprocess.Popen([sys.executable, "-c", _PROGRAM, output], stderr=subprocess.DEVNULL)
    ends_at = time.monotonic() + 120
    while len(list(folder.glob("part-*.parquet"))) < parts and process.poll() is None:
        assert time.monotonic() < ends_at
        time.sleep(0.005)
    process.send_signal(sign)
    return process.wait()


@pytest.mark.parametrize(
    ("output", "folder", "kills"),
    [
        ("v.parquet", "v.parquet.parts", 2),
        ("vectors", "vectors", 2),
        ("s3://bucket/runs/1", "objects/bucket/runs/1", 1),
    ],
)
def test_killed_at_random_places_a_run_loses_and_doubles_nothing(
    output: str,
    folder: str,
    kills: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GANDT_EMBEDDING__OBJECTS", str(tmp_path / "objects"))
    (tmp_path / "objects" / "bucket").mkdir(parents=True)
    photos, place = tmp_path / "photos", Path(folder)
    photos.mkdir()
    names = [f"{n:03}.png" for n in range(600)]
    for n, name in enumerate(names):
        (photos / name).write_bytes(png(n, 4))
    random, parts = np.random.default_rng(5), 0
    for _ in range(kills):
        parts += int(random.integers(1, 8))
        assert end_in_the_middle(output, place, parts, signal.SIGKILL) == -signal.SIGKILL, "it was done before"
        parts = len(list(place.glob("part-*.parquet")))
    saved = len(embedded(folder))
    assert 0 < saved < len(names)
    assert main(["embed", "photos", "-o", output, "--json"]) == 0
    said, stderr = summary(capsys)
    assert (said["embedded"], said["resumed"]) == (len(names), saved)
    assert f"going on: {saved} of {len(names)}" in stderr
    assert main(["embed", "photos", "-o", "again.parquet", "--quiet"]) == 0
    whole = read_vectors("again.parquet")
    assert list(whole.ids) == names
    if output.endswith(".parquet"):
        resumed = read_vectors(output)
        assert list(resumed.ids) == names
        np.testing.assert_array_equal(whole.matrix, resumed.matrix)
        assert not place.exists()
    else:
        assert embedded(folder) == {n: row.tobytes() for n, row in zip(whole.ids, whole.matrix, strict=True)}


def test_a_second_run_is_refused_and_leaves_the_first_one_s_list_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("photos").mkdir()
    for name, data in (("good.png", png(1)), ("bad.png", b"no image")):
        Path("photos", name).write_bytes(data)
    Path("photos", "gone.png").symlink_to("nowhere.png")
    with VectorParts("vectors", "m", 3):  # as the first run has it
        Path("vectors", "failed.jsonl").write_text("of the first run")
        assert main(["embed", "photos", "-o", "vectors"]) != 0
        assert "OUTPUT_IN_USE" in capsys.readouterr().err
        assert Path("vectors", "failed.jsonl").read_text() == "of the first run"
    assert main(["embed", "photos", "-o", "vectors"]) == 4
    listed = [json.loads(line)["image"] for line in Path("vectors", "failed.jsonl").read_text().splitlines()]
    assert [Path(name).name for name in listed] == ["gone.png", "bad.png"]


def test_ctrl_c_saves_what_was_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    for n in range(3000):  # enough to be in the middle however slow this process is to see the second part
        (tmp_path / "photos" / f"{n:04}.png").write_bytes(png(n, 4))
    assert end_in_the_middle("vectors", Path("vectors"), 2, signal.SIGINT) == 130
    saved = len(embedded("vectors"))
    assert 40 <= saved < 3000
    assert main(["embed", "photos", "-o", "vectors", "--json"]) == 0
    assert summary(capsys)[0]["resumed"] == saved


def test_images_of_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANDT_EMBEDDING__OBJECTS", str(tmp_path / "objects"))
    store = LocalFiles(tmp_path / "objects")
    for n in range(20):
        store.put(f"s3://bucket/photos/{n}.png", png(n))
    assert main(["embed", "s3://bucket/photos", "-o", "v.parquet", "--quiet"]) == 0
    assert set(read_vectors("v.parquet").ids) == {f"{n}.png" for n in range(20)}
    Path("list.txt").write_text("s3://bucket/photos/1.png\ns3://bucket/photos/gone.png\n")
    assert main(["embed", "--manifest", "list.txt", "-o", "w.parquet", "--quiet"]) == 4
    assert list(read_vectors("w.parquet").ids) == ["s3://bucket/photos/1.png"]
    assert "NOT_FOUND" in Path("w.parquet.failed.jsonl").read_text()


def test_an_object_store_takes_the_parts_and_the_list_of_failures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANDT_EMBEDDING__OBJECTS", str(tmp_path / "objects"))
    store = LocalFiles(tmp_path / "objects")
    for n in range(20):
        store.put(f"s3://bucket/photos/{n}.png", png(n))
    store.put("s3://bucket/photos/cut.png", png(1)[:100])
    command = ["embed", "s3://bucket/photos", "-o", "s3://bucket/vectors/"]
    assert main([*command, "--dry-run", "--quiet"]) == 0
    assert not list(store.list("s3://bucket/vectors/"))
    ends = [main([*command, "--shard", f"{i}/3", "--quiet"]) for i in range(3)]
    assert sorted(ends) == [0, 0, 4]
    lists = [info.uri for info in store.list("s3://bucket/vectors/failed")]
    assert lists == [f"s3://bucket/vectors/failed-{ends.index(4)}of3.jsonl"]
    assert json.loads(store.get(lists[0]))["image"] == "cut.png"
    assert embedded("objects/bucket/vectors").keys() == {f"{n}.png" for n in range(20)}
    store.put("s3://bucket/photos/cut.png", png(50))
    capsys.readouterr()
    assert main([*command, "--shard", f"{ends.index(4)}/3", "--json"]) == 0
    said, _ = summary(capsys)
    assert said["embedded"] == said["resumed"] + 1
    assert not list(store.list("s3://bucket/vectors/failed"))
    for place in ("s3://bucket", "s3://bucket/v.parquet"):
        assert main(["embed", "s3://bucket/photos", "-o", place]) == 2
        assert "UNKNOWN_FORMAT" in capsys.readouterr().err
