# SPDX-License-Identifier: GPL-3.0-or-later
"""Use cases of embedding jobs: which images lack a vector, in which collection, and who embeds them.

Each model has a collection of its own. What selection uses is the collection that the fact `collection` names, and it
changes when a job has finished: a running campaign never sees a collection that is being filled for the first time.
The alias `<dataset>_live` tells others the same; it is switched first, so a job that is cut off between is repeated.
"""

from __future__ import annotations

from dataclasses import replace

from gandt.domain.catalog import EmbeddingJob, EmbeddingState
from gandt.domain.collections import collection_name, live_alias
from gandt.domain.errors import NotFound, WrongState
from gandt.ports.catalog_store import CatalogStore
from gandt_jobcontroller.service.parts import COLLECTION, Parts
from gandt_jobcontroller.service.peers import Vectors

WANTED = "collection_wanted"  # the collection of the newest embedding job


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
        collection = collection_name(self._dataset, model.model_id)
        with parts.step:
            store.set_fact(WANTED, collection)
            for running in store.running_embedding_jobs():
                job = store.get_embedding_job(running)
                if job.collection == collection:
                    parts.embedding_jobs.start(running)
                    return job
            self._forget_lost(collection)
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
            if job.state is EmbeddingState.COMPLETED:
                publish(store, parts.peers.vectors, self._dataset, job)
            else:
                parts.embedding_jobs.start(job.embedding_job_id)
            return store.get_embedding_job(job.embedding_job_id)

    def get(self, embedding_job_id: str) -> EmbeddingJob:
        """An embedding job by id; one that failed on a disk that did not even take that is shown as failed."""
        job = self._parts.store.get_embedding_job(embedding_job_id)
        unsaid = self._parts.embedding_jobs.unsaid_failure(job.embedding_job_id)
        if job.state is not EmbeddingState.RUNNING or not unsaid:
            return job
        return replace(job, state=EmbeddingState.FAILED, message=unsaid)

    def resume(self) -> None:
        """Go on with the jobs that were at work when the controller ended."""
        for running in self._parts.store.running_embedding_jobs():
            self._parts.embedding_jobs.start(running)

    def _forget_lost(self, collection: str) -> None:
        """When the collection is gone from the store, all its images lack their vectors again."""
        try:
            self._parts.peers.vectors.describe(collection)
        except NotFound:
            self._parts.store.unmark_embedded(collection)


def publish(store: CatalogStore, vectors: Vectors, dataset: str, job: EmbeddingJob) -> None:
    """Make the collection of a finished job the one in use, unless it is empty or a newer job wants another one."""
    if store.fact(WANTED) != job.collection:
        return
    try:
        collection = vectors.describe(job.collection)
    except NotFound:  # there was nothing to embed
        return
    if collection.items:
        vectors.point_alias(live_alias(dataset), collection)
        store.set_fact(COLLECTION, job.collection)
