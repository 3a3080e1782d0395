# SPDX-License-Identifier: GPL-3.0-or-later
"""`gandt embed` on files: which images it finds, how it goes on after an end, what it says of bad ones."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandt.adapters.memory_objects import MemoryObjects
from gandt.cli.image_files import find_images, parse_shard
from gandt.cli.image_list import ImageFile, ImageList
from gandt.domain.errors import CorruptData, GandtError, InvalidInput, NotFound, WrongState
from gandt.domain.vectors import VectorSet
from gandt.tables.vector_parts import VectorParts
from gandt.tables.vectors import iter_vectors, read_vectors
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
    def of(i: int) -> list[str]:
        return [image.image for image in find_images([str(photos)], no_refusal, shard=parse_shard(f"{i}/3"))]

    before = [of(i) for i in range(3)]
    assert sorted(image for part in before for image in part) == names(photos)
    (photos / "a" / "0.jpg").write_bytes(b"new")  # a new file moves no other one
    assert [[image for image in of(i) if image != "a/0.jpg"] for i in range(3)] == before
    for wrong in ("3/3", "-1/3", "1", "a/b", "0/0", "1/2/3"):
        with pytest.raises(InvalidInput):
            parse_shard(wrong)


def row(value: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.full(3, value, np.float32)


def versions(images: Iterable[str], version: int = 1) -> list[tuple[str, int]]:
    return [(image, version) for image in images]


def listing(folder: Path) -> dict[str, float]:
    """What lies in the parts of a folder, each image once."""
    found = [(image, float(vector[0])) for block in iter_vectors(str(folder)) for image, vector in rows(block)]
    assert len(dict(found)) == len(found)
    return dict(found)


def rows(block: VectorSet) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    return zip(block.ids, block.matrix, strict=True)


def test_parts_survive_and_are_joined_in_order(tmp_path: Path) -> None:
    output = str(tmp_path / "v.parquet")
    with VectorParts(output, "m-1", 3) as parts:
        for n in (3, 1, 2):
            parts.add(f"i{n}", 1, row(n))
    assert not Path(output).exists()
    with VectorParts(output, "m-1", 3) as parts:
        assert [parts.has(f"i{n}", 1) for n in range(5)] == [False, True, True, True, False]
        parts.add("i0", 1, row(0))
        assert parts.finish(versions(["i0", "i1", "i2", "i3", "never"])) == 4
    vectors = read_vectors(output)
    assert list(vectors.ids) == ["i0", "i1", "i2", "i3"]
    assert vectors.matrix[:, 0].tolist() == [0, 1, 2, 3]
    assert vectors.model_id == "m-1"
    assert [path.name for path in tmp_path.iterdir()] == ["v.parquet"]


def test_parts_of_another_model_or_version_do_not_count(tmp_path: Path) -> None:
    output = str(tmp_path / "v.parquet")
    with VectorParts(output, "m-1", 3) as parts:
        parts.add("a", 7, row(1))
    with VectorParts(output, "m-1", 3) as parts:
        assert parts.has("a", 7)
        assert not parts.has("a", 8)
    with VectorParts(output, "m-2", 3) as parts:
        assert parts.foreign == 1
        assert not parts.has("a", 7)
    assert not list(tmp_path.iterdir())  # nothing was made: nothing is left


def test_an_image_that_was_made_again_has_its_new_vector(tmp_path: Path) -> None:
    output = str(tmp_path / "v.parquet")
    with VectorParts(output, "m", 3) as parts:
        parts.add("a", 1, row(1))
        parts.flush()
        parts.add("a", 2, row(2))
        parts.finish([("a", 2)])
    assert read_vectors(output).matrix[0, 0] == 2


def test_a_folder_of_parts_grows_and_holds_each_image_once(tmp_path: Path) -> None:
    output = tmp_path / "vectors"
    for version, names_now in ((1, "abc"), (2, "cd"), (2, "cd")):
        with VectorParts(str(output), "m", 3) as parts:
            for n, name in enumerate(names_now):
                if not parts.has(name, version):
                    parts.add(name, version, row(10 * version + n))
                    parts.flush()
            assert parts.finish(versions(names_now, version)) == len(names_now)
    assert listing(output) == {"a": 10, "b": 11, "c": 20, "d": 21}
    assert [path.suffix for path in output.iterdir()] == [".parquet"]  # small parts were joined
    with pytest.raises(WrongState) as caught:
        VectorParts(str(output), "another", 3)
    assert caught.value.reason == "MODEL_MISMATCH"


def test_a_kill_while_parts_are_joined_leaves_nothing_twice(tmp_path: Path) -> None:
    output = tmp_path / "vectors"
    with VectorParts(str(output), "m", 3) as parts:
        for name in "ab":
            parts.add(name, 1, row(1))
            parts.flush()
    halves = {path.name: path.read_bytes() for path in output.glob("*.parquet")}
    assert len(halves) == 2
    with VectorParts(str(output), "m", 3) as parts:
        parts.finish(versions("ab"))
    for name, data in halves.items():  # as if they had not been removed any more
        (output / name).write_bytes(data)
    with VectorParts(str(output), "m", 3) as parts:
        assert parts.finish(versions("ab")) == 2
    assert listing(output) == {"a": 1, "b": 1}


def test_shards_share_a_folder(tmp_path: Path) -> None:
    output = tmp_path / "vectors"
    with VectorParts(str(output), "m", 3, (0, 2)) as one, VectorParts(str(output), "m", 3, (1, 2)) as two:
        one.add("a", 1, row(1))
        two.add("b", 1, row(2))
        assert one.finish([("a", 1)]) == two.finish([("b", 1)]) == 1
    assert listing(output) == {"a": 1, "b": 2}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 3)), max_size=8), min_size=1, max_size=4))
def test_the_last_version_wins_whatever_the_runs(runs: list[list[tuple[int, int]]]) -> None:
    wanted: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as place:
        output = Path(place, "vectors")
        for run in runs:
            with VectorParts(str(output), "m", 3) as parts:
                for number, version in run:
                    wanted[str(number)] = version
                    parts.add(str(number), version, row(version))
                    parts.flush()
                assert parts.finish(wanted.items()) == len(wanted)
        assert not wanted or listing(output) == wanted


def test_a_long_list_is_sorted_in_files_and_walked_again() -> None:
    images = [ImageFile(f"{n * 7919 % 1000:04}é", f"/p/{n}", n, 1) for n in range(1000)]
    assert sorted(image.image for image in images) == sorted({image.image for image in images})
    with closing(ImageList([*images, *images], run_images=64)) as long:
        assert len(long) == 1000
        assert [image.image for image in long] == sorted(image.image for image in images)
        assert set(long) == set(images)
    with pytest.raises(InvalidInput) as caught:
        ImageList([ImageFile("a", "s3://b/1", 0, 0), ImageFile("a", "s3://b/2", 0, 0)])
    assert caught.value.reason == "SAME_NAME"


def test_manifests_of_lines_and_tables(photos: Path, tmp_path: Path) -> None:
    lines, table = tmp_path / "list.txt", tmp_path / "list.csv"
    lines.write_text(f"{photos}/b/1.jpg\n\ns3://bucket/x.jpg\nnowhere.jpg\n")
    told: dict[str, GandtError] = {}
    found = find_images([], told.__setitem__, str(lines))
    assert [(i.image, i.place) for i in found] == [(p, p) for p in (f"{photos}/b/1.jpg", "s3://bucket/x.jpg")]
    assert [error.reason for error in told.values()] == ["PATH_NOT_FOUND"]
    table.write_text(f"image,uri\none,{photos}/c.png\ntwo,s3://bucket/y.jpg\n")
    assert [(i.image, i.place) for i in find_images([], no_refusal, str(table))] == [
        ("one", f"{photos}/c.png"),
        ("two", "s3://bucket/y.jpg"),
    ]
    with pytest.raises(NotFound):
        find_images([], no_refusal, str(tmp_path / "no.txt"))


def test_images_of_an_object_store() -> None:
    store = MemoryObjects()
    for name in ("photos/a.jpg", "photos/deep/b.png", "photos/notes.txt", "photos/.hidden/c.jpg", "photos2/d.jpg"):
        store.put(f"s3://bucket/{name}", name.encode())
    found = find_images(["s3://bucket/photos"], no_refusal, store_of=lambda uri: store)
    assert [(i.image, i.place) for i in found] == [
        ("a.jpg", "s3://bucket/photos/a.jpg"),
        ("deep/b.png", "s3://bucket/photos/deep/b.png"),
    ]
    one = find_images(["s3://bucket/photos/notes.txt"], no_refusal, store_of=lambda uri: store)
    assert [i.image for i in one] == ["s3://bucket/photos/notes.txt"]


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


@pytest.mark.parametrize("content", [b"", b"no Parquet", b"PAR1" * 20, None])
def test_a_part_that_is_broken_or_not_ours_is_named(tmp_path: Path, content: bytes | None) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    part = tmp_path / "vectors" / "part-00000.parquet"
    part.parent.mkdir()
    pq.write_table(pa.table({"x": [1]}), part)
    if content is not None:
        part.write_bytes(content)
    if content == b"":  # whole but for its rows
        with VectorParts(str(part.parent / "good"), "m", 3) as parts:
            parts.add("a", 1, row(1))
        (good,) = (part.parent / "good").glob("*.parquet")
        data = bytearray(good.read_bytes())
        data[4:60] = b"x" * 56
        part.write_bytes(data)
    objects = MemoryObjects()
    objects.put("s3://bucket/vectors/part-00000.parquet", part.read_bytes())
    for output, store, where in (
        (str(part.parent), None, str(part)),
        ("s3://bucket/vectors", objects, "s3://bucket/vectors/part-00000.parquet"),
    ):
        with pytest.raises(CorruptData) as caught:
            VectorParts(output, "m", 3, objects=store)
        assert (caught.value.reason, caught.value.id) == ("BAD_PART", where)


def test_a_suffix_in_capitals_is_one_too(tmp_path: Path) -> None:
    output = str(tmp_path / "V.PARQUET")
    with VectorParts(output, "m", 3) as parts:
        parts.add("a", 1, row(1))
        assert parts.finish([("a", 1)]) == 1
    assert read_vectors(output).ids == ["a"]
