# SPDX-License-Identifier: GPL-3.0-or-later
"""`gandt embed` on files: which images it finds, how it goes on after an end, what it says of bad ones."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from gandt.cli.image_files import find_images, shard
from gandt.domain.errors import GandtError, InvalidInput, NotFound, WrongState
from gandt.tables.vector_parts import VectorParts
from gandt.tables.vectors import read_vectors
from tests.unit.refused_places import refused


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name in (
        "b/1.jpg",
        "a/1.JPG",
        "c.png",
        "a/deep/er.webp",
        "notes.txt",
        ".hidden/x.jpg",
        "a/.DS_Store.jpg",
        "p.heic",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def no_refusal(path: str, error: GandtError) -> None:
    raise AssertionError(f"{path}: {error}")


def names(*paths: Path | str) -> list[str]:
    return [image.image for image in find_images(map(str, paths), no_refusal)]


def test_images_are_named_by_their_path_in_the_folder(photos: Path) -> None:
    assert names(photos) == ["a/1.JPG", "a/deep/er.webp", "b/1.jpg", "c.png", "p.heic"]
    assert names(photos / "a", photos / "c.png") == [str(photos / "c.png"), "1.JPG", "deep/er.webp"]
    assert names(photos / "notes.txt") == [str(photos / "notes.txt")]  # named itself, so it is meant
    assert names(photos, photos) == names(photos)


def test_two_files_of_one_name_are_refused(photos: Path) -> None:
    (photos / "b" / "1.JPG").write_bytes(b"another")
    with pytest.raises(InvalidInput) as caught:
        names(photos / "a", photos / "b")
    assert caught.value.reason == "SAME_NAME"


def test_what_cannot_be_read_is_told_and_the_rest_is_found(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for name, target in (("gone.png", "no.png"), ("loop.png", "loop.png"), ("out", tmp_path / "elsewhere")):
        (photos / name).symlink_to(target)
    (photos / "again").symlink_to(photos / "a")
    os.mkfifo(photos / "pipe.jpg")
    Path(os.fsdecode(os.fsencode(photos) + b"/caf\xe9.jpg")).write_bytes(b"1")
    told: dict[str, GandtError] = {}
    with refused(photos / "b"):
        found = find_images([str(photos)], told.__setitem__)
    assert [image.image for image in found] == ["a/1.JPG", "a/deep/er.webp", "c.png", "p.heic"]
    assert {name.removeprefix(f"{photos}/"): error.reason for name, error in told.items()} == {
        "b": "CANNOT_READ",
        "gone.png": "BROKEN_LINK",
        "loop.png": "BROKEN_LINK",
        "out": "LINK_OUT_OF_FOLDER",
        "pipe.jpg": "NOT_A_FILE",
        "caf\\xe9.jpg": "FILE_NAME",
    }
    assert all(error.fix and name in error.message for name, error in told.items())


def test_when_nothing_can_be_read_that_is_the_error(photos: Path) -> None:
    with refused(photos), pytest.raises(GandtError) as caught:
        find_images([str(photos)], lambda path, error: None)
    assert caught.value.reason == "NOTHING_READABLE"
    os.mkfifo(photos / "pipe")
    with pytest.raises(InvalidInput):  # named itself; reading it would wait forever
        names(photos / "pipe")


def test_nothing_to_find(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(GandtError) as caught:
        names(tmp_path / "empty")
    assert caught.value.reason == "NOTHING_TO_DO"
    with pytest.raises(NotFound):
        names(photos / "nowhere")


def test_shards_cover_everything_once(photos: Path) -> None:
    images = find_images([str(photos)], no_refusal)
    parts = [shard(images, f"{i}/3") for i in range(3)]
    assert sorted(image.image for part in parts for image in part) == names(photos)
    for wrong in ("3/3", "-1/3", "1", "a/b", "0/0", "1/2/3"):
        with pytest.raises(InvalidInput):
            shard(images, wrong)


def row(value: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.full(3, value, np.float32)


def test_parts_survive_and_are_joined_in_order(tmp_path: Path) -> None:
    output = str(tmp_path / "v.parquet")
    with VectorParts(output, "m-1", 3) as parts:
        for n in (3, 1, 2):
            parts.add(f"i{n}", row(n))
    assert not Path(output).exists()
    with VectorParts(output, "m-1", 3) as parts:
        assert [parts.has(f"i{n}", 0.0) for n in range(5)] == [False, True, True, True, False]
        parts.add("i0", row(0))
        assert parts.finish(["i0", "i1", "i2", "i3", "never"]) == 4
    vectors = read_vectors(output)
    assert list(vectors.ids) == ["i0", "i1", "i2", "i3"]
    assert vectors.matrix[:, 0].tolist() == [0, 1, 2, 3]
    assert vectors.model_id == "m-1"
    assert [path.name for path in tmp_path.iterdir()] == ["v.parquet"]


def test_parts_of_another_model_or_before_a_change_do_not_count(tmp_path: Path) -> None:
    output = str(tmp_path / "v.parquet")
    with VectorParts(output, "m-1", 3) as parts:
        parts.add("a", row(1))
        parts.flush()
        made = next(parts.folder.glob("part-*")).stat().st_mtime
        assert not parts.has("a", made + 1)
        assert parts.has("a", made - 1)
    with VectorParts(output, "m-2", 3) as parts:
        assert parts.foreign == 1
        assert not parts.has("a", 0.0)
    assert not list(tmp_path.iterdir())  # nothing was made: nothing is left


def test_an_image_that_was_made_again_has_its_new_vector(tmp_path: Path) -> None:
    output = str(tmp_path / "v.parquet")
    with VectorParts(output, "m", 3) as parts:
        parts.add("a", row(1))
        parts.flush()
        parts.add("a", row(2))
        parts.finish(["a"])
    assert read_vectors(output).matrix[0, 0] == 2


def test_two_processes_cannot_make_one_file(tmp_path: Path) -> None:
    output = str(tmp_path / "v.parquet")
    with VectorParts(output, "m", 3), pytest.raises(WrongState) as caught:
        VectorParts(output, "m", 3)
    assert caught.value.reason == "OUTPUT_IN_USE"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GandtError) as caught:
        VectorParts(str(tmp_path / "file" / "v.parquet"), "m", 3)
    assert caught.value.reason == "CANNOT_WRITE"
