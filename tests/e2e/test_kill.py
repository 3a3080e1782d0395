# SPDX-License-Identifier: GPL-3.0-or-later
"""`kill -9` at random moments of the loop: nothing acknowledged is lost or doubled, and the labels are right."""

from __future__ import annotations

import os
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from gandt.client.aggregation import AggregationClient
from gandt.client.connection import connect
from gandt.client.jobcontroller import JobControllerClient
from gandt.client.vectorsearch import VectorSearchClient
from gandt.domain.aggregation.records import AggregateSpec
from gandt.domain.catalog import EmbeddingState, LabelKind
from gandt.domain.datasets import Answer
from gandt.domain.labeling.campaigns import CampaignSpec, StopRule
from gandt.domain.labeling.outcomes import GivenLabel
from gandt.domain.labeling.simulated_worker import crew
from tests.e2e.under_fire import PATIENCE_SECONDS, Server, Workers, insist, killer, pictures

IMAGES, WANTED, KILLS = 90, 18, 4


def run_under_fire(folder: Path, seed: int) -> None:
    truth, known = pictures(folder / "photos", IMAGES, WANTED, seed)
    server = Server(folder / "project")
    from gandt_standalone.bootstrap import mount_photos

    uri = mount_photos(server.project, folder / "photos")
    done = threading.Event()
    server.start()
    attacker = killer(server, seed, KILLS, done)
    channel = connect(server.url("jobcontroller"), service="jobcontroller")
    controller = JobControllerClient(channel)
    try:
        insist(lambda: list(controller.import_images([uri])))
        ids = {
            image.uris[0].rsplit("/", 1)[-1]: image.image_id for image in insist(lambda: list(controller.list_images()))
        }
        assert set(ids) == set(truth)
        embedded = embed(controller)
        seeds = [GivenLabel(name, (label,)) for name, label in known.items()]
        insist(lambda: controller.import_labels(seeds, LabelKind.SEED, False))
        spec = CampaignSpec(
            name="fire",
            classes=("three", "other"),
            target_labels=("three",),
            budget_usd_micros=50_000_000,
            price_per_page_usd_micros=36_000,
            round_size=15,
            group_size=5,
            workers_per_image=3,
            max_workers_per_image=4,
            method="majority",
            stop=StopRule(max_rounds=3),
            seed=seed,
        )
        campaign = insist(lambda: controller.create_campaign(spec, request_id=f"fire-{seed}"))
        identity = campaign.campaign_id
        workers = Workers(server, crew(6, seed, 0.9), {ids[name]: (label,) for name, label in truth.items()})
        work = workers.start(done)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not campaign.state.is_final and not workers.failures:
            assert time.monotonic() < deadline, f"the campaign is still {campaign.state}: {campaign.message}"
            time.sleep(0.1)
            campaign = insist(lambda: controller.get_campaign(identity))
        done.set()
        attacker.join()
        work.join()
        assert workers.failures == []
        assert campaign.state == "completed", campaign.message
        check_answers(controller, identity, workers)
        check_labels(server, controller, identity, workers)
        check_money(controller, identity)
        check_vectors(server, embedded, set(ids.values()))
    finally:
        done.set()
        attacker.join()
        channel.close()
        server.stop()


def embed(controller: JobControllerClient) -> str:
    """Embeds everything, starting again after each kill; gives the collection."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        job = insist(controller.create_embedding_job)
        while job.state is EmbeddingState.RUNNING:
            assert time.monotonic() < deadline, job
            time.sleep(0.1)
            job = insist(partial(controller.get_embedding_job, job.embedding_job_id))
        assert time.monotonic() < deadline, job
        if job.state is EmbeddingState.COMPLETED:
            assert job.failed == 0, job
            return job.collection


def check_answers(controller: JobControllerClient, campaign_id: str, workers: Workers) -> None:
    """Every acknowledged answer is there once, and no other."""
    stored = insist(lambda: list(controller.list_answers(campaign_id)))
    found = {(a.image_id, a.worker_id): a.labels for a in stored if a.state == "answered"}
    assert len(stored) == len({(a.image_id, a.worker_id) for a in stored}), "a worker's answer is stored twice"
    assert workers.doubled == [], "a worker was asked about an image twice"
    assert found == workers.acknowledged


def check_labels(server: Server, controller: JobControllerClient, campaign_id: str, workers: Workers) -> None:
    """The final labels are those of an offline aggregation of the acknowledged answers."""
    answers = [Answer(image, worker, labels) for (image, worker), labels in sorted(workers.acknowledged.items())]
    spec = AggregateSpec(method="majority", classes=("three", "other"))
    with connect(server.url("aggregation"), service="aggregation") as channel:
        offline = AggregationClient(channel).aggregate(answers, spec)
    expected = {item.image_id: set(item.labels) for item in offline.items}
    labels = insist(lambda: list(controller.list_labels(campaign_id)))
    assert {label.image_id: set(label.labels) for label in labels if label.answers} == expected


def check_money(controller: JobControllerClient, campaign_id: str) -> None:
    """Nothing is reserved any more, and what is spent is what the jobs cost."""
    campaign = insist(lambda: controller.get_campaign(campaign_id))
    jobs = insist(lambda: list(controller.list_labeling_jobs(campaign_id=campaign_id)))
    assert campaign.money.reserved == 0
    assert campaign.money.spent == sum(job.cost for job in jobs)
    assert len({job.job_name for job in jobs}) == len(jobs)


def check_vectors(server: Server, collection: str, images: set[str]) -> None:
    """Every image has one vector."""
    with connect(server.url("vectorsearch"), service="vectorsearch") as channel:
        ids = [i for block in VectorSearchClient(channel).scan(collection) for i in block.ids]
    assert sorted(ids) == sorted(images)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", range(3))
def test_kill_at_random_moments(tmp_path: Path, seed: int) -> None:
    run_under_fire(tmp_path, seed)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", range(100, 100 + int(os.environ.get("GANDT_SOAK_ROUNDS", "20"))))
def test_kill_soak(tmp_path: Path, seed: int) -> None:
    run_under_fire(tmp_path, seed)
