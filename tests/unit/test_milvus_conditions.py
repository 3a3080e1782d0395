# SPDX-License-Identifier: GPL-3.0-or-later
"""Long conditions in parts, and those of partitions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gandt.adapters.milvus_conditions import expression, in_parts
from gandt.domain.filters import And, Exists, Filter, Ids, In, Not, Or, compile_milvus

IDS = st.lists(st.text('ab"\\é😀', min_size=1, max_size=9), max_size=40)


def ids_in_order(condition: Filter | None) -> list[str]:
    nodes = condition.operands if isinstance(condition, And) else (condition,)
    return [image_id for node in nodes if isinstance(node, Ids) for image_id in node.ids]


@given(IDS, st.booleans())
def test_parts_are_short_in_order_and_together_the_whole(ids: list[str], beside: bool) -> None:
    condition: Filter = And((Exists("split"), Ids(tuple(ids)))) if beside else Ids(tuple(ids))
    parts = in_parts(condition, most=200)
    named = [image_id for part in parts for image_id in ids_in_order(part)]
    if len(parts) > 1:
        assert named == sorted(set(ids))
        assert all(part is not None and len(compile_milvus(part)) <= 240 for part in parts)
        assert all(isinstance(part, And) and (Exists("split") in part.operands) == beside for part in parts)
    else:
        assert set(named) == set(ids)


def test_a_long_condition_without_a_list_that_can_be_parted_stays_whole() -> None:
    ids = Ids(tuple(f"{n:064d}" for n in range(20_000)))
    for condition in (Not(ids), Or((ids, Exists("x")))):
        assert in_parts(condition) == [condition]
    assert len(in_parts(ids)) == 2
    assert in_parts(None) == [None]


@pytest.mark.parametrize(
    ("condition", "partitions"),
    [
        (In("split", ("a", 'b"')), '["a", "b\\""]'),
        (And((Exists("x"), In("split", ("a",)))), '["a"]'),
        (And((And((In("split", ("a",)),)), Exists("x"))), '["a"]'),
        (Not(In("split", ("a",))), ""),
        (Or((In("split", ("a",)), Exists("x"))), ""),
        (In("split", (3,)), ""),
        (In("other", ("a",)), ""),
    ],
)
def test_a_condition_names_the_partitions_that_it_keeps_to(condition: Filter, partitions: str) -> None:
    written = expression(condition, partition_field="split")
    assert (f"part in {partitions}" in written) if partitions else ("part in" not in written)
    assert "part in" not in expression(condition)
