# SPDX-License-Identifier: GPL-3.0-or-later
"""A crash before or after any statement, then a restart: nothing acknowledged is lost, nothing is done twice."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from gandt_labeling.service.parts import Limits

from gandt.domain.errors import AlreadyExists


class Crash(BaseException):
    """The process is gone; no handler may swallow it."""


class Saboteur:
    """Counts every effect on database, objects and Lambdas, and crashes before or after the chosen one."""

    def __init__(self, bench: Any, at: int, after: bool) -> None:
        self.bench, self.at, self.after = bench, at, after
        self.effects = 0
        self.install()

    def install(self) -> None:
        self.bench.database.write = self._around(self.bench.database.write)
        if not hasattr(self.bench.objects, "sabotaged"):
            self.bench.objects.sabotaged = True
            self.bench.objects.put = self._around(self.bench.objects.put)
            for arn, handler in list(self.bench.handlers.items()):
                self.bench.handlers[arn] = self._around(handler)
            self.bench.restart()
            self.bench.database.write = self._around(self.bench.database.write)

    def _around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            number = self.effects
            self.effects += 1
            if number == self.at and not self.after:
                raise Crash
            value = call(*args, **kwargs)
            if number == self.at and self.after:
                raise Crash
            return value

        return wrapped


def campaign(bench: Any, sabotage: Callable[[], Saboteur]) -> tuple[dict[str, Any], Saboteur]:
    """One job with two slots a page, answered by two workers; goes on after each crash as clients do."""
    saboteur = sabotage()
    request = bench.request("job-1", 2)
    receipts: dict[str, Any] = {}

    def surviving(step: Callable[[], Any]) -> Any:
        for _ in range(3):
            try:
                return step()
            except Crash:
                bench.restart()
                saboteur.install()
        raise AssertionError("it crashes for ever")

    def create() -> None:
        with contextlib.suppress(AlreadyExists):  # an earlier create was done and its answer lost
            bench.jobs.create(request)

    def enter(name: str) -> Any:  # through `bench`, whose services are new ones after a restart
        return bench.workers.enter(bench.workers.invite(name))[0]

    def lease_for(worker: str) -> Any:
        return bench.leases.next_task(worker)

    def submit(lease: Any, worker: str, answer: Any) -> Any:
        return bench.leases.submit(lease.lease_id, worker, answer, 1.0)

    surviving(create)
    surviving(bench.run)
    workers = [surviving(partial(enter, name)) for name in ("ann", "bob")]
    for page, worker in itertools.product(range(3), workers):
        lease = surviving(partial(lease_for, worker))
        assert lease is not None
        answer = bench.content(lease, f"label-{page}")
        receipt = surviving(partial(submit, lease, worker, answer))
        receipts[receipt.answer_id] = (worker, lease.task_no, answer)
        surviving(bench.run)
    surviving(bench.run)
    return receipts, saboteur


def prepared(bench: Any) -> Any:
    lines = "".join(json.dumps({"source": json.dumps([{"id": f"i{n}", "index": n}])}) + "\n" for n in range(3))
    bench.objects.put("s3://gandt/in/job-1.manifest", lines.encode())
    bench.objects.put("s3://gandt/in/page.html", b"<crowd-form></crowd-form>")
    return bench


def results(bench: Any, receipts: dict[str, Any]) -> None:
    """What must hold however often it crashed."""
    assert bench.status() == "Completed"
    assert len(receipts) == 6
    lines = bench.manifest()
    assert len(lines) == 3
    kept = {
        (response["workerId"], number, json.dumps(response["annotation"]))
        for number, line in enumerate(lines)
        for response in line["labels"]["responses"]
    }
    assert sum(len(line["labels"]["responses"]) for line in lines) == 6
    assert kept == {(worker, number, json.dumps(answer)) for worker, number, answer in receipts.values()}
    files = bench.files()
    requests = [json.loads(text) for path, text in files.items() if "/consolidation-request/" in path]
    batched = [entry["datasetObjectId"] for batch in requests for entry in batch]
    assert sorted(batched) == ["0", "1", "2"], "every task is in exactly one batch"
    assert len([path for path in files if "/worker-response/" in path]) == 3


LIMITS = Limits(batch_size=2, batch_seconds=0.0)


def test_without_a_crash(make_bench: Callable[..., Any]) -> None:
    bench = prepared(make_bench(limits=LIMITS))
    receipts, saboteur = campaign(bench, partial(Saboteur, bench, -1, False))
    results(bench, receipts)
    assert 40 < saboteur.effects < EFFECTS, "the sweep below covers every effect"


EFFECTS = 100
SAMPLE = 17  # the quick suite tries every 17th effect, `-m soak` all


def sweep(make_bench: Callable[..., Any], places: range, after: bool) -> None:
    for at in places:
        bench = prepared(make_bench(limits=LIMITS))
        receipts, _ = campaign(bench, partial(Saboteur, bench, at, after))
        results(bench, receipts)
        bench.database.close()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_at_some_effects(make_bench: Callable[..., Any], after: bool) -> None:
    sweep(make_bench, range(int(after), EFFECTS, SAMPLE), after)


@pytest.mark.soak
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("block", range(0, EFFECTS, 20))
def test_a_crash_at_any_effect(make_bench: Callable[..., Any], block: int, after: bool) -> None:
    sweep(make_bench, range(block, block + 20), after)
