# SPDX-License-Identifier: GPL-3.0-or-later
"""The job controller over real gRPC: every RPC through the typed client, against fakes of its peers."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from gandt_jobcontroller.bootstrap import assemble
from PIL import Image

from gandt.client.connection import connect
from gandt.client.jobcontroller import JobControllerClient
from gandt.domain.catalog import EmbeddingState, LabelKind
from gandt.domain.datasets import Answer, AnswerState
from gandt.domain.errors import AlreadyExists, Conflict, GandtError, InvalidInput, NotFound, OverBudget, WrongState
from gandt.domain.labeling.campaigns import CampaignState
from gandt.domain.labeling.jobs import JobState
from gandt.domain.labeling.outcomes import GivenLabel
from gandt.domain.labeling.rounds import RoundState
from gandt.runtime.server import ServerThread
from gandt.wire import jobcontroller as wire
from gandt.wire.jobcontroller import pb
from tests.unit.jobcontroller.world import World, spec

PAGE = 80_000 + 3 * 36_000


class LiveClock:
    """Real time that runs sixty times as fast, so that waits are short."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def monotonic(self) -> float:
        return (time.monotonic() - self._start) * 60

    def now(self) -> datetime:
        return datetime.fromtimestamp(1_800_000_000 + self.monotonic(), UTC)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / 60)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path, clock=LiveClock())  # type: ignore[arg-type]
    made.controller.loop._poll_seconds = 0.05
    return made


@pytest.fixture
def client(world: World) -> Iterator[JobControllerClient]:
    with (
        ServerThread(assemble(world.controller, world.controller.close)) as server,
        connect(server.addresses["jobcontroller"].service, service="jobcontroller") as channel,
    ):
        yield JobControllerClient(channel)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline


def picture(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(out, "PNG")
    return out.getvalue()


def test_images_and_labels(world: World, client: JobControllerClient) -> None:
    for shade in range(3):
        world.objects.put(f"s3://photos/{shade}.png", picture(shade))
    world.objects.put("s3://photos/notes.txt", b"milk")
    reports = list(client.import_images(["s3://photos/"]))
    assert reports[-1].done
    assert (reports[-1].summary.added, reports[-1].summary.rejected) == (3, 1)
    (refused,) = [refusal for report in reports for refusal in report.rejected]
    assert (refused.uri, type(refused.error), refused.error.reason) == (
        "s3://photos/notes.txt",
        InvalidInput,
        "NOT_AN_IMAGE",
    )
    images = list(client.list_images())
    assert (len(images), client.count_images()) == (3, 3)
    assert (images[0].width, images[0].format, images[0].embedded) == (8, "PNG", False)
    done = client.import_labels([GivenLabel("0.png", ("cat",)), GivenLabel("9.png", ("cat",))], LabelKind.SEED)
    assert (done.imported, [(r.index, type(r.error)) for r in done.rejected]) == (1, [(1, NotFound)])
    with pytest.raises(NotFound):
        list(client.import_images(["s3://photos/none/"]))


def test_a_campaign_runs_and_is_watched(world: World, client: JobControllerClient) -> None:
    world.add_images(12)
    made = client.create_campaign(spec(), request_id="c")
    assert client.create_campaign(spec(), request_id="c").campaign_id == made.campaign_id
    with pytest.raises(AlreadyExists):
        client.create_campaign(spec(name="others"), request_id="c")
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            world.work()
            done.wait(0.02)

    workers = threading.Thread(target=work)
    workers.start()
    try:
        seen = list(client.watch_campaign(made.campaign_id))
    finally:
        done.set()
        workers.join()
    last, newest = seen[-1]
    assert (last.state, last.rounds, last.labeled, last.answers) == (CampaignState.COMPLETED, 2, 12, 36)
    assert newest is not None
    assert newest.state is RoundState.AGGREGATED
    versions = [campaign.version for campaign, _ in seen]
    assert versions == sorted(set(versions))
    assert last.spec == client.get_campaign().spec
    labels = list(client.list_labels())
    assert {label.image_id: label.labels[0] for label in labels} == world.truth
    answers = list(client.list_answers())
    assert len(answers) == len({(a.job, a.image_id, a.worker_id) for a in answers}) == 36
    assert [w.worker_id for w in client.list_workers()] == ["w1", "w2", "w3", "w4"]
    assert [r.number for r in client.list_rounds()] == [1, 2]
    jobs = list(client.list_labeling_jobs())
    assert [job.state for job in jobs] == [JobState.SETTLED] * 2
    assert sum(job.cost for job in jobs) == last.money.spent == 4 * PAGE
    done_export = client.export_labels("s3://gandt/labels.jsonl", "jsonl")
    assert (done_export.rows, len(done_export.sha256)) == (12, 64)
    count, new_id = client.forget_worker("w2")
    assert count == 12
    assert new_id in {w.worker_id for w in client.list_workers()}


def test_manual_steps(world: World, client: JobControllerClient) -> None:
    world.add_images(10)
    made = client.create_campaign(spec(budget_usd_micros=2 * PAGE), manual=True)
    assert made.state is CampaignState.MANUAL
    picked = client.create_round(request_id="r")
    assert client.create_round(request_id="r") == picked == client.get_round(picked.round_id)
    assert picked.picks[0].uris == ("s3://photos/a/000.jpg",)
    quote, available, coming = client.quote_round()
    assert coming is not None
    assert coming.assumed
    assert (quote.pages, quote.max_cost, available) == (3, 3 * PAGE, 2 * PAGE)
    with pytest.raises(OverBudget):
        client.create_labeling_job()
    changed = client.update_campaign(made.campaign_id, budget_usd_micros=3 * PAGE)
    assert changed.money.budget == 3 * PAGE
    with pytest.raises(Conflict):
        client.update_campaign(made.campaign_id, paused=True, expected_version=made.version)
    job = client.create_labeling_job(request_id="j")
    assert (job.state, job.work_url) == (JobState.CREATED, "http://127.0.0.1:8080/work")
    assert client.create_labeling_job(request_id="j").job_name == job.job_name
    world.work()
    until(lambda: client.get_labeling_job(job.job_name).state is JobState.COLLECTING)
    collected = client.collect_round()
    assert (collected.new_answers, collected.round.state) == (30, RoundState.COLLECTED)
    assert [j.state for j in client.watch_labeling_job(job.job_name)] == [JobState.SETTLED]
    labels = client.aggregate_round()
    assert (labels.certain, labels.round.state) == (10, RoundState.AGGREGATED)
    reviewed = client.review_labels([GivenLabel("a/000.jpg", ("dog",)), GivenLabel("x", ("dog",))], "expert")
    assert (reviewed.imported, [type(r.error) for r in reviewed.rejected]) == (1, [NotFound])
    imported = client.import_answers([Answer("001.jpg", "ann", ("dog",), state=AnswerState.ANSWERED)])
    assert (imported.imported, client.import_answers([Answer("001.jpg", "ann", ("dog",))]).unchanged) == (1, 1)
    with pytest.raises(WrongState):
        client.create_round()
    stopped = client.stop_campaign(made.campaign_id)
    assert stopped.state in (CampaignState.STOPPING, CampaignState.STOPPED)
    until(lambda: client.get_campaign().state is CampaignState.STOPPED)
    assert [c.campaign_id for c in client.list_campaigns()] == [made.campaign_id]


def test_stopping_a_job(world: World, client: JobControllerClient) -> None:
    world.add_images(10)
    client.create_campaign(spec(), manual=True)
    client.create_round()
    job = client.create_labeling_job()
    assert client.stop_labeling_job(job.job_name).state is JobState.STOPPING
    until(lambda: client.get_labeling_job(job.job_name).state is JobState.COLLECTING)
    assert client.collect_round().failed_images == 10
    assert client.get_labeling_job(job.job_name).cost == 0


def test_embedding_jobs(world: World, client: JobControllerClient) -> None:
    world.add_images(3, embedded=False)
    job = client.create_embedding_job(request_id="e")
    assert (job.state, job.total, job.model_id) == (EmbeddingState.RUNNING, 3, "hog-1")
    assert client.get_embedding_job(job.embedding_job_id) == job
    assert world.embedding_jobs.started == [job.embedding_job_id]
    with pytest.raises(WrongState):
        client.create_embedding_job(model_id="other")


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda c: c.get_campaign("c-9"), NotFound),
        (lambda c: c.get_round("r-9"), NotFound),
        (lambda c: c.get_labeling_job("j-9"), NotFound),
        (lambda c: c.get_embedding_job("e-9"), NotFound),
        (lambda c: list(c.watch_campaign("c-9")), NotFound),
        (lambda c: c.create_campaign(spec(name="No Good")), InvalidInput),
        (lambda c: c.export_labels("s3://gandt/x", "xls"), InvalidInput),
        (lambda c: list(c.list_labels(status="odd")), InvalidInput),
        (lambda c: c.forget_worker("nobody"), NotFound),
    ],
)
def test_errors_come_back_as_they_were(client: JobControllerClient, call: Any, error: type[GandtError]) -> None:
    with pytest.raises(error):
        call(client)


def test_every_rpc_of_the_contract_is_there() -> None:
    from gandt_jobcontroller.servicer import JobControllerServicer

    names = {method.name for method in pb.DESCRIPTOR.services_by_name["JobControllerService"].methods}
    assert len(names) == 29
    assert names <= set(vars(JobControllerServicer))


def test_unknown_numbers_and_words_are_refused() -> None:
    with pytest.raises(InvalidInput):
        wire.label_kind(99)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        wire.answer(pb.Answer(state="maybe"))
