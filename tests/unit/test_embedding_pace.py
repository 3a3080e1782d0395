# SPDX-License-Identifier: GPL-3.0-or-later
"""What the embedding service believes of its pace, and the order of its lines."""

from __future__ import annotations

from typing import Any

from gandt_embedding.pace import Pace
from gandt_embedding.stage import BULK_EVERY, Item, Line
from hypothesis import given
from hypothesis import strategies as st

from gandt.domain.embedding import EmbedResult, ImageInput
from gandt.ports.clock import NO_DEADLINE


class Nobody:
    def deliver(self, results: list[EmbedResult]) -> None:
        raise AssertionError("nothing is computed here")


def item(sequence: int, urgent: bool, ends_at: float = float("inf")) -> Item:
    return Item(ImageInput(), sequence, NO_DEADLINE, Nobody(), urgent, 0, 0.0, ends_at)


def test_nothing_is_known_at_first() -> None:
    assert Pace(8).seconds(1000, 32) == 0.0


def test_a_device_with_constant_pace_is_foretold_exactly() -> None:
    pace = Pace(8)
    for _ in range(20):
        pace.note(8, 0.8)
        pace.note(1, 0.1)
    assert pace.seconds(0, 1) == 0.1
    assert pace.seconds(8, 1) == 0.8 * 3  # two batches, for later arrivals may join it, and one to spare
    assert pace.seconds(80, 8) == 0.8 * 12


def test_sizes_never_measured_are_taken_from_the_nearest_known() -> None:
    pace = Pace(64)
    pace.note(1, 0.005)
    assert pace.seconds(64, 64) == 3 * 64 * 0.005  # at most proportional
    pace.note(64, 0.01)
    assert pace.seconds(64, 64) == 0.03
    assert pace.seconds(0, 16) == 0.01  # a smaller one takes no longer


def test_one_stall_is_forgotten_soon() -> None:
    pace = Pace(8)
    pace.note(8, 1.0)
    pace.note(8, 3600.0)
    assert pace.seconds(0, 8) == 2.0
    for _ in range(30):
        pace.note(8, 1.0)
    assert pace.seconds(0, 8) < 1.05


@given(st.lists(st.tuples(st.integers(1, 64), st.floats(0.001, 10)), min_size=1), st.integers(0, 500))
def test_a_longer_queue_of_full_batches_never_takes_less(measured: list[tuple[int, float]], ahead: int) -> None:
    pace = Pace(64)
    for size, seconds in measured:
        pace.note(size, seconds)
    assert 0 < pace.seconds(64 + ahead, 1) <= pace.seconds(65 + ahead, 1)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=80), st.integers(1, 20))
def test_a_line_gives_everything_once_and_streams_their_share(kinds: list[tuple[bool, float]], most: int) -> None:
    line = Line()
    for n, (urgent, ends_at) in enumerate(kinds):
        assert line.put(item(n, urgent, ends_at))
    taken: list[Item] = []
    while len(line):
        taken += line.take(most)
    assert sorted(each.sequence for each in taken) == list(range(len(kinds)))
    bulk = [n for n, each in enumerate(taken) if not each.urgent]
    assert [taken[n].sequence for n in bulk] == sorted(taken[n].sequence for n in bulk)
    gaps = [b - a for a, b in zip([-1, *bulk], bulk, strict=False)]
    assert all(gap <= BULK_EVERY for gap in gaps)
    urgent_ends = [each.ends_at for each in taken if each.urgent]
    assert urgent_ends == sorted(urgent_ends)


def test_a_closed_line_gives_back_what_is_left_and_takes_no_more() -> None:
    line = Line()
    first: Any = item(0, False)
    line.put(first)
    assert line.close() == [first]
    assert line.take(8) == []
    assert not line.put(item(1, True))
