# SPDX-License-Identifier: GPL-3.0-or-later
"""Bulk embedding: every image has its outcome in the order given, and never more are under way than is bounded."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from gandt_embedding.bulk import BATCHES_AHEAD, BulkEmbedder, BulkImage
from PIL import Image

from gandt.adapters.memory_model import MemoryModel
from gandt.domain.errors import BackendUnavailable, GandtError, NotFound


def png(seed: int) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(data, "PNG")
    return data.getvalue()


def image(seed: int) -> BulkImage:
    return BulkImage(str(seed), lambda: png(seed))


def gone() -> bytes:
    raise NotFound("it is gone", kind="object", id="x")


def silent() -> bytes:
    raise BackendUnavailable("no answer", backend="s3")


def test_outcomes_come_in_order_and_are_the_models_own() -> None:
    model = MemoryModel()
    given = [image(n) for n in range(50)]
    given[7] = BulkImage("7", gone)
    given[20] = BulkImage("20", lambda: b"no image")
    found = list(BulkEmbedder(model, threads=3, max_batch=4).embed(given))
    assert [name for name, _ in found] == [str(n) for n in range(50)]
    errors = {name: outcome.reason for name, outcome in found if isinstance(outcome, GandtError)}
    assert errors == {"7": "NOT_FOUND", "20": "NOT_AN_IMAGE"}
    for name, outcome in found:
        if name not in errors:
            np.testing.assert_array_equal(outcome, model.embed([model.prepare(png(int(name)))])[0])


def test_what_is_under_way_is_bounded() -> None:
    taken = 0

    def endless() -> Iterator[BulkImage]:
        nonlocal taken
        while True:
            taken += 1
            yield image(taken % 5)

    outcomes = BulkEmbedder(MemoryModel(), threads=2, max_batch=4).embed(endless())
    for done in range(1, 200):
        next(outcomes)
        assert taken - done <= 2 + (BATCHES_AHEAD + 1) * 4


def test_a_store_that_does_not_answer_ends_the_run_and_not_the_image() -> None:
    outcomes = BulkEmbedder(MemoryModel(), threads=2, max_batch=2).embed([image(0), image(1), BulkImage("2", silent)])
    assert [next(outcomes)[0] for _ in range(2)] == ["0", "1"]
    with pytest.raises(BackendUnavailable):
        next(outcomes)
    assert list(BulkEmbedder(MemoryModel(), threads=2, max_batch=2).embed([])) == []
