# SPDX-License-Identifier: GPL-3.0-or-later
"""Local embedding jobs: everything is embedded once, bad images fail alone, and a job that was cut off goes on."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gandt.adapters.local_embedding_jobs import LocalEmbeddingJobs
from gandt.adapters.sql_jobs import SqlJobs
from gandt.domain.catalog import CatalogFile, CatalogImage, EmbeddingJob, EmbeddingState
from gandt.domain.disk import FULL, disk_trouble
from gandt.domain.embedding import EmbedResult, ImageInput, ModelInfo
from gandt.domain.errors import BackendUnavailable, GandtError, InvalidInput, WrongState
from gandt.domain.vectors import VectorSet

COUNT = 20


class Embedder:
    """Vectors by the image's number; some images are broken."""

    def __init__(self, broken: Sequence[str] = ()) -> None:
        self.broken = set(broken)
        self.asked: list[str] = []
        self.cut_after: int | None = None

    def get_model(self, model_id: str = "") -> ModelInfo:
        return ModelInfo("hog-1", "hog", 2)

    def embed_stream(self, images: Iterable[ImageInput], model_id: str = "") -> Iterator[EmbedResult]:
        for sequence, image in enumerate(images):
            if sequence == self.cut_after:
                self.cut_after = None
                raise BackendUnavailable("the embedding service is gone")
            self.asked.append(image.image_id)
            if image.image_id in self.broken:
                error = InvalidInput("cut off", field="image", reason="IMAGE_TRUNCATED")
                yield EmbedResult(image.image_id, sequence, error=error)
            else:
                yield EmbedResult(image.image_id, sequence, np.ones(2, np.float32))


class Vectors:
    """A store that remembers ids."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.fault: GandtError | None = None
        self.refuses: set[str] = set()

    def ensure(self, collection: str, dim: int, model_id: str) -> int:
        assert (collection, dim, model_id) == ("images_1", 2, "hog-1")
        return len(self.ids)

    def stored(self, collection: str, image_ids: Sequence[str]) -> Sequence[str]:
        return [image_id for image_id in image_ids if image_id in self.ids]

    def upsert(self, collection: str, block: VectorSet) -> Sequence[tuple[str, GandtError]]:
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        good = [image_id for image_id in block.ids if image_id not in self.refuses]
        self.ids += good
        return [(i, InvalidInput("zero", reason="BAD_VECTOR")) for i in block.ids if i in self.refuses]


def jobs_of(*parts: Any) -> LocalEmbeddingJobs:
    """Jobs in small blocks and pages; one try on a full disk."""
    return LocalEmbeddingJobs(*parts, block_images=4, page_images=6, max_disk_tries=1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlJobs]:
    made = SqlJobs(f"sqlite:///{tmp_path / 'controller.db'}")
    ids = [f"i{n:02d}" for n in range(COUNT)]
    made.record_files(
        [CatalogImage(i, 1, 1, "PNG", 1, "") for i in ids], [CatalogFile(f"s3://p/{i}.png", 1, "e", i) for i in ids]
    )
    made.create_embedding_job(EmbeddingJob("e1", EmbeddingState.RUNNING, "hog-1", "images_1", COUNT), "")
    yield made
    made.close()


def test_everything_is_embedded_once(store: SqlJobs) -> None:
    embedder, vectors = Embedder(), Vectors()
    jobs = jobs_of(store, embedder, vectors, print)
    jobs.start("e1")
    jobs.start("e1")
    deadline = time.monotonic() + 30
    while store.get_embedding_job("e1").state is EmbeddingState.RUNNING:
        assert time.monotonic() < deadline
    jobs.close()
    done = store.get_embedding_job("e1")
    assert (done.state, done.embedded, done.failed) == (EmbeddingState.COMPLETED, COUNT, 0)
    assert sorted(vectors.ids) == [f"i{n:02d}" for n in range(COUNT)]
    assert store.count_unembedded("images_1") == 0


def test_images_whose_vectors_are_there_are_not_embedded_again(store: SqlJobs) -> None:
    embedder, vectors = Embedder(), Vectors()
    vectors.ids = ["i02", "i03", "i19", "not in the catalog"]  # as `gandt vectors import` leaves them
    jobs_of(store, embedder, vectors, print).run("e1")
    done = store.get_embedding_job("e1")
    assert (done.state, done.embedded, done.failed) == (EmbeddingState.COMPLETED, COUNT, 0)
    assert sorted(embedder.asked) == sorted({f"i{n:02d}" for n in range(COUNT)} - {"i02", "i03", "i19"})
    assert store.count_unembedded("images_1") == 0


def test_bad_images_fail_alone_with_their_reason(store: SqlJobs) -> None:
    vectors = Vectors()
    vectors.refuses = {"i03"}
    jobs_of(store, Embedder(["i01", "i19"]), vectors, print).run("e1")
    done = store.get_embedding_job("e1")
    assert (done.state, done.embedded, done.failed) == (EmbeddingState.COMPLETED, COUNT - 3, 3)
    assert done.message == "3 images could not be embedded"
    assert [(r.uri, r.reason, r.message) for r in done.rejected] == [
        ("s3://p/i01.png", "IMAGE_TRUNCATED", "p/i01.png: cut off"),
        ("s3://p/i03.png", "BAD_VECTOR", "p/i03.png: zero"),
        ("s3://p/i19.png", "IMAGE_TRUNCATED", "p/i19.png: cut off"),
    ]
    assert store.count_unembedded("images_1") == 3


def test_trouble_that_passes_is_waited_for(store: SqlJobs) -> None:
    embedder, vectors = Embedder(), Vectors()
    embedder.cut_after = 10
    jobs_of(store, embedder, vectors, print).run("e1")
    assert store.get_embedding_job("e1").embedded == COUNT
    assert len(vectors.ids) == COUNT
    assert len(embedder.asked) == COUNT + 2  # the block that was cut off is asked for again


def test_trouble_that_stays_fails_the_job_and_the_next_goes_on(store: SqlJobs) -> None:
    vectors = Vectors()
    vectors.fault = WrongState("the collection has another model", reason="MODEL_MISMATCH")
    published: list[str] = []
    jobs = jobs_of(store, Embedder(), vectors, lambda job: published.append(job.embedding_job_id))
    jobs.run("e1")
    failed = store.get_embedding_job("e1")
    assert (failed.state, failed.message) == (EmbeddingState.FAILED, "the collection has another model")
    assert published == []
    store.end_embedding_job("e1", EmbeddingState.RUNNING, "")
    jobs.run("e1")
    assert store.get_embedding_job("e1").embedded == COUNT
    assert published == ["e1"]


def test_a_job_that_is_cut_off_publishes_nothing(store: SqlJobs) -> None:
    published: list[str] = []
    jobs = jobs_of(store, Embedder(), Vectors(), lambda job: published.append(job.embedding_job_id))
    jobs.close()
    jobs.run("e1")
    assert published == []
    assert store.get_embedding_job("e1").state is EmbeddingState.RUNNING


def test_publishing_waits_for_a_vector_store_that_is_gone_for_a_moment(store: SqlJobs) -> None:
    states: list[EmbeddingState] = []

    def publish(job: EmbeddingJob) -> None:
        states.append(store.get_embedding_job(job.embedding_job_id).state)
        if len(states) == 1:
            raise BackendUnavailable("the vector store is gone")

    jobs_of(store, Embedder(), Vectors(), publish).run("e1")
    assert states == [EmbeddingState.RUNNING, EmbeddingState.RUNNING]
    assert store.get_embedding_job("e1").state is EmbeddingState.COMPLETED


FULL_DISK = disk_trouble("the folder /p/.gandt/vectors", FULL, "the disk is full")


def test_a_full_vector_store_fails_the_job_and_the_next_goes_on(store: SqlJobs) -> None:
    vectors = Vectors()
    vectors.fault = FULL_DISK
    jobs = jobs_of(store, Embedder(), vectors, lambda _: None)
    jobs.run("e1")
    failed = store.get_embedding_job("e1")
    assert (failed.state, failed.message) == (EmbeddingState.FAILED, str(FULL_DISK))
    assert jobs.unsaid_failure("e1") == ""
    store.end_embedding_job("e1", EmbeddingState.RUNNING, "")
    jobs.run("e1")
    assert store.get_embedding_job("e1").embedded == COUNT
    assert sorted(vectors.ids) == [f"i{n:02d}" for n in range(COUNT)]


class FillingVectors(Vectors):
    """A store on the disk of the job store, which is full with its first block."""

    def __init__(self, store: SqlJobs) -> None:
        super().__init__()
        self.store = store

    def upsert(self, collection: str, block: VectorSet) -> Sequence[tuple[str, GandtError]]:
        with self.store.read() as connection:
            connection.exec_driver_sql("PRAGMA query_only=ON")
        raise FULL_DISK


def test_a_failure_that_cannot_be_stored_is_told_from_memory(store: SqlJobs) -> None:
    jobs = jobs_of(store, Embedder(), FillingVectors(store), lambda _: None)
    jobs.run("e1")
    assert store.get_embedding_job("e1").state is EmbeddingState.RUNNING
    assert jobs.unsaid_failure("e1") == str(FULL_DISK)
    with store.read() as connection:
        connection.exec_driver_sql("PRAGMA query_only=OFF")
    jobs_of(store, Embedder(), Vectors(), lambda _: None).run("e1")  # as when the controller starts again
    assert store.get_embedding_job("e1").embedded == COUNT
