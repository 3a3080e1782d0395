# SPDX-License-Identifier: GPL-3.0-or-later
"""The job engine: states, opening, closing, stopping, Lambda faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import pytest
from gandt_labeling.lambdas.function_lambdas import FunctionLambdas
from gandt_labeling.service.engine import Engine
from gandt_labeling.service.output import EXPIRED
from gandt_labeling.service.parts import Limits, Parts
from gandt_labeling.store.database import Database

from gandt.domain.disk import FULL, disk_trouble
from gandt.domain.errors import BackendUnavailable, WrongState
from tests.unit.test_labeling_service.conftest import PlainPages

PRE = "arn:aws:lambda:local-1:000000000000:function:gandt-pre-LabelingFunction"
POST = "arn:aws:lambda:local-1:000000000000:function:gandt-post-LabelingFunction"


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        (b"", "has no lines"),
        (b"\n \n", "has no lines"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"source": "[]"}\n{"source": "[]"', "line 2"),
        (b'{"source": "[]"}\n["x"]', "line 2 of the input manifest cannot be used: it is not a JSON object"),
        (b'{"source": "a", "source-ref": "s3://b/k"}', "line 1"),
        (b'{"image": "a"}', "exactly one of the keys source and source-ref"),
        (b'{"source": ["a"]}', "must be text"),
        (b'{"source": "a", "$x": 1}', "starts with '$'"),
        (json.dumps({"source": "x" * 20_001}).encode(), "'source' is 20001 characters long; the limit is 20000"),
        (json.dumps({"source": "x", **{f"k{i}": "x" * 19_000 for i in range(6)}}).encode(), "the limit is 100000"),
    ],
)
def test_a_manifest_that_breaks_a_rule_fails_the_job_and_names_the_line(bench: Any, manifest: bytes, says: str) -> None:
    bench.objects.put("s3://gandt/in/job-1.manifest", manifest)
    bench.objects.put("s3://gandt/in/page.html", b"x")
    bench.jobs.create(bench.request())
    assert bench.status() == "Initializing"
    bench.run()
    assert bench.status() == "Failed"
    assert says in bench.jobs.describe("job-1")["FailureReason"]


def test_a_missing_manifest_or_template_and_a_broken_template_fail_the_job(bench: Any) -> None:
    bench.jobs.create(bench.request("no-manifest"))
    bench.objects.put("s3://gandt/in/no-template.manifest", b'{"source": "[]"}')
    bench.jobs.create(bench.request("no-template"))
    bench.objects.put("s3://gandt/in/broken.html", b"{% broken")
    bench.objects.put("s3://gandt/in/bad-template.manifest", b'{"source": "[]"}')
    bench.jobs.create(bench.request("bad-template", UiConfig={"UiTemplateS3Uri": "s3://gandt/in/broken.html"}))
    bench.jobs.create(bench.request("arn-page", UiConfig={"HumanTaskUiArn": "arn:aws:sagemaker:eu-west-1:1:x"}))
    bench.objects.put("s3://gandt/in/arn-page.manifest", b'{"source": "[]"}')
    bench.run()
    reasons = {name: bench.jobs.describe(name)["FailureReason"] for name in ("no-manifest", "no-template")}
    assert "in/no-manifest.manifest" in reasons["no-manifest"]
    assert "in/page.html" in reasons["no-template"]
    assert "syntax error in line 1" in bench.jobs.describe("bad-template")["FailureReason"]
    assert "UiTemplateS3Uri" in bench.jobs.describe("arn-page")["FailureReason"]


def test_an_unknown_lambda_fails_the_job(bench: Any) -> None:
    other = "arn:aws:lambda:local-1:000000000000:function:other"
    bench.create(PreHumanTaskLambdaArn=other)
    assert bench.status() == "Failed"
    assert other in bench.jobs.describe("job-1")["FailureReason"]


def test_no_more_tasks_are_open_than_the_job_allows(bench: Any) -> None:
    bench.create(pages=60, MaxConcurrentTaskCount=30)
    leases = [bench.leases.next_task(bench.worker()) for _ in range(31)]
    assert [lease is not None for lease in leases] == [True] * 30 + [False]
    assert max(lease.task_no for lease in leases if lease) == 29


def test_availability_ends_pages_with_and_without_answers(bench: Any) -> None:
    bench.create(pages=2, slots=2)
    worker = bench.worker()
    answered = bench.answer(worker).task_no
    bench.clock.advance(3601)
    bench.run()
    assert bench.status() == "Completed"
    lines = bench.manifest()
    assert len(lines[answered]["labels"]["responses"]) == 1
    failed = lines[1 - answered]
    assert "labels" not in failed
    assert failed["labels-metadata"] == {"retry-count": 1, "failure-reason": EXPIRED, "human-annotated": "true"}


def test_who_holds_a_page_at_the_end_of_its_availability_may_finish_it(bench: Any) -> None:
    bench.create()
    bench.clock.advance(3500)
    worker = bench.worker()
    lease = bench.lease(worker)
    bench.clock.advance(300)
    bench.run()
    assert bench.status() == "InProgress"
    bench.leases.submit(lease.lease_id, worker, bench.content(lease))
    bench.run()
    assert bench.counters()["HumanLabeled"] == 1


def test_stop_keeps_answers_gives_running_leases_a_minute_and_leaves_the_rest_untouched(bench: Any) -> None:
    bench.create(pages=4, slots=2, MaxConcurrentTaskCount=3)
    done, running, late = bench.worker(), bench.worker(), bench.worker()
    first = bench.answer(done)
    second, third = bench.lease(running), bench.lease(late)
    bench.jobs.stop("job-1")
    assert bench.status() == "Stopping"
    assert bench.leases.next_task(bench.worker()) is None
    bench.run()
    assert bench.status() == "Stopping"
    bench.clock.advance(30)
    bench.leases.submit(second.lease_id, running, bench.content(second))
    bench.clock.advance(31)
    bench.run()
    assert bench.status() == "Stopped"
    lines = bench.manifest()
    assert len(lines) == 4
    untouched = [number for number, line in enumerate(lines) if "labels" not in line]
    assert set(untouched) == {0, 1, 2, 3} - {first.task_no, second.task_no}
    assert all("labels-metadata" not in lines[number] for number in untouched)
    with pytest.raises(Exception, match="somebody else may have it") as caught:
        bench.leases.submit(third.lease_id, late, bench.content(third))
    assert caught.value.reason == "LEASE_EXPIRED"  # type: ignore[attr-defined]


def test_a_job_stopped_before_it_was_read_copies_its_manifest(bench: Any) -> None:
    bench.objects.put("s3://gandt/in/job-1.manifest", b'{"source": "[]"}\n')
    bench.jobs.create(bench.request())
    bench.jobs.stop("job-1")
    bench.run()
    assert bench.status() == "Stopped"
    assert bench.manifest() == [{"source": "[]"}]


@pytest.mark.parametrize("condition", [{"MaxHumanLabeledObjectCount": 2}, {"MaxPercentageOfInputDatasetLabeled": 50}])
def test_a_stopping_condition_ends_the_job_and_is_never_exceeded(bench: Any, condition: dict[str, int]) -> None:
    bench.create(pages=4, StoppingConditions=condition)
    worker = bench.worker()
    bench.answer(worker)
    bench.answer(worker)
    assert bench.leases.next_task(worker) is None
    bench.run()
    assert bench.status() == "Stopped"
    assert bench.counters() == {
        "TotalLabeled": 2,
        "HumanLabeled": 2,
        "MachineLabeled": 0,
        "FailedNonRetryableError": 0,
        "Unlabeled": 2,
    }


def test_a_stopping_condition_of_all_lines_completes(bench: Any) -> None:
    bench.create(pages=2, StoppingConditions={"MaxHumanLabeledObjectCount": 2})
    worker = bench.worker()
    bench.answer(worker)
    bench.answer(worker)
    bench.run()
    assert bench.status() == "Completed"


def test_a_failing_pre_lambda_is_tried_three_times_and_fails_its_own_line_only(
    make_bench: Callable[..., Any],
) -> None:
    calls: list[str] = []

    def pre(event: dict[str, Any], _context: object) -> Any:
        task = event["dataObject"]["gandt-task"]
        calls.append(task)
        if task == "t-000000":
            raise ValueError("boom")
        return {"taskInput": {"taskObject": json.loads(event["dataObject"]["source"])}}

    bench = make_bench(handlers={PRE: pre})
    bench.create(pages=2)
    bench.answer(bench.worker())
    for _ in range(3):
        bench.clock.advance(5)
        bench.run()
    assert calls.count("t-000000") == 3
    assert bench.status() == "Completed"
    lines = bench.manifest()
    assert "ValueError: boom" in lines[0]["labels-metadata"]["failure-reason"]
    assert lines[0]["labels-metadata"]["failure-reason"].startswith("ClientError: The pre-annotation Lambda")
    assert "labels" in lines[1]


@pytest.mark.parametrize("key", ["isHumanAnnotationRequired", "humanAnnotationRequired"])
@pytest.mark.parametrize("value", [False, "false"])
def test_a_line_that_needs_nobody_goes_out_as_it_came(make_bench: Callable[..., Any], key: str, value: Any) -> None:
    bench = make_bench(handlers={PRE: lambda event, context: {"taskInput": {}, key: value}})
    bench.create()
    assert bench.status() == "Completed"
    assert set(bench.manifest()[0]) == {"source", "gandt-task"}


def test_a_pre_lambda_without_task_input_fails_the_line(make_bench: Callable[..., Any]) -> None:
    bench = make_bench(handlers={PRE: lambda event, context: {}})
    bench.create()
    assert "no taskInput" in bench.manifest()[0]["labels-metadata"]["failure-reason"]


def test_a_failing_post_lambda_is_tried_three_times(make_bench: Callable[..., Any]) -> None:
    calls = []

    def post(event: dict[str, Any], context: object) -> Any:
        calls.append(event)
        raise RuntimeError("no memory")

    bench = make_bench(handlers={POST: post})
    bench.create()
    bench.answer(bench.worker())
    for _ in range(3):
        bench.run()
        bench.clock.advance(5)
    assert len(calls) == 3
    assert calls[0] == calls[2]
    reason = bench.manifest()[0]["labels-metadata"]["failure-reason"]
    assert reason.startswith("ClientError: The JSON output from the AnnotationConsolidation Lambda")
    assert "no memory" in reason


@pytest.mark.parametrize(
    ("response", "says"),
    [
        ([], "no entry with datasetObjectId 0"),
        ({}, "not a list"),
        ([{"datasetObjectId": "0"}], "no content with the key labels"),
        ([{"datasetObjectId": "0", "consolidatedAnnotation": {"content": {"other": 1}}}], "no content with the key"),
    ],
)
def test_a_malformed_post_answer_fails_its_lines(make_bench: Callable[..., Any], response: Any, says: str) -> None:
    bench = make_bench(handlers={POST: lambda event, context: response})
    bench.create()
    bench.answer(bench.worker())
    bench.run()
    assert bench.status() == "Completed"
    assert says in bench.manifest()[0]["labels-metadata"]["failure-reason"]


def test_batches_fill_up_or_wait_their_time_and_the_last_does_not_wait(make_bench: Callable[..., Any]) -> None:
    bench = make_bench(limits=Limits(batch_size=2, batch_seconds=30.0))
    bench.create(pages=4)
    worker = bench.worker()
    sizes = []
    for _ in range(4):
        bench.answer(worker)
        bench.run()
        sizes.append(bench.counters()["HumanLabeled"])
    assert sizes == [0, 2, 2, 4]
    bench.create("second", pages=3)
    bench.answer(worker)
    bench.clock.advance(31)
    bench.run()
    assert bench.counters("second")["HumanLabeled"] == 1


def test_one_jobs_trouble_does_not_hold_up_another(bench: Any) -> None:
    bench.create("sick")
    bench.create("well")
    one, two = bench.worker(), bench.worker()
    bench.leases.submit(bench.lease(one, "sick").lease_id, one, {"a": "b"})
    bench.leases.submit(bench.lease(two, "well").lease_id, two, {"a": "b"})
    away = BackendUnavailable("the disk is away", backend="objects")
    bench.objects.fault = lambda uri: away if "/sick/" in uri else None
    for _ in range(10):
        bench.engine.tick()
    assert (bench.status("sick"), bench.status("well")) == ("InProgress", "Completed")
    bench.objects.fault = None
    bench.run()
    assert bench.status("sick") == "Completed"


def test_a_trouble_that_lasts_is_logged_once(bench: Any, caplog: pytest.LogCaptureFixture) -> None:
    bench.create()
    bench.answer(bench.worker())
    for text in ("the disk is full", "the disk is away"):
        bench.objects.fault = lambda _, said=text: BackendUnavailable(said, backend="objects")
        for _ in range(5):
            bench.clock.advance(60)
            bench.engine.tick()
    assert [each.message for each in caplog.records if "waits" in each.message] == [
        "job job-1 waits: the disk is full",
        "job job-1 waits: the disk is away",
    ]


class FullDatabase:
    """A database that takes no write; with the fifth one the engine is stopped."""

    engine: Engine
    writes = 0

    def write(self, _change: object) -> Any:
        self.writes += 1
        if self.writes == 5:
            self.engine.begin_stop()
        raise BackendUnavailable("the database is full", backend="database")


def test_an_engine_that_cannot_tick_says_so_once(bench: Any, caplog: pytest.LogCaptureFixture) -> None:
    full = FullDatabase()
    full.engine = Engine(
        Parts(
            cast(Database, full),
            bench.objects,
            FunctionLambdas({}),
            PlainPages(),
            bench.time,
            bench.meter,
            bench.limits,
        ),
        retry_seconds=0.0,
    )
    full.engine._run()
    assert [each.message for each in caplog.records] == ["the engine waits: the database is full"]


def test_a_job_older_than_thirty_days_is_stopped(bench: Any) -> None:
    bench.create(TaskAvailabilityLifetimeInSeconds=2_592_000)
    bench.clock.advance(30 * 24 * 3600 + 1)
    bench.run()
    assert bench.status() in ("Stopped", "Completed")


def test_lines_that_have_their_label_are_not_asked_again(bench: Any) -> None:
    bench.create(pages=2, StoppingConditions={"MaxHumanLabeledObjectCount": 1})
    bench.answer(bench.worker())
    bench.run()
    first = bench.objects.get("s3://gandt/out/job-1/manifests/output/output.manifest")
    bench.objects.put("s3://gandt/in/chained.manifest", first)
    bench.jobs.create(bench.request("chained"))
    bench.run()
    worker = bench.worker()
    bench.answer(worker)
    bench.run()
    assert bench.status("chained") == "Completed"
    before, after = [json.loads(line) for line in first.splitlines()], bench.manifest("chained")
    assert all("labels" in line for line in after)
    assert next(line for line in before if "labels" in line) in after


def test_levels_are_reported(bench: Any) -> None:
    bench.create(pages=3)
    bench.lease(bench.worker())
    bench.clock.advance(6)
    bench.run()
    assert bench.meter.value("gandt_labeling_tasks", state="open") == 3
    assert bench.meter.value("gandt_labeling_leases") == 1
    assert bench.meter.value("gandt_labeling_active_workers") == 1


def test_who_asks_about_a_job_is_told_of_the_full_disk_and_it_goes_on_with_space(bench: Any) -> None:
    bench.create(pages=1)
    bench.answer(bench.worker())
    full = disk_trouble("/p/.gandt/objects/gandt/out", FULL, "the disk is full")
    bench.objects.fault = lambda _: full
    bench.run()
    with pytest.raises(WrongState, match="objects/gandt/out cannot be written: the disk is full"):
        bench.jobs.describe("job-1")
    bench.objects.fault = None
    bench.run()
    assert bench.status() == "Completed"
    assert len(bench.manifest()[0]["labels"]["responses"]) == 1


def test_a_trouble_that_passes_by_itself_is_no_answer_about_a_job(bench: Any) -> None:
    bench.create(pages=1)
    bench.answer(bench.worker())
    bench.objects.fault = lambda _: BackendUnavailable("s3 does not answer", backend="s3")
    bench.run()
    assert bench.status() == "InProgress"
