# SPDX-License-Identifier: GPL-3.0-or-later
"""Use cases of embedding jobs: which images lack a vector, in which collection, and who embeds them."""

from __future__ import annotations

import hashlib

from gandt.domain.catalog import EmbeddingJob, EmbeddingState
from gandt.domain.errors import NotFound, WrongState
from gandt_jobcontroller.service.parts import Parts
from gandt_jobcontroller.service.selecting import COLLECTION, MODEL


class Embedding:
    """Embedding jobs as callers see them.

    Args:
        dataset: begins the collections' names; letters, digits and underscores.
    """

    def __init__(self, parts: Parts, dataset: str) -> None:
        self._parts = parts
        self._dataset = dataset

    def create(self, model_id: str, request_id: str) -> EmbeddingJob:
        """Embed every image of the catalog that has no vector of the model yet; the same call resumes a failed job.

        Raises:
            WrongState: the embedding service has another model than the one asked for.
            BackendUnavailable: the embedding or the vector search service does not answer.
        """
        parts, store = self._parts, self._parts.store
        model = parts.peers.embedder.model(model_id)
        if model_id and model.model_id != model_id:
            raise WrongState(
                f"the embedding service has model {model.model_id}, not {model_id}",
                kind="model",
                id=model_id,
                reason="MODEL_MISMATCH",
                fix="start the embedding service with that model, or leave model_id empty",
            )
        collection = self._collection(model.model_id)
        with parts.step:
            for running in store.running_embedding_jobs():
                job = store.get_embedding_job(running)
                if job.collection == collection:
                    parts.embedding_jobs.start(running)
                    return job
            self._forget_lost(collection)
            store.set_fact(COLLECTION, collection)
            store.set_fact(MODEL, model.model_id)
            total = store.count_unembedded(collection)
            new = EmbeddingJob(
                embedding_job_id=parts.new_id("e"),
                state=EmbeddingState.RUNNING if total else EmbeddingState.COMPLETED,
                model_id=model.model_id,
                collection=collection,
                total=total,
                message="" if total else "every image has its vector already",
            )
            job = store.create_embedding_job(new, request_id)
            if job.state is EmbeddingState.FAILED:
                store.end_embedding_job(job.embedding_job_id, EmbeddingState.RUNNING, "")
            if job.state is not EmbeddingState.COMPLETED:
                parts.embedding_jobs.start(job.embedding_job_id)
            return store.get_embedding_job(job.embedding_job_id)

    def get(self, embedding_job_id: str) -> EmbeddingJob:
        """An embedding job by id."""
        return self._parts.store.get_embedding_job(embedding_job_id)

    def resume(self) -> None:
        """Go on with the jobs that were at work when the controller ended."""
        for running in self._parts.store.running_embedding_jobs():
            self._parts.embedding_jobs.start(running)

    def _collection(self, model_id: str) -> str:
        return f"{self._dataset}_{hashlib.sha256(model_id.encode()).hexdigest()[:16]}"

    def _forget_lost(self, collection: str) -> None:
        """When the collection is gone from the store, all its images lack their vectors again."""
        try:
            self._parts.peers.vectors.generation(collection)
        except NotFound:
            self._parts.store.unmark_embedded(collection)
