# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of answers, labels and workers. An answer is written once by (job, image, worker) and never changed.

The one exception is a person's wish to be forgotten, which puts a new pseudonym in place of the old one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    ScalarSelect,
    Select,
    and_,
    case,
    delete,
    func,
    select,
    tuple_,
    update,
)

from gandt.adapters.sql_jobs_engine import SqlStore, from_micros, to_micros
from gandt.adapters.sql_jobs_schema import (
    answer_jobs,
    answers,
    forgotten,
    job_images,
    jobs,
    picks,
    quarantine,
    reviews,
    rounds,
    workers,
)
from gandt.domain.catalog import QuarantinedAnswer, WorkerRecord
from gandt.domain.datasets import Answer, AnswerState
from gandt.domain.labeling.rounds import Tally
from gandt.ports.answer_store import AnswerKey


class AnswerRows(SqlStore):
    """Answers as workers gave them, and what is known of the workers."""

    def add_answers(self, campaign_id: str, given: Sequence[Answer]) -> int:
        """Store answers; those that are there already stay as they are. Returns how many were new."""
        if not given:
            return 0
        count = _of(select(func.count()).select_from(answers), campaign_id, "")
        with self.write() as connection:
            aliases = {row.worker_sha256: row.new_worker_id for row in connection.execute(select(forgotten))}
            names = dict.fromkeys(answer.job for answer in given)
            sequences = {name: _job_sequence(self, connection, campaign_id, name) for name in names}
            rows = [
                {
                    "job_sequence": sequences[answer.job],
                    "image_id": answer.image_id,
                    "worker_id": aliases.get(_worker_hash(answer.worker_id), answer.worker_id),
                    "campaign_id": campaign_id,
                    "job_name": answer.job,
                    "labels": json.dumps(answer.labels, ensure_ascii=False),
                    "state": answer.state.value,
                    "page": answer.page,
                    "answered_at": to_micros(answer.answered_at),
                    "seconds": answer.seconds,
                }
                for answer in given
            ]
            before = connection.execute(count).scalar_one()
            connection.execute(self.insert(answers).on_conflict_do_nothing(), rows)
            return int(connection.execute(count).scalar_one() - before)

    def list_answers(
        self, campaign_id: str, job_name: str = "", after: AnswerKey | None = None, limit: int = 10_000
    ) -> list[tuple[AnswerKey, Answer]]:
        """Answers by job (in order of their first answer), image and worker, after a key."""
        key = tuple_(answers.c.job_sequence, answers.c.image_id, answers.c.worker_id)
        query = _of(select(answers), campaign_id, job_name)
        if after is not None:
            query = query.where(key > after)
        with self.read() as connection:
            rows = connection.execute(
                query.order_by(answers.c.job_sequence, answers.c.image_id, answers.c.worker_id).limit(limit)
            ).all()
        return [((row.job_sequence, row.image_id, row.worker_id), _answer(row)) for row in rows]

    def all_answers(self, campaign_id: str) -> list[Answer]:
        """Every answer of a campaign, in the order of `list_answers`."""
        found: list[Answer] = []
        after: AnswerKey | None = None
        while page := self.list_answers(campaign_id, after=after):
            found.extend(answer for _, answer in page)
            after = page[-1][0]
        return found

    def count_answers(self, campaign_id: str, job_name: str = "") -> int:
        """Answers of a campaign, or of one of its jobs."""
        with self.read() as connection:
            query = _of(select(func.count()).select_from(answers), campaign_id, job_name)
            return connection.scalar(query) or 0

    def add_quarantine(self, entries: Sequence[QuarantinedAnswer]) -> None:
        """Keep answers that could not be understood; the same one is kept once."""
        rows = [
            {
                "job_name": entry.job_name,
                "digest": hashlib.sha256(f"{entry.uri}\0{entry.rule}\0{entry.excerpt}".encode()).hexdigest(),
                "uri": entry.uri,
                "rule": entry.rule,
                "excerpt": entry.excerpt,
            }
            for entry in entries
        ]
        if rows:
            with self.write() as connection:
                connection.execute(self.insert(quarantine).on_conflict_do_nothing(), rows)

    def list_quarantine(self, job_names: Sequence[str]) -> list[QuarantinedAnswer]:
        """What was set aside of some jobs."""
        query = select(quarantine).where(quarantine.c.job_name.in_(job_names))
        with self.read() as connection:
            rows = connection.execute(query.order_by(quarantine.c.job_name, quarantine.c.digest)).all()
        return [QuarantinedAnswer(row.job_name, row.uri, row.rule, row.excerpt) for row in rows]

    def tallies(self, round_id: str) -> list[Tally]:
        """How often each image of a round was answered and how often its page failed, in rank order."""
        return self._tallies(round_id, picks.c.round_id == round_id)

    def earlier_tallies(self, round_id: str) -> list[Tally]:
        """The same of all rounds before it in its campaign, oldest first; without images that an expert decided."""
        this = rounds.alias()
        number = select(this.c.number).where(this.c.round_id == round_id).scalar_subquery()
        decided = select(reviews.c.image_id).where(reviews.c.campaign_id == _campaign_of(round_id))
        return self._tallies(round_id, rounds.c.number < number, picks.c.image_id.not_in(decided))

    def _tallies(self, round_id: str, *which: ColumnElement[bool]) -> list[Tally]:
        """Tallies of picks of the round's campaign, by round and rank.

        Args:
            which: conditions on `picks` and `rounds`.
        """
        campaign = _campaign_of(round_id)
        given = (
            select(
                answers.c.image_id,
                func.count().label("answers"),
                func.sum(case((answers.c.state == AnswerState.ANSWERED.value, 1), else_=0)).label("votes"),
            )
            .where(answers.c.campaign_id == campaign)
            .group_by(answers.c.image_id)
            .subquery()
        )
        failed = (
            select(job_images.c.image_id, func.sum(job_images.c.failed).label("failed"))
            .select_from(job_images.join(jobs, jobs.c.job_name == job_images.c.job_name))
            .where(jobs.c.campaign_id == campaign)
            .group_by(job_images.c.image_id)
            .subquery()
        )
        joined = picks.join(rounds, rounds.c.round_id == picks.c.round_id)
        for part in (given, failed):
            joined = joined.outerjoin(part, part.c.image_id == picks.c.image_id)
        query = (
            select(picks.c.image_id, given.c.answers, given.c.votes, failed.c.failed)
            .select_from(joined)
            .where(picks.c.campaign_id == campaign, *which)
            .order_by(rounds.c.number, picks.c.rank, picks.c.image_id)
        )
        with self.read() as connection:
            return [
                Tally(row.image_id, int(row.votes or 0), row.answers or 0, False, int(row.failed or 0))
                for row in connection.execute(query)
            ]

    def list_workers(self, campaign_id: str, after_id: str, limit: int) -> list[WorkerRecord]:
        """Workers of a campaign by id, after an id."""
        query = select(workers).where(workers.c.campaign_id == campaign_id, workers.c.worker_id > after_id)
        with self.read() as connection:
            rows = connection.execute(query.order_by(workers.c.worker_id).limit(limit)).all()
        names = [field.name for field in fields(WorkerRecord)]
        return [WorkerRecord(**{name: row._mapping[name] for name in names}) for row in rows]

    def forget_worker(self, worker_id: str, new_worker_id: str, now: datetime) -> int:
        """Put a new pseudonym in place of a worker's; returns the answers that now stand under it.

        A hash of the old one stays until no open job can bring it back (`drop_forgotten`).
        """
        with self.write() as connection:
            here = answers.c.worker_id == worker_id
            count = connection.execute(update(answers).where(here).values(worker_id=new_worker_id)).rowcount
            connection.execute(update(workers).where(workers.c.worker_id == worker_id).values(worker_id=new_worker_id))
            row = self.insert(forgotten).values(
                worker_sha256=_worker_hash(worker_id), new_worker_id=new_worker_id, at=to_micros(now)
            )
            connection.execute(row.on_conflict_do_nothing())
        return count

    def drop_forgotten(self) -> None:
        """Forget the hashes of forgotten workers when no job is open."""
        is_open = select(jobs.c.sequence).where(jobs.c.state.not_in(("settled", "refused"))).exists()
        with self.write() as connection:
            connection.execute(delete(forgotten).where(~is_open))


def _campaign_of(round_id: str) -> ScalarSelect[str]:
    this = rounds.alias()
    return select(this.c.campaign_id).where(this.c.round_id == round_id).scalar_subquery()


def _worker_hash(worker_id: str) -> str:
    return hashlib.sha256(worker_id.encode()).hexdigest()


def _job_sequence(store: SqlStore, connection: Connection, campaign_id: str, job_name: str) -> int:
    row = store.insert(answer_jobs).values(campaign_id=campaign_id, job_name=job_name)
    connection.execute(row.on_conflict_do_nothing())
    here = and_(answer_jobs.c.campaign_id == campaign_id, answer_jobs.c.job_name == job_name)
    return int(connection.execute(select(answer_jobs.c.sequence).where(here)).scalar_one())


def _of(query: Select[Any], campaign_id: str, job_name: str) -> Select[Any]:
    query = query.where(answers.c.campaign_id == campaign_id)
    return query.where(answers.c.job_name == job_name) if job_name else query


def _answer(row: Row[Any]) -> Answer:
    return Answer(
        image_id=row.image_id,
        worker_id=row.worker_id,
        labels=tuple(json.loads(row.labels)),
        state=AnswerState(row.state),
        job=row.job_name,
        page=row.page,
        answered_at=from_micros(row.answered_at),
        seconds=row.seconds,
    )
