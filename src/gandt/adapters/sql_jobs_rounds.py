# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of rounds and their picks. Counts are joined when read, so that they always fit the answers and labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select, update

from gandt.adapters.sql_jobs_campaigns import SETTLE, campaign_row, touch
from gandt.adapters.sql_jobs_engine import SqlStore, moment, to_micros
from gandt.adapters.sql_jobs_schema import answers, jobs, labels, ledger, picks, rounds
from gandt.domain.errors import Conflict, NotFound, WrongState
from gandt.domain.labeling.rounds import Draw, PageGroup, Pick, Round, RoundState

_PICK_COLUMNS = (
    *("image_id", "rank", "score", "reason", "arm", "inclusion_probability", "pool_size"),
    *("part", "stratum"),
)


class RoundRows(SqlStore):
    """Rounds of campaigns."""

    def create_round(self, new: Round, picked: Sequence[Pick], request_id: str) -> Round:
        """Store a round with its picks in one transaction; the same request id returns the round that it made.

        Raises:
            Conflict: the campaign has a round of that number already.
            WrongState: the campaign's newest round is not final, so the next cannot begin.
        """
        with self.write() as connection:
            if request_id:
                old = connection.execute(select(rounds).where(rounds.c.request_id == request_id)).first()
                if old is not None:
                    return _round(connection, old, with_picks=True)
            campaign_row(connection, new.campaign_id, lock=self.locks_rows)
            _check_next(connection, new)
            connection.execute(
                rounds.insert().values(
                    round_id=new.round_id,
                    campaign_id=new.campaign_id,
                    number=new.number,
                    request_id=request_id or None,
                    state=new.state.value,
                    strategy=new.strategy,
                    explanation=new.explanation,
                    warnings=json.dumps(new.warnings, ensure_ascii=False),
                    pending=_groups_to_json(new.pending),
                    created_at=to_micros(new.created_at),
                    version=1,
                    ordinal=select(func.count()).select_from(rounds).scalar_subquery(),
                    planned=new.planned,
                    draws=_draws_to_json(new.draws),
                )
            )
            _insert_picks(connection, new, picked)
            touch(connection, new.campaign_id, new.created_at)
            return _round(connection, _round_row(connection, new.round_id), with_picks=True)

    def add_picks(
        self, round_id: str, picked: Sequence[Pick], change: Callable[[Round], Round], now: datetime
    ) -> Round:
        """Add a part's picks to an open round and change the round, in one transaction.

        Raises:
            WrongState: the round is final.
        """
        with self.write() as connection:
            before = _round(connection, _round_row(connection, round_id, lock=self.locks_rows))
            if before.state.is_final:
                raise WrongState(
                    f"round {before.number} is {before.state}, so nothing can be added to it",
                    kind="round",
                    id=round_id,
                    state=before.state.value,
                    reason="ROUND_OVER",
                    fix="select the next round",
                )
            _insert_picks(connection, before, picked)
            save_round(connection, before, change(before), now)
            touch(connection, before.campaign_id, now)
            return _round(connection, _round_row(connection, round_id), with_picks=True)

    def round_of_request(self, request_id: str) -> Round | None:
        """The round that a request made, with its picks."""
        with self.read() as connection:
            row = connection.execute(select(rounds).where(rounds.c.request_id == request_id)).first()
            return None if row is None else _round(connection, row, with_picks=True)

    def get_round(self, round_id: str, with_picks: bool = False) -> Round:
        """A round by id; "" means the newest round of the newest campaign.

        Raises:
            NotFound: there is none.
        """
        with self.read() as connection:
            if not round_id:
                newest = campaign_row(connection, "").campaign_id
                row = connection.execute(_newest_round(newest)).first()
                if row is None:
                    raise NotFound(f"campaign {newest} has no round yet", kind="round", fix="select images first")
            else:
                row = _round_row(connection, round_id)
            return _round(connection, row, with_picks)

    def newest_round(self, campaign_id: str) -> Round | None:
        """The campaign's round with the highest number."""
        with self.read() as connection:
            row = connection.execute(_newest_round(campaign_id)).first()
            return None if row is None else _round(connection, row)

    def list_rounds(self, campaign_id: str, after_number: int, limit: int) -> list[Round]:
        """Rounds by number, after a number."""
        query = select(rounds).where(rounds.c.campaign_id == campaign_id, rounds.c.number > after_number)
        with self.read() as connection:
            rows = connection.execute(query.order_by(rounds.c.number).limit(limit)).all()
            return [_round(connection, row) for row in rows]

    def change_round(self, round_id: str, change: Callable[[Round], Round], now: datetime) -> Round:
        """Read, change and write a round's state, pending groups and warnings in one transaction."""
        with self.write() as connection:
            before = _round(connection, _round_row(connection, round_id, lock=self.locks_rows))
            after = change(before)
            save_round(connection, before, after, now)
            return _round(connection, _round_row(connection, round_id))


def save_round(connection: Connection, before: Round, after: Round, now: datetime) -> None:
    """Write what changed of a round, inside a transaction that has read it."""
    kept = ("state", "pending", "warnings", "planned", "draws")
    if all(getattr(before, name) == getattr(after, name) for name in kept):
        return
    connection.execute(
        update(rounds)
        .where(rounds.c.round_id == before.round_id)
        .values(
            state=after.state.value,
            pending=_groups_to_json(after.pending),
            warnings=json.dumps(after.warnings, ensure_ascii=False),
            planned=after.planned,
            draws=_draws_to_json(after.draws),
            version=rounds.c.version + 1,
        )
    )
    touch(connection, before.campaign_id, now)


def read_round(connection: Connection, round_id: str, lock: bool) -> Round:
    """A round inside a transaction.

    Raises:
        NotFound: there is none.
    """
    return _round(connection, _round_row(connection, round_id, lock))


def _check_next(connection: Connection, new: Round) -> None:
    row = connection.execute(_newest_round(new.campaign_id)).first()
    if row is not None and row.number >= new.number:
        raise Conflict(
            f"campaign {new.campaign_id} has round {row.number} already",
            kind="round",
            id=row.round_id,
            fix="read again",
        )
    if row is not None and not RoundState(row.state).is_final:
        raise WrongState(
            f"round {row.number} of campaign {new.campaign_id} is {row.state}, so the next one cannot begin",
            kind="round",
            id=row.round_id,
            state=row.state,
            reason="ROUND_OPEN",
            fix="collect and aggregate it first",
        )


def _round_row(connection: Connection, round_id: str, lock: bool = False) -> Row[Any]:
    query = select(rounds).where(rounds.c.round_id == round_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise NotFound(f"there is no round {round_id}", kind="round", id=round_id)
    return row


def _newest_round(campaign_id: str) -> Select[Any]:
    return select(rounds).where(rounds.c.campaign_id == campaign_id).order_by(rounds.c.number.desc()).limit(1)


def _round(connection: Connection, row: Row[Any], with_picks: bool = False) -> Round:
    label_of_pick = (labels.c.campaign_id == picks.c.campaign_id) & (labels.c.image_id == picks.c.image_id)
    by_arm = {
        arm: (count, int(targets))
        for arm, count, targets in connection.execute(
            select(picks.c.arm, func.count(), func.coalesce(func.sum(labels.c.is_target), 0))
            .select_from(picks.outerjoin(labels, label_of_pick))
            .where(picks.c.round_id == row.round_id)
            .group_by(picks.c.arm)
        )
    }
    answered = (
        select(func.count())
        .select_from(answers.join(picks, answers.c.image_id == picks.c.image_id))
        .where(picks.c.round_id == row.round_id, answers.c.campaign_id == row.campaign_id)
    )
    spent = (
        select(func.coalesce(func.sum(ledger.c.amount), 0))
        .select_from(ledger.join(jobs, jobs.c.job_name == ledger.c.job_name))
        .where(jobs.c.round_id == row.round_id, ledger.c.entry == SETTLE)
    )
    control, main = by_arm.get("control", (0, 0)), by_arm.get("main", (0, 0))
    return Round(
        round_id=row.round_id,
        campaign_id=row.campaign_id,
        number=row.number,
        state=RoundState(row.state),
        created_at=moment(row.created_at),
        strategy=row.strategy,
        explanation=row.explanation,
        images=sum(count for count, _ in by_arm.values()),
        answers=connection.scalar(answered) or 0,
        targets_found=sum(targets for _, targets in by_arm.values()),
        cost=int(connection.scalar(spent) or 0),
        control_images=control[0],
        control_targets=control[1],
        main_images=main[0],
        main_targets=main[1],
        warnings=tuple(json.loads(row.warnings)),
        pending=tuple(PageGroup(tuple(ids), workers) for ids, workers in json.loads(row.pending)),
        picks=_picks(connection, row.round_id) if with_picks else (),
        planned=row.planned,
        draws=_draws_of_json(row.draws),
        version=row.version,
    )


def _picks(connection: Connection, round_id: str) -> tuple[Pick, ...]:
    query = select(picks).where(picks.c.round_id == round_id).order_by(picks.c.rank, picks.c.image_id)
    return tuple(Pick(**{name: getattr(row, name) for name in _PICK_COLUMNS}) for row in connection.execute(query))


def _insert_picks(connection: Connection, owner: Round, picked: Sequence[Pick]) -> None:
    known = {"round_id": owner.round_id, "campaign_id": owner.campaign_id}
    rows = [{**known, **{name: getattr(pick, name) for name in _PICK_COLUMNS}} for pick in picked]
    if rows:
        connection.execute(picks.insert(), rows)


def _draws_to_json(draws: Sequence[Draw]) -> str:
    return json.dumps([[draw.part, draw.found_before, draw.pools] for draw in draws])


def _draws_of_json(text: str) -> tuple[Draw, ...]:
    return tuple(
        Draw(part, found_before, tuple((stratum, size) for stratum, size in pools))
        for part, found_before, pools in json.loads(text)
    )


def _groups_to_json(groups: Sequence[PageGroup]) -> str:
    return json.dumps([[group.image_ids, group.workers] for group in groups])
