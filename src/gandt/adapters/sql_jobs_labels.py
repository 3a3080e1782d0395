# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of labels: what aggregation, experts and seeds say, joined with how each image was picked."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import CompoundSelect, Select, and_, delete, func, literal, select, union_all

from gandt.adapters.sql_jobs_campaigns import touch
from gandt.adapters.sql_jobs_engine import SqlStore, to_micros
from gandt.adapters.sql_jobs_rounds import read_round, save_round
from gandt.adapters.sql_jobs_schema import files, known_labels, labels, picks, reviews, rounds, workers
from gandt.domain.catalog import KnownLabel, LabelKind, StoredLabel, WorkerRecord
from gandt.domain.datasets import LabelEstimate, LabelStatus
from gandt.domain.labeling.rounds import ASKED_AGAIN, Round

_TRUSTED = (LabelStatus.CERTAIN, LabelStatus.UNCERTAIN)


class LabelRows(SqlStore):
    """Labels of a campaign's images."""

    def write_labels(
        self,
        round_id: str,
        estimates: Sequence[LabelEstimate],
        known_workers: Sequence[WorkerRecord],
        targets: Collection[str],
        change: Callable[[Round], Round],
        now: datetime,
    ) -> Round:
        """Store what aggregation found and move the round on, in one transaction; an expert's labels stay.

        Args:
            estimates: verdicts on all images with answers.
            known_workers: replace what was known of the campaign's workers.
            targets: labels that count as found.
            change: gives the round's next state.
        """
        with self.write() as connection:
            before = read_round(connection, round_id, lock=self.locks_rows)
            campaign_id = before.campaign_id
            reviewed = set(
                connection.scalars(
                    select(labels.c.image_id).where(labels.c.campaign_id == campaign_id, labels.c.source == "review")
                )
            )
            rows = [
                {"campaign_id": campaign_id, "image_id": estimate.image_id, **_columns(estimate, targets)}
                for estimate in estimates
                if estimate.image_id not in reviewed
            ]
            if rows:
                row = self.insert(labels)
                changed = {name: row.excluded[name] for name in rows[0] if name not in ("campaign_id", "image_id")}
                upsert = row.on_conflict_do_update(index_elements=["campaign_id", "image_id"], set_=changed)
                connection.execute(upsert, rows)
            connection.execute(delete(workers).where(workers.c.campaign_id == campaign_id))
            if known_workers:
                people = [{"campaign_id": campaign_id, **asdict(worker)} for worker in known_workers]
                connection.execute(workers.insert(), people)
            save_round(connection, before, change(before), now)
            touch(connection, campaign_id, now)
            return read_round(connection, round_id, lock=False)

    def put_reviews(
        self, campaign_id: str, decisions: Sequence[KnownLabel], reviewer: str, targets: Collection[str], now: datetime
    ) -> None:
        """Store an expert's decisions: they become the labels, and each is kept in the review's own history."""
        with self.write() as connection:
            for decision in decisions:
                text = json.dumps(decision.labels, ensure_ascii=False)
                values = {
                    "labels": text,
                    "confidence": 1.0,
                    "status": LabelStatus.CERTAIN.value,
                    "source": "review",
                    "is_target": int(not set(targets).isdisjoint(decision.labels)),
                }
                row = self.insert(labels).values(campaign_id=campaign_id, image_id=decision.image_id, **values)
                connection.execute(row.on_conflict_do_update(index_elements=["campaign_id", "image_id"], set_=values))
                connection.execute(
                    reviews.insert().values(
                        campaign_id=campaign_id,
                        image_id=decision.image_id,
                        labels=text,
                        reviewer=reviewer,
                        at=to_micros(now),
                    )
                )
            touch(connection, campaign_id, now)

    def list_labels(
        self, campaign_id: str, status: str, include_seeds: bool, after_id: str, limit: int
    ) -> list[StoredLabel]:
        """Labels by image id, after an id, with their paths.

        Args:
            status: certain, uncertain, tied, unlabeled; "" takes all.
            include_seeds: seeds without a label of the campaign, too.
        """
        rows = _labels_query(campaign_id, status, include_seeds).subquery()
        query = select(rows).where(rows.c.image_id > after_id).order_by(rows.c.image_id).limit(limit)
        with self.read() as connection:
            found = connection.execute(query).all()
            uris: dict[str, list[str]] = {}
            for start in range(0, len(found), 500):
                ids = [row.image_id for row in found[start : start + 500]]
                places = select(files.c.image_id, files.c.uri).where(files.c.image_id.in_(ids)).order_by(files.c.uri)
                for image_id, uri in connection.execute(places):
                    uris.setdefault(image_id, []).append(uri)
        return [
            StoredLabel(
                image_id=row.image_id,
                labels=tuple(json.loads(row.labels)),
                confidence=row.confidence,
                status=row.status,
                answers=row.answers,
                agreeing=row.agreeing,
                source=row.source,
                arm=row.arm or "",
                round=row.number or 0,
                inclusion_probability=row.inclusion_probability or 0.0,
                reason=row.reason or "",
                uris=tuple(uris.get(row.image_id, ())),
            )
            for row in found
        ]

    def count_labels(self, campaign_id: str, status: str, include_seeds: bool) -> int:
        """Labels that `list_labels` would give in all."""
        rows = _labels_query(campaign_id, status, include_seeds).subquery()
        with self.read() as connection:
            return connection.scalar(select(func.count()).select_from(rows)) or 0

    def picked_images(self, campaign_id: str, from_pool: bool = False) -> set[str]:
        """Every image that was ever picked in a campaign; with from_pool, before it had a label."""
        query = select(picks.c.image_id).where(picks.c.campaign_id == campaign_id)
        if from_pool:
            query = query.where(picks.c.stratum != ASKED_AGAIN)
        with self.read() as connection:
            return set(connection.scalars(query))


def _columns(estimate: LabelEstimate, targets: Collection[str]) -> dict[str, Any]:
    trusted = estimate.status in _TRUSTED
    return {
        "labels": json.dumps(estimate.labels, ensure_ascii=False),
        "confidence": estimate.confidence,
        "status": estimate.status.value,
        "answers": estimate.answers,
        "agreeing": estimate.agreeing,
        "source": "workers",
        "is_target": int(trusted and not set(targets).isdisjoint(estimate.labels)),
    }


def _labels_query(campaign_id: str, status: str, include_seeds: bool) -> Select[Any] | CompoundSelect[Any]:
    picked = and_(
        picks.c.campaign_id == labels.c.campaign_id,
        picks.c.image_id == labels.c.image_id,
        picks.c.stratum != ASKED_AGAIN,  # how it was picked first; an image has one label, however often it was asked
    )
    made = (
        select(
            labels.c.image_id,
            labels.c.labels,
            labels.c.confidence,
            labels.c.status,
            labels.c.answers,
            labels.c.agreeing,
            labels.c.source,
            picks.c.arm,
            picks.c.inclusion_probability,
            picks.c.reason,
            rounds.c.number,
        )
        .select_from(labels.outerjoin(picks, picked).outerjoin(rounds, rounds.c.round_id == picks.c.round_id))
        .where(labels.c.campaign_id == campaign_id)
    )
    if status:
        made = made.where(labels.c.status == status)
    if not include_seeds or status not in ("", LabelStatus.CERTAIN.value):
        return made
    has_label = (
        select(labels.c.image_id)
        .where(labels.c.campaign_id == campaign_id, labels.c.image_id == known_labels.c.image_id)
        .exists()
    )
    seeds = select(
        known_labels.c.image_id,
        known_labels.c.labels,
        literal(1.0),
        literal(LabelStatus.CERTAIN.value),
        literal(0),
        literal(0),
        literal("seed"),
        literal(""),
        literal(0.0),
        literal(""),
        literal(0),
    ).where(known_labels.c.kind == LabelKind.SEED.value, ~has_label)
    return union_all(made, seeds)
