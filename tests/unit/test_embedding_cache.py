# SPDX-License-Identifier: GPL-3.0-or-later
"""Content that was seen before, or is under way, is computed once."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from gandt_embedding.admission import Limits
from gandt_embedding.cache import VectorCache
from gandt_embedding.pipeline import Pipeline

from gandt.adapters.memory_clock import ManualClock, ManualDeadline, MemoryMeter
from gandt.adapters.memory_model import MemoryModel
from gandt.adapters.memory_objects import MemoryObjects
from gandt.adapters.sqlite_vectors import SqliteVectors
from gandt.domain.embedding import ImageInput
from gandt.domain.errors import DeadlineExceeded
from tests.embedding_world import WAIT, Held, decoded, png, running, stream, submit, use_cases


def test_the_cache_drops_the_least_recently_used() -> None:
    row = np.ones(100, np.float32)
    cache = VectorCache(max_bytes=3 * 700)
    for name in (b"a", b"b", b"c"):
        cache.put([(name, row)])
    assert cache.get(b"a") is row
    cache.put([(b"d", row)])
    assert [cache.get(name) is not None for name in (b"a", b"b", b"c", b"d")] == [True, False, True, True]
    cache.put([(b"huge", np.ones(10_000, np.float32))])
    assert len(cache) == 3
    nothing = VectorCache(0)
    nothing.put([(b"a", row)])
    assert nothing.get(b"a") is None


def test_repeated_content_is_computed_once() -> None:
    model, meter = Held(), MemoryMeter()
    model.gate.set()
    with running(model, meter) as pipeline:
        service = use_cases(pipeline)
        first = service.embed([ImageInput("a", png(1))])[0]
        second = service.embed([ImageInput("b", png(1))])[0]
    assert (first.cached, second.cached) == (False, True)
    np.testing.assert_array_equal(first.vector, second.vector)
    assert model.batches == [1]
    assert meter.value("gandt_embedding_cache_hits_total") == 1


def test_identical_images_under_way_are_computed_once() -> None:
    model, meter = Held(), MemoryMeter()
    with running(model, meter, cache=0) as pipeline:
        urgent = submit(pipeline, [1, 1, 2, 1])
        assert model.entered.wait(WAIT)
        bulk = stream(pipeline, [1, 2, 3])
        decoded(meter, 3)  # of one decode thread: all before it are through
        model.gate.set()
        results = urgent.wait(4) + bulk.wait(3)[:2]
    assert sum(model.batches) == 3
    assert [result.cached for result in results] == [False, True, False, True, True, True]
    for result in results:
        np.testing.assert_array_equal(result.vector, results[2 if result.image_id == "2" else 0].vector)
    assert meter.value("gandt_embedding_cache_hits_total") == 4
    assert meter.value("gandt_embedding_queue_items") == 0


def test_a_unary_call_does_not_wait_behind_a_stream_s_identical_image() -> None:
    model, meter = Held(), MemoryMeter()
    with running(model, meter, cache=0, max_batch=1) as pipeline:
        submit(pipeline, [0])
        assert model.entered.wait(WAIT)
        bulk = stream(pipeline, [8, 9])
        decoded(meter, 3)
        urgent = submit(pipeline, [9])
        decoded(meter, 4)
        model.gate.set()
        urgent.wait()
        bulk.wait(2)
    assert model.batches == [1, 1, 1, 1]


def test_who_followed_an_image_whose_caller_left_still_gets_the_vector() -> None:
    model, meter = Held(), MemoryMeter()
    leaving = ManualDeadline(ManualClock())
    with running(model, meter, cache=0) as pipeline:
        submit(pipeline, [0])
        assert model.entered.wait(WAIT)
        left = submit(pipeline, [1], leaving)
        decoded(meter, 2)
        staying = [submit(pipeline, [1]), submit(pipeline, [1]), submit(pipeline, [2])]
        decoded(meter, 3)  # of one decode thread: all before it are through
        leaving.cancel()
        model.gate.set()
        assert isinstance(left.wait()[0].error, DeadlineExceeded)
        assert [caller.wait()[0].error for caller in staying] == [None, None, None]
    assert sum(model.batches) == 3
    assert meter.value("gandt_embedding_queue_items") == 0


def test_a_bad_image_fails_its_followers_too() -> None:
    with running(MemoryModel()) as pipeline:
        results = use_cases(pipeline).embed([ImageInput(str(n), png(1)[:50]) for n in range(3)])
    assert [result.error.reason if result.error else "" for result in results] == ["IMAGE_TRUNCATED"] * 3


def test_a_repeated_text_comes_from_the_cache_and_no_image_is_taken_for_it() -> None:
    with running(MemoryModel()) as pipeline:
        service = use_cases(pipeline)
        first, second = (service.embed([ImageInput(text="red")])[0] for _ in range(2))
        image = service.embed([ImageInput("a", b"red")])[0]
    assert (first.cached, second.cached) == (False, True)
    np.testing.assert_array_equal(first.vector, second.vector)
    assert image.error is not None


def test_a_kept_vector_outlives_the_process_bit_for_bit(tmp_path: Path) -> None:
    results = []
    for _ in range(2):
        model, meter = Held(), MemoryMeter()
        model.gate.set()
        kept = SqliteVectors(tmp_path / "deep" / "m.sqlite", model.info.dim, 2**20)
        pipeline = Pipeline(model, MemoryObjects(), VectorCache(0, kept), Limits(), meter, ManualClock())
        try:
            results.append(use_cases(pipeline).embed([ImageInput("a", png(1)), ImageInput("b", png(2))]))
        finally:
            pipeline.close()
    assert model.batches == []
    assert [result.cached for result in results[1]] == [True, True]
    for first, second in zip(*results, strict=True):
        np.testing.assert_array_equal(first.vector, second.vector)
        assert second.vector is not None
        assert not second.vector.flags.writeable


def test_kept_vectors_are_bounded_and_the_oldest_go_first(tmp_path: Path) -> None:
    kept = SqliteVectors(tmp_path / "m.sqlite", 100, 50 * 500)
    for n in range(120):
        kept.put([(bytes([n]), np.full(100, n, np.float32))])
    assert 40 <= len(kept) <= 50
    assert kept.get(bytes([0])) is None
    assert kept.get(bytes([119])) is not None
    kept.close()
    again = SqliteVectors(tmp_path / "m.sqlite", 100, 50 * 500)
    assert len(again) == len(kept)
    again.close()


def test_a_broken_file_is_made_anew_and_a_folder_that_cannot_be_written_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    row = np.ones(3, np.float32)
    (tmp_path / "m.sqlite").write_bytes(b"no database at all" * 100)
    kept = SqliteVectors(tmp_path / "m.sqlite", 3, 2**20)
    kept.put([(b"a", row)])
    np.testing.assert_array_equal(kept.get(b"a"), row)
    kept.close()
    assert "made anew" in caplog.text
    nowhere = SqliteVectors(tmp_path / "m.sqlite" / "below", 3, 2**20)
    nowhere.put([(b"a", row)])
    assert nowhere.get(b"a") is None
    assert "memory alone" in caplog.text


def test_another_process_that_writes_costs_some_rows_and_not_the_cache(tmp_path: Path) -> None:
    path, row = tmp_path / "m.sqlite", np.ones(3, np.float32)
    kept = SqliteVectors(path, 3, 2**20)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        kept.put([(b"a", row)])
        assert kept.get(b"a") is None
    kept.put([(b"b", row)])
    np.testing.assert_array_equal(kept.get(b"b"), row)
    kept.close()


def test_a_file_that_another_process_has_locked_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "m.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE theirs (x)")
        other.execute("BEGIN EXCLUSIVE")
        SqliteVectors(path, 3, 2**20, open_seconds=0.01).close()
        assert "memory alone" in caplog.text
        other.execute("COMMIT")
    with closing(sqlite3.connect(path)) as again:
        assert again.execute("SELECT count(*) FROM theirs").fetchone() == (0,)


def test_a_file_that_breaks_while_it_is_used_is_made_anew_by_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    kept = SqliteVectors(path, 1000, 2**30)
    kept.put([(n.to_bytes(2), np.full(1000, n, np.float32)) for n in range(100)])
    kept.close()
    data = bytearray(path.read_bytes())
    data[8192:] = b"x" * (len(data) - 8192)  # the schema is whole
    path.write_bytes(bytes(data))
    for _ in range(2):
        kept = SqliteVectors(path, 1000, 2**30)
        for n in range(100):
            kept.put([(n.to_bytes(2), np.full(1000, n, np.float32))])
        found = [kept.get(n.to_bytes(2)) for n in range(100)]
        kept.close()
    assert all(row is not None and row[0] == n for n, row in enumerate(found))
