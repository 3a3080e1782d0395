# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of labeling jobs and the ledger: an intent, its pages and its reservation are written together or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from gandt.adapters.sql_jobs_campaigns import RELEASE, RESERVE, SETTLE, campaign_row, read_money, touch
from gandt.adapters.sql_jobs_engine import SqlStore, from_micros, moment, to_micros
from gandt.adapters.sql_jobs_rounds import read_round, save_round
from gandt.adapters.sql_jobs_schema import answers, job_images, jobs, ledger
from gandt.domain.errors import NotFound, OverBudget, WrongState
from gandt.domain.labeling.jobs import JobRequest, JobState, LabelingJob
from gandt.domain.labeling.rounds import PageGroup, RoundState


class LabelingRows(SqlStore):
    """Labeling jobs, the images that they ask about, and the money that they take."""

    def record_intent(
        self, job: LabelingJob, group: PageGroup, pages: Mapping[str, str], request_id: str
    ) -> LabelingJob:
        """Write down a job, its pages and its reservation, and take its group off the round; one transaction.

        Args:
            job: in state INTENT; `job.reserved` is reserved.
            group: what the job is about; must be the round's first pending group.
            pages: page of each image, gold included.
            request_id: "" or an id that returns the same job when it comes again.

        Raises:
            OverBudget: the reservation does not fit into the campaign's money; nothing is written.
            WrongState: the group is not the round's first pending one (any more).
        """
        with self.write() as connection:
            campaign = campaign_row(connection, job.campaign_id, lock=self.locks_rows)
            if request_id:
                old = connection.execute(select(jobs).where(jobs.c.request_id == request_id)).first()
                if old is not None:
                    return _job(connection, old)
            before = read_round(connection, job.round_id, lock=self.locks_rows)
            if not before.pending or before.pending[0] != group:
                raise WrongState(
                    f"round {before.number} has no such group of images waiting for a labeling job",
                    kind="round",
                    id=job.round_id,
                    state=before.state.value,
                    reason="NOTHING_TO_LABEL",
                )
            money = read_money(connection, job.campaign_id, campaign.budget)
            if job.reserved > money.available:
                raise OverBudget(
                    f"labeling job {job.job_name} may cost {usd(job.reserved)} and only {usd(money.available)} of the "
                    f"budget of {usd(money.budget)} are left",
                    fix="raise the budget, or take a smaller round",
                )
            connection.execute(jobs.insert().values(**_columns(job), request_id=request_id or None))
            rows = [{"job_name": job.job_name, "image_id": image, "page": page} for image, page in pages.items()]
            connection.execute(job_images.insert(), rows)
            _book(self, connection, job, RESERVE, job.reserved, job.created_at)
            save_round(
                connection,
                before,
                replace(before, state=RoundState.LABELING, pending=before.pending[1:]),
                job.created_at,
            )
            touch(connection, job.campaign_id, job.created_at)
            return _job(connection, _job_row(connection, job.job_name))

    def rename_intent(self, job_name: str, renamed: LabelingJob, now: datetime) -> LabelingJob:
        """Give an intent another name and request (its name was taken); pages and reservation go along."""
        with self.write() as connection:
            before = _job(connection, _job_row(connection, job_name, lock=self.locks_rows))
            if before.state is not JobState.INTENT:
                return before
            columns = _columns(renamed)
            columns["version"] = before.version + 1
            connection.execute(update(jobs).where(jobs.c.job_name == job_name).values(**columns))
            for table in (job_images, ledger):
                here = table.c.job_name == job_name
                connection.execute(update(table).where(here).values(job_name=renamed.job_name))
            touch(connection, before.campaign_id, now)
            return _job(connection, _job_row(connection, renamed.job_name))

    def has_job(self, job_name: str) -> bool:
        """Whether a job of that name was ever written down."""
        with self.read() as connection:
            return connection.scalar(select(jobs.c.sequence).where(jobs.c.job_name == job_name)) is not None

    def get_job(self, job_name: str) -> LabelingJob:
        """A job by name.

        Raises:
            NotFound: there is none.
        """
        with self.read() as connection:
            return _job(connection, _job_row(connection, job_name))

    def job_of_request(self, request_id: str) -> LabelingJob | None:
        """The job that a request made."""
        with self.read() as connection:
            row = connection.execute(select(jobs).where(jobs.c.request_id == request_id)).first()
            return None if row is None else _job(connection, row)

    def job_version(self, job_name: str) -> int:
        """Only the version, for those who wait for a change."""
        with self.read() as connection:
            return connection.scalar(select(jobs.c.version).where(jobs.c.job_name == job_name)) or 0

    def list_jobs(
        self, campaign_id: str, round_id: str = "", after_sequence: int = 0, limit: int = 1000, only_open: bool = False
    ) -> list[LabelingJob]:
        """Jobs of a campaign, or of one round, oldest first."""
        query = select(jobs).where(jobs.c.campaign_id == campaign_id, jobs.c.sequence > after_sequence)
        if round_id:
            query = query.where(jobs.c.round_id == round_id)
        if only_open:
            query = query.where(jobs.c.state.not_in([state.value for state in JobState if state.is_final]))
        with self.read() as connection:
            rows = connection.execute(query.order_by(jobs.c.sequence).limit(limit)).all()
            return [_job(connection, row) for row in rows]

    def count_jobs(self) -> dict[JobState, int]:
        """Jobs by state, for the metrics."""
        with self.read() as connection:
            found = connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state)).all()
        return {JobState(state): count for state, count in found}

    def oldest_open_job(self) -> datetime | None:
        """When the oldest job that is not final was made."""
        final = [state.value for state in JobState if state.is_final]
        with self.read() as connection:
            return from_micros(connection.scalar(select(func.min(jobs.c.created_at)).where(jobs.c.state.not_in(final))))

    def job_pages(self, job_name: str) -> dict[str, str]:
        """Page of each image of a job."""
        with self.read() as connection:
            query = select(job_images.c.image_id, job_images.c.page).where(job_images.c.job_name == job_name)
            return {row.image_id: row.page for row in connection.execute(query)}

    def asked_images(self, campaign_id: str) -> set[str]:
        """Every image that any job of a campaign asked about, gold included."""
        query = (
            select(job_images.c.image_id)
            .select_from(job_images.join(jobs, jobs.c.job_name == job_images.c.job_name))
            .where(jobs.c.campaign_id == campaign_id)
        )
        with self.read() as connection:
            return set(connection.scalars(query))

    def change_job(
        self, job_name: str, change: Callable[[LabelingJob], LabelingJob], now: datetime, quiet: bool = False
    ) -> LabelingJob:
        """Read, change and write a job in one transaction; a final job stays as it is.

        Args:
            quiet: the change is of no interest to watchers (a retry time).
        """
        with self.write() as connection:
            before = _job(connection, _job_row(connection, job_name, lock=self.locks_rows))
            after = change(before)
            if before.state.is_final or after == before:
                return before
            columns = _columns(after)
            columns["version"] = before.version + (0 if quiet else 1)
            connection.execute(update(jobs).where(jobs.c.job_name == job_name).values(**columns))
            if not quiet:
                touch(connection, before.campaign_id, now)
            return _job(connection, _job_row(connection, job_name))

    def settle_job(self, settled: LabelingJob, failed_images: Mapping[str, int], now: datetime) -> LabelingJob:
        """End a job: its real cost instead of its reservation, its counts, and the images whose page failed.

        Doing it again changes nothing: a job is settled once.

        Args:
            failed_images: how many failures each counts for.
        """
        with self.write() as connection:
            before = _job(connection, _job_row(connection, settled.job_name, lock=self.locks_rows))
            if before.state.is_final:
                return before
            _book(self, connection, before, SETTLE, settled.cost, now)
            connection.execute(
                update(jobs)
                .where(jobs.c.job_name == before.job_name)
                .values(
                    state=JobState.SETTLED.value,
                    message=settled.message,
                    pages_labeled=settled.pages_labeled,
                    pages_failed=settled.pages_failed,
                    tries=0,
                    next_try_at=None,
                    version=before.version + 1,
                )
            )
            for image_id, failures in failed_images.items():
                here = (job_images.c.job_name == before.job_name) & (job_images.c.image_id == image_id)
                connection.execute(update(job_images).where(here).values(failed=failures))
            touch(connection, before.campaign_id, now)
            return _job(connection, _job_row(connection, before.job_name))

    def refuse_job(self, job_name: str, message: str, group: PageGroup, now: datetime) -> LabelingJob:
        """End a job that never began: its money is released and its group waits again; its request id is free again."""
        with self.write() as connection:
            before = _job(connection, _job_row(connection, job_name, lock=self.locks_rows))
            if before.state.is_final:
                return before
            _book(self, connection, before, RELEASE, before.reserved, now)
            connection.execute(
                update(jobs)
                .where(jobs.c.job_name == job_name)
                .values(state=JobState.REFUSED.value, message=message, request_id=None, version=before.version + 1)
            )
            others = select(func.count()).where(
                jobs.c.round_id == before.round_id, jobs.c.state != JobState.REFUSED.value
            )
            waiting = read_round(connection, before.round_id, lock=self.locks_rows)
            state = RoundState.COLLECTED if connection.scalar(others) else RoundState.SELECTED
            save_round(connection, waiting, replace(waiting, state=state, pending=(group, *waiting.pending)), now)
            touch(connection, before.campaign_id, now)
            return _job(connection, _job_row(connection, job_name))


def usd(micros: int) -> str:
    """Millionths of a US dollar for people."""
    return f"${micros / 1_000_000:,.2f}"


def _book(store: SqlStore, connection: Connection, job: LabelingJob, entry: str, amount: int, now: datetime) -> None:
    row = store.insert(ledger).values(
        campaign_id=job.campaign_id, job_name=job.job_name, entry=entry, amount=amount, at=to_micros(now)
    )
    connection.execute(row.on_conflict_do_nothing())


def _job_row(connection: Connection, job_name: str, lock: bool = False) -> Row[Any]:
    query = select(jobs).where(jobs.c.job_name == job_name)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise NotFound(f"there is no labeling job {job_name}", kind="labeling job", id=job_name)
    return row


def _columns(job: LabelingJob) -> dict[str, Any]:
    return {
        "job_name": job.job_name,
        "round_id": job.round_id,
        "campaign_id": job.campaign_id,
        "state": job.state.value,
        "message": job.message,
        "request": job.request.to_json(),
        "spec_sha256": job.spec_sha256,
        "attempt": job.attempt,
        "arn": job.arn,
        "output_manifest_uri": job.output_manifest_uri,
        "images": job.images,
        "pages": job.pages,
        "workers_per_page": job.workers_per_page,
        "pages_labeled": job.pages_labeled,
        "pages_failed": job.pages_failed,
        "tries": job.tries,
        "next_try_at": to_micros(job.next_try_at),
        "created_at": to_micros(job.created_at),
        "version": job.version,
    }


def _job(connection: Connection, row: Row[Any]) -> LabelingJob:
    query = select(ledger.c.entry, ledger.c.amount).where(ledger.c.job_name == row.job_name)
    booked = {entry: amount for entry, amount in connection.execute(query)}  # noqa: C416
    answered = (
        select(func.count())
        .select_from(answers)
        .where(answers.c.job_name == row.job_name, answers.c.campaign_id == row.campaign_id)
    )
    return LabelingJob(
        job_name=row.job_name,
        round_id=row.round_id,
        campaign_id=row.campaign_id,
        state=JobState(row.state),
        request=JobRequest.from_json(row.request),
        spec_sha256=row.spec_sha256,
        images=row.images,
        pages=row.pages,
        workers_per_page=row.workers_per_page,
        created_at=moment(row.created_at),
        sequence=row.sequence,
        message=row.message,
        attempt=row.attempt,
        arn=row.arn,
        output_manifest_uri=row.output_manifest_uri,
        pages_labeled=row.pages_labeled,
        pages_failed=row.pages_failed,
        answers=connection.scalar(answered) or 0,
        reserved=booked.get(RESERVE, 0),
        cost=booked.get(SETTLE, 0),
        tries=row.tries,
        next_try_at=from_micros(row.next_try_at),
        version=row.version,
    )
