# SPDX-License-Identifier: GPL-3.0-or-later
"""The port for bulk embedding: who carries images to the model and vectors to the store."""

from __future__ import annotations

from typing import Protocol


class EmbeddingJobs(Protocol):
    """Runs embedding jobs in the background. Progress is kept in the job store, so that they go on after a crash."""

    def start(self, embedding_job_id: str) -> None:
        """Begin a job, or go on with it; nothing happens when it is at work already."""
        ...

    def unsaid_failure(self, embedding_job_id: str) -> str:
        """Why a job failed that the store still calls running, because it could not be written; "" otherwise."""
        ...

    def close(self) -> None:
        """Stop after the block at work; what is left goes on with the next `start`."""
        ...
