# SPDX-License-Identifier: GPL-3.0-or-later
"""Embedding jobs in a thread of this process: image URIs to the embedding service, vectors to the vector store.

A block's images are marked in the catalog only after the store has acknowledged its vectors, so a job that is cut off
anywhere embeds again at most what was not marked; the store replaces equal ids, so nothing is doubled.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np

from gandt.domain.catalog import EmbeddingJob, EmbeddingState, RejectedFile
from gandt.domain.disk import is_disk_trouble
from gandt.domain.embedding import EmbedResult, ImageInput, ModelInfo
from gandt.domain.errors import BackendUnavailable, DeadlineExceeded, GandtError, Overloaded
from gandt.domain.vectors import VectorSet
from gandt.ports.job_store import JobStore

BLOCK_IMAGES = 256
PAGE_IMAGES = 1_000
MAX_TRIES = 8  # without any progress in between
MAX_DISK_TRIES = 4  # 7 s: a full disk seldom mends itself, and somebody waits to be told
_log = logging.getLogger(__name__)


class EmbedsImages(Protocol):
    """The part of the embedding client that a job needs."""

    def get_model(self, model_id: str = "") -> ModelInfo:
        """A model by fingerprint."""
        ...

    def embed_stream(self, images: Iterable[ImageInput], model_id: str = "") -> Iterator[EmbedResult]:
        """A result for each image, in the order of completion."""
        ...


class StoresVectors(Protocol):
    """The part of the vector search service that a job needs."""

    def ensure(self, collection: str, dim: int, model_id: str) -> int:
        """Create the collection unless it is there; how many vectors it has.

        Raises:
            AlreadyExists: it is there with another dimension or model.
        """
        ...

    def stored(self, collection: str, image_ids: Sequence[str]) -> Sequence[str]:
        """Those of some images that have a vector in the collection."""
        ...

    def upsert(self, collection: str, block: VectorSet) -> Sequence[tuple[str, GandtError]]:
        """Store a block durably; returns the ids that were refused, with the reason."""
        ...


class LocalEmbeddingJobs:
    """A `gandt.ports.embedding_jobs.EmbeddingJobs` with one thread a job.

    Args:
        store: keeps progress and the catalog's flags.
        embedder, vectors: the services.
        publish: called with a job whose images are all dealt with, before it is told to have completed.
        block_images, page_images: stored at once, and read from the catalog at once.
        max_disk_tries: on a full disk, without any progress in between.
    """

    def __init__(
        self,
        store: JobStore,
        embedder: EmbedsImages,
        vectors: StoresVectors,
        publish: Callable[[EmbeddingJob], None],
        *,
        block_images: int = BLOCK_IMAGES,
        page_images: int = PAGE_IMAGES,
        max_disk_tries: int = MAX_DISK_TRIES,
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._vectors = vectors
        self._publish = publish
        self._block_images = block_images
        self._page_images = page_images
        self._max_disk_tries = max_disk_tries
        self._threads: dict[str, threading.Thread] = {}
        self._unsaid: dict[str, str] = {}
        self._lock = threading.Lock()
        self._ending = threading.Event()

    def start(self, embedding_job_id: str) -> None:
        """See the port."""
        with self._lock:
            running = self._threads.get(embedding_job_id)
            if self._ending.is_set() or (running is not None and running.is_alive()):
                return
            self._unsaid.pop(embedding_job_id, None)
            name = f"gandt-embed-{embedding_job_id}"
            thread = threading.Thread(target=self.run, args=(embedding_job_id,), name=name, daemon=True)
            self._threads[embedding_job_id] = thread
            thread.start()

    def unsaid_failure(self, embedding_job_id: str) -> str:
        """See the port."""
        return self._unsaid.get(embedding_job_id, "")

    def close(self) -> None:
        """See the port."""
        self._ending.set()
        with self._lock:
            threads = list(self._threads.values())
        for thread in threads:
            thread.join()

    def run(self, embedding_job_id: str) -> None:
        """Work on a job until it has ended, or this object is closed."""
        try:
            self._work(self._store.get_embedding_job(embedding_job_id))
            if not self._ending.is_set():
                failed = self._store.get_embedding_job(embedding_job_id).failed
                message = f"{failed} images could not be embedded" if failed else ""
                self._store.end_embedding_job(embedding_job_id, EmbeddingState.COMPLETED, message)
        except GandtError as error:
            _log.warning("embedding job %s: %s", embedding_job_id, error, extra={"reason": error.reason})
            self._fail(embedding_job_id, str(error))

    def _fail(self, embedding_job_id: str, message: str) -> None:
        try:
            self._store.end_embedding_job(embedding_job_id, EmbeddingState.FAILED, message)
        except GandtError as error:  # the disk that the job failed on: who asks is told from memory
            if not is_disk_trouble(error):
                raise
            self._unsaid[embedding_job_id] = message

    def _work(self, job: EmbeddingJob) -> None:
        """Embed what is missing; trouble that passes is waited for as long as something gets done in between."""
        tries = 0
        progress = _Progress()
        while not self._ending.is_set():
            before = progress.images
            try:
                dim = self._embedder.get_model(job.model_id).dim
                if self._vectors.ensure(job.collection, dim, job.model_id):
                    self._adopt(job, progress)
                self._pass(job, progress)
                if not self._ending.is_set():
                    self._publish(job)
                return
            except GandtError as error:
                on_disk = is_disk_trouble(error)
                if not on_disk and not isinstance(error, BackendUnavailable | Overloaded | DeadlineExceeded):
                    raise
                tries = 1 if progress.images > before else tries + 1
                if tries >= (self._max_disk_tries if on_disk else MAX_TRIES):
                    raise
                _log.info("embedding job %s waits: %s", job.embedding_job_id, error)
                self._ending.wait(min(30.0, 0.5 * 2.0**tries))

    def _adopt(self, job: EmbeddingJob, progress: _Progress) -> None:
        """Mark the images whose vectors the store has already: imported ones, and those of a block that was cut off."""
        after = ""
        while not self._ending.is_set() and (page := self._store.unembedded(job.collection, after, self._page_images)):
            found = self._vectors.stored(job.collection, [image.image_id for image in page])
            if found:
                self._store.mark_embedded(job.collection, found)
                self._store.advance_embedding_job(job.embedding_job_id, len(found), [])
                progress.images += len(found)
            after = page[-1].image_id

    def _pass(self, job: EmbeddingJob, progress: _Progress) -> None:
        """One pass over the images that have no vector; refused ones are passed over."""
        results = self._embedder.embed_stream(self._missing(job, progress), job.model_id)
        block: list[EmbedResult] = []
        try:
            for result in results:
                if self._ending.is_set():
                    return
                block.append(result)
                if len(block) >= self._block_images:
                    self._finish(job, block, progress)
                    block = []
            if block:
                self._finish(job, block, progress)
        finally:
            close = getattr(results, "close", None)
            if close is not None:
                close()

    def _missing(self, job: EmbeddingJob, progress: _Progress) -> Iterator[ImageInput]:
        after = ""
        while page := self._store.unembedded(job.collection, after, self._page_images):
            for image in page:
                if image.image_id not in progress.refused:
                    progress.uris[image.image_id] = image.uri
                    yield ImageInput(image.image_id, uri=image.uri)
            after = page[-1].image_id

    def _finish(self, job: EmbeddingJob, block: Sequence[EmbedResult], progress: _Progress) -> None:
        """Store a block's vectors, then mark its images, then count them."""
        good = [(r.image_id, r.vector) for r in block if r.vector is not None]
        refused = {r.image_id: r.error for r in block if r.vector is None and r.error is not None}
        if good:
            matrix = np.stack([vector for _, vector in good])  # [N, D]
            vectors = VectorSet([image_id for image_id, _ in good], matrix, job.model_id)
            refused.update(self._vectors.upsert(job.collection, vectors))
        stored = [image_id for image_id, _ in good if image_id not in refused]
        self._store.mark_embedded(job.collection, stored)
        rejected = [(i, _rejected(progress.uris[i], error)) for i, error in refused.items()]
        self._store.advance_embedding_job(job.embedding_job_id, len(stored), rejected)
        progress.refused.update(refused)
        progress.images += len(block)
        for result in block:
            progress.uris.pop(result.image_id, None)


def _rejected(uri: str, error: GandtError) -> RejectedFile:
    """Why an image has no vector, named by its bucket and path unless the message does so."""
    path = uri.removeprefix("s3://")
    message = error.message if path in error.message else f"{path}: {error.message}"
    return RejectedFile(uri, error.reason, message)


class _Progress:
    """What this run of a job has dealt with."""

    def __init__(self) -> None:
        self.images = 0
        self.refused: set[str] = set()
        self.uris: dict[str, str] = {}  # of images under way
