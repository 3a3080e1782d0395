# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows behind the proof: which images came when, and what each draw of a campaign brought."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, case, func, select

from gandt.adapters.sql_jobs_engine import SqlStore
from gandt.adapters.sql_jobs_schema import images, labels, picks, rounds, vectors
from gandt.domain.datasets import LabelStatus
from gandt.domain.labeling.rounds import ASKED_AGAIN, RoundState
from gandt.domain.selection.proof import Sampled

_TRUSTED = (LabelStatus.CERTAIN.value, LabelStatus.UNCERTAIN.value)
CHUNK = 500


class DrawRows(SqlStore):
    """See `gandt.ports.draw_store.DrawStore`."""

    def arrivals(self, campaign_id: str, collection: str, outside: Collection[str]) -> dict[int, int]:
        """See the port."""
        with self.read() as connection:
            rounds_before = _rounds(connection, campaign_id)
            if not rounds_before:
                return {}
            query = (
                select(images.c.arrived, func.count())
                .select_from(images.join(vectors, vectors.c.image_id == images.c.image_id))
                .where(vectors.c.collection == collection, images.c.arrived > rounds_before[0][1])
                .group_by(images.c.arrived)
            )
            counts: Counter[int] = Counter()
            for arrived, count in connection.execute(query):
                counts[_stratum(rounds_before, arrived)] += count
            if counts:
                known = _strata(connection, rounds_before, list(outside), collection)
                counts.subtract(known.values())
        return dict(counts)

    def strata(self, campaign_id: str, image_ids: Sequence[str]) -> dict[str, int]:
        """See the port."""
        with self.read() as connection:
            rounds_before = _rounds(connection, campaign_id)
            return _strata(connection, rounds_before, image_ids) if rounds_before else {}

    def samples(self, campaign_id: str) -> list[Sampled]:
        """See the port."""
        label = (labels.c.campaign_id == picks.c.campaign_id) & (labels.c.image_id == picks.c.image_id)
        trusted = case((labels.c.status.in_(_TRUSTED), 1), else_=0)
        query = (
            select(
                rounds.c.number,
                picks.c.part,
                picks.c.stratum,
                picks.c.arm,
                func.count(),
                func.coalesce(func.sum(labels.c.is_target), 0),
                func.coalesce(func.sum(trusted), 0),
                func.max(picks.c.pool_size),
            )
            .select_from(picks.join(rounds, rounds.c.round_id == picks.c.round_id).outerjoin(labels, label))
            .where(
                picks.c.campaign_id == campaign_id,
                picks.c.stratum != ASKED_AGAIN,
                rounds.c.state == RoundState.AGGREGATED.value,
            )
            .group_by(rounds.c.number, picks.c.part, picks.c.stratum, picks.c.arm)
        )
        known = select(rounds.c.number, rounds.c.draws).where(
            rounds.c.campaign_id == campaign_id, rounds.c.state == RoundState.AGGREGATED.value
        )
        with self.read() as connection:
            rows = connection.execute(query).all()
            found: dict[tuple[int, int, int], dict[str, int]] = {}
            for number, text in connection.execute(known):
                for part, _, pools in json.loads(text):
                    for stratum, size in pools:
                        found[number, part, stratum] = {"pool": size}
        for number, part, stratum, arm, count, targets, resolved, pool in rows:
            one = found.setdefault((number, part, stratum), {"pool": pool})
            kind = "control" if arm == "control" else "main"
            one[kind] = one.get(kind, 0) + count
            one[f"{kind}_targets"] = one.get(f"{kind}_targets", 0) + int(targets)
            one["unresolved"] = one.get("unresolved", 0) + count - int(resolved)
        empty = {"control": 0, "control_targets": 0}
        return [Sampled(number, part, stratum, **empty | one) for (number, part, stratum), one in sorted(found.items())]

    def unlabeled_picks(self, campaign_id: str) -> int:
        """See the port."""
        query = (
            select(func.count())
            .select_from(picks.join(rounds, rounds.c.round_id == picks.c.round_id))
            .where(
                picks.c.campaign_id == campaign_id,
                picks.c.stratum != ASKED_AGAIN,
                rounds.c.state == RoundState.STOPPED.value,
            )
        )
        with self.read() as connection:
            return connection.scalar(query) or 0


def _rounds(connection: Connection, campaign_id: str) -> list[tuple[int, int]]:
    """Number and ordinal of a campaign's rounds, ascending."""
    query = select(rounds.c.number, rounds.c.ordinal).where(rounds.c.campaign_id == campaign_id)
    return [(row.number, row.ordinal) for row in connection.execute(query.order_by(rounds.c.number))]


def _stratum(rounds_before: Sequence[tuple[int, int]], arrived: int) -> int:
    """The first round that had an image in its pool; the next one when none did."""
    place = bisect_left(rounds_before, arrived, key=lambda one: one[1])
    return rounds_before[place][0] if place < len(rounds_before) else rounds_before[-1][0] + 1


def _strata(
    connection: Connection, rounds_before: Sequence[tuple[int, int]], image_ids: Sequence[str], collection: str = ""
) -> dict[str, int]:
    """Stratum of each image that came after the start; with a collection, of those alone that have a vector there."""
    out: dict[str, int] = {}
    for start in range(0, len(image_ids), CHUNK):
        chunk: Any = images.c.image_id.in_(image_ids[start : start + CHUNK])
        query = select(images.c.image_id, images.c.arrived).where(chunk, images.c.arrived > rounds_before[0][1])
        if collection:
            has_vector = (vectors.c.image_id == images.c.image_id) & (vectors.c.collection == collection)
            query = query.join(vectors, has_vector)
        out.update((image, _stratum(rounds_before, arrived)) for image, arrived in connection.execute(query))
    return out
