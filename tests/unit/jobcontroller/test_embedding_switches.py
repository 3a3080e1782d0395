# SPDX-License-Identifier: GPL-3.0-or-later
"""Embedding jobs cover what is missing, and a finished one decides which collection is used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from gandt_jobcontroller.service.embedding import publish

from gandt.domain.catalog import EmbeddingJob, EmbeddingState
from gandt.domain.errors import WrongState
from gandt.domain.search_records import Collection
from tests.unit.jobcontroller.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.add_images(30)
    yield made
    made.store.close()


def finish(world: World, job: EmbeddingJob) -> None:
    """What runs embedding jobs does when all images have their vectors."""
    count = len(world.image_ids)
    world.vectors.collections[job.collection] = Collection(job.collection, 4, job.model_id, count, 1)
    world.store.mark_embedded(job.collection, world.image_ids)
    publish(world.store, world.vectors, "images", job)
    world.store.end_embedding_job(job.embedding_job_id, EmbeddingState.COMPLETED, "")


def test_embedding_with_another_model_builds_beside_and_then_switches(world: World) -> None:
    embedding, store = world.controller.embedding, world.store
    first = embedding.create("", "e1")
    finish(world, first)
    assert (store.fact("collection"), world.vectors.aliases) == (first.collection, {"images_live": first.collection})
    world.embedder.model_id = "resnet-0123456789ab"
    second = embedding.create("", "e2")
    assert second.collection == "images_0123456789ab"
    assert (second.state, second.total) == (EmbeddingState.RUNNING, 30)
    in_use = (store.fact("collection"), world.vectors.aliases["images_live"])
    assert in_use == (first.collection, first.collection)  # also while the other one is half full
    assert world.controller.catalog.list_images(1, "")[0][0].embedded
    finish(world, second)
    assert (store.fact("collection"), world.vectors.aliases["images_live"]) == (second.collection,) * 2
    world.embedder.model_id = "hog-1"
    assert embedding.create("", "e3").state is EmbeddingState.COMPLETED  # all its vectors are still there
    assert (store.fact("collection"), world.vectors.aliases["images_live"]) == (first.collection,) * 2


def test_an_older_embedding_job_does_not_switch_back_and_an_empty_collection_is_not_used(world: World) -> None:
    first = world.controller.embedding.create("", "e1")
    world.embedder.model_id = "resnet-0123456789ab"
    second = world.controller.embedding.create("", "e2")
    finish(world, second)
    finish(world, first)
    assert world.store.fact("collection") == second.collection
    world.embedder.model_id = "vit-0123456789ab"
    third = world.controller.embedding.create("", "e3")
    world.vectors.collections[third.collection] = Collection(third.collection, 4, third.model_id, 0, 0)
    publish(world.store, world.vectors, "images", third)
    assert world.store.fact("collection") == second.collection


def test_an_embedding_job_covers_what_is_missing(world: World) -> None:
    job = world.controller.embedding.create("", "e1")
    assert (job.state, job.total, job.model_id) == (EmbeddingState.RUNNING, 30, "hog-1")
    assert world.embedding_jobs.started == [job.embedding_job_id]
    assert world.controller.embedding.create("", "e2").embedding_job_id == job.embedding_job_id
    finish(world, job)
    again = world.controller.embedding.create("hog-1", "e3")
    assert (again.state, again.total) == (EmbeddingState.COMPLETED, 0)
    with pytest.raises(WrongState, match="has model hog-1, not resnet"):
        world.controller.embedding.create("resnet", "")
    assert world.controller.catalog.list_images(1, "")[0][0].embedded
