# SPDX-License-Identifier: GPL-3.0-or-later
"""A collection as a Parquet file: everything comes back as it was, and nothing half-written stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gandt.domain.errors import Conflict, InvalidInput
from gandt.domain.fields import FieldValue
from gandt.domain.search_records import Collection, ItemSet
from gandt.domain.vectors import VectorSet
from gandt.tables.items import ItemsWriter, describe_items, iter_items, kinds_of
from gandt.tables.vectors import read_vectors, write_vectors

PHOTOS = Collection("photos_0123456789ab", 4, "hog-0123456789ab", 6, 3, ("photos_live",))
FIELDS: list[dict[str, FieldValue]] = [
    {"split": "train", "n": 1, "score": 0.1, "done": True, "mixed": 1},
    {"split": 'q"\\\n日本', "n": -(2**63), "mixed": 1.0},
    {},
    {"n": 2**63 - 1, "score": 5e-324, "done": False, "mixed": True},
    {"image": "an image field", "vector": 7, "mixed": "1"},
    {"split": ""},
]


def items(fields: list[dict[str, FieldValue]], dim: int = 4) -> ItemSet:
    matrix = np.random.default_rng(1).normal(size=(len(fields), dim)).astype(np.float32)
    matrix[0, 0] = -0.0
    return ItemSet(VectorSet([f"id{n}'\"" for n in range(len(fields))], matrix), fields)


def write(path: Path, *blocks: ItemSet) -> None:
    with ItemsWriter(str(path), PHOTOS, kinds_of(iter(blocks))) as writer:
        for block in blocks:
            writer.write(block)


def test_what_is_written_is_read_with_kinds_and_bits(tmp_path: Path) -> None:
    path, given = tmp_path / "v.parquet", items(FIELDS)
    write(path, given)
    file = describe_items(str(path))
    assert (file.dim, file.model_id, file.rows) == (4, PHOTOS.model_id, 6)
    assert (file.collection, file.aliases) == (PHOTOS.name, PHOTOS.aliases)
    blocks = list(iter_items(str(path), file, block_bytes=32))  # two rows at once
    assert [len(block) for block in blocks] == [2, 2, 2]
    assert [image_id for block in blocks for image_id in block.ids] == list(given.ids)
    matrix = np.concatenate([block.vectors.matrix for block in blocks])
    assert matrix.tobytes() == given.vectors.matrix.tobytes()
    back = [dict(row) for block in blocks for row in block.fields]
    assert back == FIELDS
    assert [{k: type(v) for k, v in row.items()} for row in back] == [
        {k: type(v) for k, v in row.items()} for row in FIELDS
    ]


def test_the_file_is_a_vectors_file_with_typed_columns(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    write(path, items(FIELDS))
    assert read_vectors(str(path)).model_id == PHOTOS.model_id
    schema = pq.read_schema(path)
    assert schema.names[:2] == ["image", "vector"]
    assert schema.field("vector").type == pa.list_(pa.float32(), 4)
    assert [str(schema.field(name).type) for name in ("split", "n", "score", "done")] == [
        "string",
        "int64",
        "double",
        "bool",
    ]


def test_plain_vectors_files_are_items_without_fields(tmp_path: Path) -> None:
    vectors = VectorSet(["a", "b"], np.eye(2, dtype=np.float32), "m")
    write_vectors(str(tmp_path / "v.parquet"), vectors)
    np.savez(tmp_path / "v.npz", images=np.array(["a", "b"]), vectors=vectors.matrix)
    for name, model_id in (("v.parquet", "m"), ("v.npz", "")):
        file = describe_items(str(tmp_path / name))
        assert (file.dim, file.model_id, file.collection) == (2, model_id, "")
        blocks = list(iter_items(str(tmp_path / name), file))
        assert [list(block.ids) for block in blocks] == [["a", "b"]]
        assert blocks[0].fields == ()


def test_a_field_that_appears_while_it_is_written_ends_the_export_and_leaves_no_file(tmp_path: Path) -> None:
    old = items([{"n": 1}])
    for late in (items([{"other": 1}]), items([{"n": 1.5}])):
        with (
            pytest.raises(Conflict, match="while the collection was being exported"),
            ItemsWriter(str(tmp_path / "v.parquet"), PHOTOS, kinds_of(iter([old]))) as writer,
        ):
            writer.write(late)
    assert list(tmp_path.iterdir()) == []


def test_a_column_that_is_no_field_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "v.parquet")
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(2, np.float32)), 2)
    pq.write_table(pa.table({"image": ["a"], "vector": vectors, "boxes": [[1, 2]]}), path)
    with pytest.raises(InvalidInput, match="column 'boxes' holds list"):
        list(iter_items(path, describe_items(path)))


def test_only_parquet_is_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="ends in"):
        ItemsWriter(str(tmp_path / "v.npz"), PHOTOS, {})
