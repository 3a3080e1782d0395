# SPDX-License-Identifier: GPL-3.0-or-later
"""One suite for every VectorStore: scans and filters."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from gandt.domain.errors import GandtError
from gandt.domain.fields import FieldValue
from gandt.domain.filters import And, Exists, Filter, Ids, In, Not, Or, Range, matches
from gandt.domain.search_records import ItemSet, NearestQuery
from gandt.domain.vectors import VectorSet
from gandt.ports.vector_store import VectorStore
from tests.contract.conftest import MILVUS_URI
from tests.contract.vector_items import all_ids, items, random_items


def test_scan_is_ordered_and_resumable(store: VectorStore) -> None:
    store.create_collection("c", 8, "")
    given = random_items(50)
    shuffled = np.random.default_rng(1).permutation(50)
    store.upsert("c", ItemSet(VectorSet([given.ids[i] for i in shuffled], given.vectors.matrix[shuffled])))
    scan = store.scan("c", block_rows=7)
    blocks = list(scan.blocks)
    assert scan.total == 50
    assert [len(block) for block in blocks] == [7] * 7 + [1]
    assert [image_id for block in blocks for image_id in block.ids] == list(given.ids)
    assert np.array_equal(np.concatenate([block.vectors.matrix for block in blocks]), given.vectors.matrix)
    rest = store.scan("c", after_id="i0041x", with_vectors=False)
    assert rest.total == 8
    assert [list(block.ids) for block in rest.blocks] == [[f"i{n:04d}" for n in range(42, 50)]]
    assert list(store.scan("c", after_id="j").blocks) == []


def test_a_scan_shows_the_moment_it_began(store: VectorStore, request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params["shared_store"] == "milvus-server" and not MILVUS_URI:
        pytest.skip("Milvus Lite itself has no snapshots; set GANDT_TEST_MILVUS_URI")
    store.create_collection("c", 8, "")
    given = random_items(300)
    store.upsert("c", given)
    stop, failures = threading.Event(), list[GandtError]()

    def write() -> None:
        round_ = 0
        while not stop.is_set() and round_ < 50:
            round_ += 1
            try:
                store.upsert("c", random_items(40, seed=round_))
                store.upsert("c", random_items(20, seed=round_, prefix=f"new{round_}-"))
                store.delete("c", [f"new{round_}-0001"])
            except GandtError as error:
                failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(10):
            scan = store.scan("c", block_rows=11)
            seen = [image_id for block in scan.blocks for image_id in block.ids]
            assert len(seen) == scan.total
            assert seen == sorted(set(seen))
            assert set(given.ids) <= set(seen)
    finally:
        stop.set()
        writer.join()
    assert failures == []


FIELDS: list[dict[str, FieldValue]] = [
    {"split": "train", "n": 1, "score": 0.5, "done": True},
    {"split": "test", "n": 2, "score": -1.5, "done": False},
    {"split": 'q"\\', "n": 3.0},
    {"n": -4},
    {},
]
CONDITIONS: list[Filter] = [
    In("split", ("train", 'q"\\')),
    In("n", (3, 1)),
    In("n", (1.0,)),
    In("done", (True,)),
    Range("n", gte=1, lt=3),
    Range("score", gt=-1.5),
    Range("n"),
    Exists("score"),
    Not(Exists("score")),
    Not(In("n", (1,))),
    Ids(("i0", "i4", "absent")),
    And(),
    Or(),
    And((Exists("n"), Not(Or((In("split", ("train",)), Range("n", lt=0)))))),
]


@pytest.mark.parametrize("condition", CONDITIONS, ids=str)
def test_filters_keep_what_they_say(store: VectorStore, condition: Filter) -> None:
    store.create_collection("c", 2, "")
    ids = [f"i{n}" for n in range(len(FIELDS))]
    store.upsert("c", items(ids, [[1, n] for n in range(len(ids))], FIELDS))
    expected = [image_id for image_id, fields in zip(ids, FIELDS, strict=True) if matches(condition, image_id, fields)]
    assert all_ids(store, "c", condition) == expected
    assert list(store.matrix("c", condition).ids) == expected
    answer = store.nearest("c", NearestQuery(np.array([[1, 0]], np.float32), 10, condition))
    assert [hit.image_id for hit in answer.results[0].hits] == expected  # nearer to [1, 0] the smaller n is
    assert answer.candidates == len(expected)
