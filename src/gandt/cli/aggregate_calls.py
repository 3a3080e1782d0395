# SPDX-License-Identifier: GPL-3.0-or-later
"""What `gandt aggregate` asks the service, from its flags and files."""

from __future__ import annotations

import argparse
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from gandt.cli.context import Context
from gandt.client.aggregation import AggregateResult, AnswerPlan, Beside
from gandt.domain.aggregation.audit_sample import ALPHA, price
from gandt.domain.aggregation.records import AUTO, AggregateSpec, DuplicatePolicy, PlanSpec
from gandt.domain.aggregation.trust import price_text
from gandt.domain.datasets import Answer, check_classes
from gandt.domain.errors import Conflict, InvalidInput
from gandt.domain.progress import Progress
from gandt.tables.answers import read_answers
from gandt.tables.files import replacing
from gandt.tables.labels import read_gold, read_known
from gandt.tables.probabilities import read_probabilities


def aggregate_files(args: argparse.Namespace, ctx: Context, spec: AggregateSpec) -> AggregateResult:
    """The labels of a table, a folder of Ground Truth output, or of what lies under an `s3://` URI."""
    try:
        result = _aggregated(args, ctx, spec)
    except InvalidInput as e:
        if e.field != "state" or not args.state:
            raise
        raise InvalidInput(f"{args.state}: {e.message}", field=e.field, reason=e.reason, fix=e.fix) from e
    if args.state:
        _keep_state(args.state, spec.state, result.summary.state)
    return result


def _aggregated(args: argparse.Namespace, ctx: Context, spec: AggregateSpec) -> AggregateResult:
    def show(progress: Progress) -> None:
        ctx.out.progress(progress.stage, progress.done, progress.total)

    client = ctx.connect("aggregation")
    if args.answers.startswith("s3://"):
        return client.aggregate_stored(
            [args.answers],
            spec,
            args.gold or "",
            args.previous,
            show,
            audit_uri=args.audit or "",
            model_uri=args.model_probabilities or "",
        )
    gold, beside = _beside(args)
    return client.aggregate(_answers(args, args.answers), spec, gold, _previous(args), show, beside)


def plan_spec(args: argparse.Namespace, spec: AggregateSpec) -> PlanSpec:
    """What to plan.

    Raises:
        InvalidInput: a limit that is out of range; told before anything is aggregated.
    """
    return PlanSpec(
        aggregate=replace(spec, with_state=False, audit_size=0, state=b""),
        target_confidence=args.target_confidence,
        min_answers=args.min_answers,
        max_answers=args.max_answers,
        answer_budget=args.answer_budget,
        explore_share=args.explore_share,
    )


def plan_files(args: argparse.Namespace, ctx: Context, spec: PlanSpec, state: bytes) -> AnswerPlan:
    """Which images get another answer.

    Args:
        state: of the aggregation before; where it holds one, all answers are in it.
    """
    gold, beside = _beside(args)
    if state:
        spec = replace(spec, aggregate=replace(spec.aggregate, state=state))
        return ctx.connect("aggregation").plan_answers((), spec, gold, (), replace(beside, judged={}))
    answers = _answers(args, args.answers)
    return ctx.connect("aggregation").plan_answers(answers, spec, gold, _previous(args), replace(beside, judged={}))


def aggregate_spec(args: argparse.Namespace) -> AggregateSpec:
    """How to aggregate, with the state that the file holds now."""
    return AggregateSpec(
        method=args.method or AUTO,
        classes=check_classes(args.classes.split(",")) if args.classes else (),
        multi_label=args.multilabel,
        min_answers=args.min_answers,
        min_proportion=args.min_proportion,
        reliability_threshold=args.reliability_threshold,
        compat=args.compat,
        duplicates=DuplicatePolicy(args.duplicates),
        include_previous=args.include_previous,
        min_worker_answers=args.min_worker_answers,
        state=_state(args.state) if args.state else b"",
        with_state=bool(args.state),
        audit_size=_audit_size(args),
        audit_seed=args.seed or 0,
        audit_target=args.audit_target,
    )


def _state(path: str) -> bytes:
    try:
        state = Path(path).read_bytes()
    except FileNotFoundError:
        return b""  # the first call makes it
    except OSError as e:
        raise InvalidInput(f"{path} cannot be read: {e.strerror}", field="state", reason="FILE_UNREADABLE") from e
    if not state:  # anew would lose what it held
        raise InvalidInput(
            f"the state {path} is empty",
            field="state",
            reason="BAD_STATE",
            fix="delete the file and send all answers again",
        )
    return state


def _keep_state(path: str, before: bytes, state: bytes) -> None:
    """Writes the state, unless another call wrote it meanwhile: its answers are not in this one.

    Raises:
        Conflict: the file holds something else than when this call began.
    """
    with _alone(Path(path).resolve().parent):
        if _state(path) != before:
            raise Conflict(
                f"the state {path} was written by another call while this one ran; nothing was saved",
                kind="state",
                id=path,
                reason="STATE_CHANGED",
                fix="run the same command again; it goes on from what the other call saved",
            )
        with replacing(path) as scratch:
            scratch.write_bytes(state)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time compares and replaces a state in a folder; ends with the process, and leaves no file."""
    try:
        opened = os.open(folder, os.O_RDONLY)
    except OSError:  # writing says what is wrong with the folder
        yield
        return
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def tell_price(args: argparse.Namespace, ctx: Context) -> None:
    """Says what a bound costs before anybody is asked to judge."""
    if args.audit_out:
        none_wrong, some_wrong, share = price(args.audit_target)
        ctx.out.note(f"an audit's price: {price_text(args.audit_target, 1 - ALPHA, none_wrong, some_wrong, share)}")


def _audit_size(args: argparse.Namespace) -> int:
    if not args.audit_out:
        return 0
    some_wrong = price(args.audit_target)[1]
    return some_wrong if args.audit_size is None else int(args.audit_size)


def _beside(args: argparse.Namespace) -> tuple[dict[str, tuple[str, ...]] | None, Beside]:
    gold, drawn = read_known(args.gold) if args.gold else (None, set())
    model = read_probabilities(args.model_probabilities) if args.model_probabilities else ()
    return gold, Beside(drawn, read_gold(args.audit) if args.audit else {}, model)


def _answers(args: argparse.Namespace, path: str) -> Iterator[Answer]:
    if not Path(path).is_dir():
        return read_answers(path, args.multilabel, raw=args.compat)
    from gandt.cli.answers import Folder, local_uri
    from gandt.domain.labeling.job_output import read_job

    folder = Path(os.path.abspath(path))  # noqa: PTH100  resolve() follows links and may lose the job's name
    return iter(read_job(Folder(folder), local_uri(folder)).answers)


def _previous(args: argparse.Namespace) -> Iterator[Answer]:
    for path in args.previous:
        for answer in _answers(args, path):
            # The original takes each earlier file as an experiment of its own.
            yield replace(answer, job=f"{path}#{answer.job}") if args.compat else answer
