# SPDX-License-Identifier: GPL-3.0-or-later
"""The job store in SQL: SQLite on one machine, PostgreSQL by URL. One class, one file of rows for each subject."""

from __future__ import annotations

import fcntl
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO

from sqlalchemy import func, select, update

from gandt.adapters.sql_jobs_answers import AnswerRows
from gandt.adapters.sql_jobs_campaigns import CampaignRows
from gandt.adapters.sql_jobs_catalog import CatalogRows
from gandt.adapters.sql_jobs_draws import DrawRows
from gandt.adapters.sql_jobs_engine import to_micros
from gandt.adapters.sql_jobs_labeling import LabelingRows
from gandt.adapters.sql_jobs_labels import LabelRows
from gandt.adapters.sql_jobs_rounds import RoundRows
from gandt.adapters.sql_jobs_schema import embedding_jobs, embedding_rejects, leases
from gandt.domain import disk
from gandt.domain.catalog import EmbeddingJob, EmbeddingState, RejectedFile
from gandt.domain.errors import NotFound

LISTED_REJECTS = 100


class SqlJobs(CatalogRows, CampaignRows, RoundRows, DrawRows, LabelingRows, AnswerRows, LabelRows):
    """A `gandt.ports.job_store.JobStore` on SQLAlchemy Core.

    Args:
        url: `sqlite:///path/controller.db` or `postgresql+psycopg://user@host/name`.

    Raises:
        BackendUnavailable: the database does not answer, or its server is read-only.
        WrongState: its disk is full or read-only.
        CorruptData: the file is no database.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._lock_file: IO[str] | None = None

    def close(self) -> None:
        """Close all connections and give the lease back."""
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None
        super().close()

    def take_lease(self, name: str, holder: str, now: datetime, seconds: float) -> bool:
        """Take or renew a lease; False while another holder has it.

        On one machine it is a lock on a file beside the database, which ends with its process, however that ends;
        in PostgreSQL it is a row that runs out after `seconds`.
        """
        path = self.database_file
        if not self.locks_rows:
            return path is None or self._lock_beside(path.with_name(f"{path.name}.{name}.lock"))
        until = to_micros(now + timedelta(seconds=seconds))
        free = (leases.c.holder == holder) | (leases.c.expires_at <= to_micros(now))
        with self.write() as connection:
            row = self.insert(leases).values(name=name, holder=holder, expires_at=until)
            if connection.execute(row.on_conflict_do_nothing().returning(leases.c.name)).first() is not None:
                return True
            change = update(leases).where(leases.c.name == name, free).values(holder=holder, expires_at=until)
            return connection.execute(change).rowcount == 1

    def drop_lease(self, name: str, holder: str) -> None:
        """Give a lease back at once, so that another holder need not wait."""
        if not self.locks_rows:
            if self._lock_file is not None:
                self._lock_file.close()
                self._lock_file = None
            return
        with self.write() as connection:
            here = (leases.c.name == name) & (leases.c.holder == holder)
            connection.execute(update(leases).where(here).values(expires_at=0))

    def _lock_beside(self, path: Path) -> bool:
        if self._lock_file is not None:
            return True
        try:
            file = path.open("a")
        except OSError as error:
            raise disk.unwritable(error, f"the file {path} of the job store") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._lock_file = file
        return True

    def create_embedding_job(self, job: EmbeddingJob, request_id: str) -> EmbeddingJob:
        """Store an embedding job; the same request id returns the one that it made."""
        with self.write() as connection:
            if request_id:
                same = embedding_jobs.c.request_id == request_id
                old = connection.scalar(select(embedding_jobs.c.embedding_job_id).where(same))
                if old is not None:
                    job = replace(job, embedding_job_id=old)
            row = self.insert(embedding_jobs).values(
                embedding_job_id=job.embedding_job_id,
                request_id=request_id or None,
                state=job.state.value,
                message=job.message,
                model_id=job.model_id,
                collection=job.collection,
                total=job.total,
            )
            connection.execute(row.on_conflict_do_nothing())
        return self.get_embedding_job(job.embedding_job_id)

    def get_embedding_job(self, embedding_job_id: str) -> EmbeddingJob:
        """An embedding job by id.

        Raises:
            NotFound: there is none.
        """
        here = embedding_rejects.c.embedding_job_id == embedding_job_id
        with self.read() as connection:
            query = select(embedding_jobs).where(embedding_jobs.c.embedding_job_id == embedding_job_id)
            row = connection.execute(query).first()
            if row is None:
                raise NotFound(
                    f"there is no embedding job {embedding_job_id}", kind="embedding job", id=embedding_job_id
                )
            failed = connection.scalar(select(func.count()).select_from(embedding_rejects).where(here)) or 0
            listed = select(embedding_rejects).where(here).order_by(embedding_rejects.c.image_id).limit(LISTED_REJECTS)
            rejected = tuple(RejectedFile(r.uri, r.reason, r.message) for r in connection.execute(listed))
        return EmbeddingJob(
            embedding_job_id=row.embedding_job_id,
            state=EmbeddingState(row.state),
            model_id=row.model_id,
            collection=row.collection,
            total=row.total,
            embedded=row.embedded,
            failed=failed,
            message=row.message,
            rejected=rejected,
        )

    def running_embedding_jobs(self) -> list[str]:
        """Ids of the embedding jobs that are at work or were when the process ended, oldest first."""
        running = embedding_jobs.c.state == EmbeddingState.RUNNING.value
        with self.read() as connection:
            query = select(embedding_jobs.c.embedding_job_id).where(running).order_by(embedding_jobs.c.number)
            return list(connection.scalars(query))

    def advance_embedding_job(
        self, embedding_job_id: str, embedded: int, rejected: Sequence[tuple[str, RejectedFile]]
    ) -> None:
        """Add images that were embedded, and images (by id) that could not be."""
        here = embedding_jobs.c.embedding_job_id == embedding_job_id
        with self.write() as connection:
            connection.execute(update(embedding_jobs).where(here).values(embedded=embedding_jobs.c.embedded + embedded))
            for image_id, reject in rejected:
                row = self.insert(embedding_rejects).values(
                    embedding_job_id=embedding_job_id,
                    image_id=image_id,
                    uri=reject.uri,
                    reason=reject.reason,
                    message=reject.message,
                )
                connection.execute(row.on_conflict_do_nothing())

    def end_embedding_job(self, embedding_job_id: str, state: EmbeddingState, message: str) -> None:
        """Set how an embedding job ended, or that it runs again."""
        here = embedding_jobs.c.embedding_job_id == embedding_job_id
        with self.write() as connection:
            connection.execute(update(embedding_jobs).where(here).values(state=state.value, message=message))
