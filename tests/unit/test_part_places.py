# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of vectors in an object store: whole or not there, resumed, joined, shared by shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gandt.adapters.memory_objects import MemoryObjects
from gandt.domain.errors import BackendUnavailable, WrongState
from gandt.ports.object_store import ObjectInfo
from gandt.tables.vector_parts import VectorParts
from gandt.tables.vectors import iter_vectors

PLACE = "s3://bucket/vectors"


def row(value: float) -> NDArray[np.float32]:
    return np.full(3, value, np.float32)


def parts(objects: MemoryObjects, shard: tuple[int, int] = (0, 1), model: str = "m") -> VectorParts:
    return VectorParts(PLACE, model, 3, shard, objects)


def names(objects: MemoryObjects) -> list[str]:
    return [info.uri.removeprefix(f"{PLACE}/") for info in objects.list(PLACE)]


def listing(objects: MemoryObjects, folder: Path) -> dict[str, float]:
    """What lies in the store, each image once."""
    found: list[tuple[str, float]] = []
    for name in names(objects):
        (folder / name).write_bytes(objects.get(f"{PLACE}/{name}"))
        for block in iter_vectors(str(folder / name)):
            found += zip(block.ids, block.matrix[:, 0].tolist(), strict=True)
    assert len(dict(found)) == len(found)
    return dict(found)


def test_a_run_goes_on_where_the_last_one_ended_and_small_parts_are_joined(tmp_path: Path) -> None:
    objects = MemoryObjects()
    for version, now in ((1, "abc"), (2, "cd"), (2, "cd")):
        with parts(objects) as made:
            for n, name in enumerate(now):
                if not made.has(name, version):
                    made.add(name, version, row(10 * version + n))
                    made.flush()
            assert made.finish((name, version) for name in now) == len(now)
    assert listing(objects, tmp_path) == {"a": 10, "b": 11, "c": 20, "d": 21}
    assert len(names(objects)) == 1
    with pytest.raises(WrongState) as caught:
        parts(objects, model="another")
    assert caught.value.reason == "MODEL_MISMATCH"


class Interrupted(MemoryObjects):
    """A store in which Ctrl-C falls right after a part is there, once."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = True

    def put(self, uri: str, data: bytes, content_type: str = "") -> ObjectInfo:
        info = super().put(uri, data, content_type)
        if self.waits:
            self.waits = False
            raise KeyboardInterrupt
        return info


def test_an_interruption_right_after_a_part_is_written_saves_its_rows_once(tmp_path: Path) -> None:
    objects = Interrupted()

    def run() -> None:
        with parts(objects) as made:
            made.add("a", 1, row(1))
            made.flush()

    with pytest.raises(KeyboardInterrupt):
        run()
    assert listing(objects, tmp_path) == {"a": 1}
    with parts(objects) as made:
        assert made.has("a", 1)


def test_shards_share_a_place_and_other_objects_are_left_alone(tmp_path: Path) -> None:
    objects = MemoryObjects()
    for name in ("part-0of2-1.txt", "deep/part-0of2-1.parquet"):
        objects.put(f"{PLACE}/{name}", b"not ours")
    with parts(objects, (0, 2)) as one, parts(objects, (1, 2)) as two:
        one.add("a", 1, row(1))
        two.add("b", 1, row(2))
        assert one.finish([("a", 1)]) == two.finish([("b", 1)]) == 1
    for name in ("part-0of2-1.txt", "deep/part-0of2-1.parquet"):
        assert objects.get(f"{PLACE}/{name}") == b"not ours"
        objects.delete(f"{PLACE}/{name}")
    assert listing(objects, tmp_path) == {"a": 1, "b": 2}
    with parts(objects, (1, 3)) as other:  # dealt anew, what is there still counts
        assert other.has("a", 1)
        assert other.has("b", 1)


def test_a_part_that_another_shard_joined_meanwhile_is_passed_over(tmp_path: Path) -> None:
    class Joining(MemoryObjects):
        """Its first part is gone between the listing and the reading."""

        def get(self, uri: str) -> bytes:
            self.delete(next(info.uri for info in self.list(PLACE)))
            return super().get(uri)

    objects = Joining()
    with parts(objects) as made:
        made.add("a", 1, row(1))
    with parts(objects) as made:
        assert not len(made)


def test_a_store_that_does_not_answer_ends_the_run_and_loses_nothing_saved(tmp_path: Path) -> None:
    class Failing(MemoryObjects):
        fails = False

        def put(self, uri: str, data: bytes, content_type: str = "application/octet-stream") -> ObjectInfo:
            if self.fails:
                raise BackendUnavailable("the store does not answer", backend="s3")
            return super().put(uri, data, content_type)

    objects = Failing()
    made = parts(objects)
    made.add("a", 1, row(1))
    made.flush()
    objects.fails = True
    made.add("b", 1, row(2))
    with pytest.raises(BackendUnavailable):
        made.__exit__(None, None, None)
    assert listing(objects, tmp_path) == {"a": 1}
    objects.fails = False
    with parts(objects) as made:
        assert [made.has(name, 1) for name in "ab"] == [True, False]
        made.add("b", 1, row(2))
        assert made.finish([("a", 1), ("b", 1)]) == 2
    assert listing(objects, tmp_path) == {"a": 1, "b": 2}


def test_two_processes_on_one_shard_of_a_store_lose_nothing(tmp_path: Path) -> None:
    objects = MemoryObjects()
    with parts(objects) as made:
        for name in "ab":
            made.add(name, 1, row(1))
            made.flush()
    wanted = [("a", 1), ("b", 1), ("c", 1)]
    with parts(objects) as one, parts(objects) as two:
        two.add("c", 1, row(2))
        one.finish(wanted)
        with pytest.raises(WrongState) as caught:
            two.finish(wanted)
        assert caught.value.reason == "OUTPUT_IN_USE"
    with parts(objects) as again:
        assert again.finish(wanted) == 3
    assert listing(objects, tmp_path) == {"a": 1, "b": 1, "c": 2}
