# SPDX-License-Identifier: GPL-3.0-or-later
"""One suite for every VectorSource (memory, Parquet in the object store, a collection), and one for Rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from gandt_vectorsearch.bootstrap import assemble

from gandt.adapters.memory_objects import MemoryObjects
from gandt.adapters.memory_vector_source import MemoryVectorSource
from gandt.adapters.memory_vectors import MemoryVectors
from gandt.adapters.parquet_vectors import ParquetVectors
from gandt.adapters.remote_vectors import RemoteVectors
from gandt.adapters.spooled_rows import SpooledRows
from gandt.client.connection import connect
from gandt.client.vectorsearch import VectorSearchClient
from gandt.domain.errors import InvalidInput, NotFound, WrongState
from gandt.domain.filters import Exists, Ids
from gandt.domain.selection.pool import MemoryRows, Rows
from gandt.domain.vectors import VectorSet
from gandt.ports.vector_source import VectorSource
from gandt.runtime.server import ServerThread
from gandt.tables.vectors import write_vectors

Opened = Callable[[VectorSet], VectorSource]


def some(count: int = 9, dim: int = 5, model_id: str = "m1", dtype: type[np.floating] = np.float32) -> VectorSet:
    matrix = np.random.default_rng(count).normal(size=(count, dim)).astype(dtype)
    return VectorSet([f"i{row:02d}" for row in range(count)], matrix, model_id)


def put(store: MemoryObjects, folder: Path, uri: str, vectors: VectorSet) -> None:
    write_vectors(str(folder / "part.parquet"), vectors)
    store.put(uri, (folder / "part.parquet").read_bytes())


@pytest.fixture(params=["memory", "file", "parts", "collection"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    store = MemoryObjects()

    def file(vectors: VectorSet) -> VectorSource:
        put(store, tmp_path, "s3://b/v.parquet", vectors)
        return ParquetVectors(store, "s3://b/v.parquet")

    def parts(vectors: VectorSet) -> VectorSource:
        for number, part in enumerate(vectors.blocks(4)):
            put(store, tmp_path, f"s3://b/run/part-{number:05d}.parquet", part)
        store.put("s3://b/run/_SUCCESS", b"")
        return ParquetVectors(store, "s3://b/run")

    if request.param != "collection":
        yield {"memory": lambda vectors: MemoryVectorSource(vectors, 4), "file": file, "parts": parts}[request.param]
        return
    with (
        ServerThread(assemble(MemoryVectors(1 << 20))) as server,
        connect(server.addresses["vectorsearch"].service) as channel,
    ):
        client = VectorSearchClient(channel)

        def collection(vectors: VectorSet) -> VectorSource:
            client.create_collection("photos", vectors.dim, vectors.model_id)
            client.upsert("photos", vectors)
            return RemoteVectors(client, "photos")

        yield collection


def test_a_scan_gives_every_image_once(opened: Opened) -> None:
    vectors = some()
    source = opened(vectors)
    assert source.model_id() == "m1"
    for _ in range(2):
        blocks = list(source.scan())
        assert sorted(image for block in blocks for image in block.ids) == list(vectors.ids)
        got = {image: block.matrix[row] for block in blocks for row, image in enumerate(block.ids)}
        for row, image in enumerate(vectors.ids):
            np.testing.assert_allclose(got[image], vectors.matrix[row], rtol=1e-6)


def test_a_fetch_gives_what_exists(opened: Opened) -> None:
    vectors = some()
    found = opened(vectors).fetch(["i07", "nobody", "i02"])
    assert sorted(found.ids) == ["i02", "i07"]
    np.testing.assert_allclose(found.matrix[list(found.ids).index("i07")], vectors.matrix[7], rtol=1e-6)
    assert len(opened(vectors).fetch(["nobody"])) == 0


def test_conditions_are_met_or_refused(opened: Opened) -> None:
    source = opened(some())
    if isinstance(source, RemoteVectors):
        assert [list(block.ids) for block in source.scan(Ids(("i03",)))] == [["i03"]]
        assert list(source.scan(Exists("place"))) in ([], [VectorSet([], np.zeros((0, 5), np.float32))])
    else:
        with pytest.raises(InvalidInput) as caught:
            list(source.scan(Exists("place")))
        assert caught.value.reason == "NO_FIELDS"


def test_what_is_not_there(tmp_path: Path) -> None:
    store = MemoryObjects()
    for uri in ("s3://b/none.parquet", "s3://b/none"):
        with pytest.raises(NotFound):
            ParquetVectors(store, uri).model_id()
    with (
        ServerThread(assemble(MemoryVectors(1 << 20))) as server,
        connect(server.addresses["vectorsearch"].service) as channel,
        pytest.raises(NotFound),
    ):
        list(RemoteVectors(VectorSearchClient(channel), "none").scan())


def test_files_that_are_no_vectors(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    store = MemoryObjects()
    store.put("s3://b/bad.parquet", b"not parquet at all")
    pq.write_table(pa.table({"image": ["a"], "other": [1.0]}), tmp_path / "t.parquet")
    store.put("s3://b/columns.parquet", (tmp_path / "t.parquet").read_bytes())
    pq.write_table(pa.table({"image": ["a", "b"], "vector": [[1.0, 2.0], [1.0]]}), tmp_path / "t.parquet")
    store.put("s3://b/ragged.parquet", (tmp_path / "t.parquet").read_bytes())
    pq.write_table(pa.table({"image": ["a", "b", "c"], "vector": [[1.0, 2.0], [1.0], [1.0, 2.0, 3.0]]}), tmp_path / "t")
    store.put("s3://b/uneven.parquet", (tmp_path / "t").read_bytes())
    pq.write_table(pa.table({"image": ["a", "b"], "vector": [[1.0, 2.0], None]}), tmp_path / "t")
    store.put("s3://b/empty.parquet", (tmp_path / "t").read_bytes())
    cases = {"bad": "BAD_PARQUET", "columns": "MISSING_COLUMN"} | dict.fromkeys(
        ("ragged", "uneven", "empty"), "BAD_VECTORS"
    )
    for name, reason in cases.items():
        with pytest.raises(InvalidInput) as caught:
            list(ParquetVectors(store, f"s3://b/{name}.parquet").scan())
        assert caught.value.reason == reason
        assert f"{name}.parquet" in str(caught.value)


def test_parts_of_two_models_are_refused(tmp_path: Path) -> None:
    store = MemoryObjects()
    put(store, tmp_path, "s3://b/run/1.parquet", some(3))
    put(store, tmp_path, "s3://b/run/2.parquet", some(4, model_id="m2"))
    with pytest.raises(WrongState) as caught:
        list(ParquetVectors(store, "s3://b/run/").scan())
    assert caught.value.reason == "MODEL_MISMATCH"


# ---- Rows ----


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    "make", [MemoryRows, lambda: SpooledRows(1 << 20), lambda: SpooledRows(100), lambda: SpooledRows(0)]
)
def test_rows_come_back_as_they_went_in(make: Callable[[], Rows], dtype: type[np.floating]) -> None:
    rows = make()
    matrix = np.random.default_rng(0).normal(size=(23, 6)).astype(dtype)
    assert (len(rows), rows.dim, list(rows.blocks(4))) == (0, 0, [])
    for start in range(0, 23, 5):
        rows.append(matrix[start : start + 5])
    assert (len(rows), rows.dim) == (23, 6)
    for block_rows in (1, 4, 100):
        blocks = list(rows.blocks(block_rows))
        assert all(len(block) <= block_rows for block in blocks)
        assert np.array_equal(np.concatenate(blocks), matrix)
    order = np.array([22, 0, 7, 7, 13])
    assert np.array_equal(rows.take(order), matrix[order])
    assert rows.take(np.zeros(0, np.int64)).shape == (0, 6)
    if isinstance(rows, SpooledRows):
        rows.close()


def test_large_pools_leave_memory(tmp_path: Path) -> None:
    rows = SpooledRows(1_000, tmp_path)
    rows.append(np.ones((10, 10), np.float32))
    assert not rows.is_in_file
    rows.append(np.ones((20, 10), np.float32))
    assert rows.is_in_file
    assert list(tmp_path.iterdir()) == []  # the file has no name
    rows.close()
