# SPDX-License-Identifier: GPL-3.0-or-later
"""What every job store obeys; SQLite always, PostgreSQL where its server is installed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gandt.adapters.sql_jobs import SqlJobs
from gandt.adapters.sql_jobs_engine import HEAD
from gandt.adapters.sql_jobs_schema import metadata
from gandt.domain.catalog import (
    CatalogFile,
    CatalogImage,
    EmbeddingJob,
    EmbeddingState,
    KnownLabel,
    LabelKind,
    QuarantinedAnswer,
    RejectedFile,
    WorkerRecord,
)
from gandt.domain.datasets import Answer, AnswerState, LabelEstimate, LabelStatus
from gandt.domain.errors import BackendUnavailable, Conflict, CorruptData, NotFound, OverBudget, WrongState
from gandt.domain.labeling.campaigns import Campaign, CampaignSpec, CampaignState
from gandt.domain.labeling.jobs import JobRequest, JobState, LabelingJob
from gandt.domain.labeling.money import Money
from gandt.domain.labeling.rounds import PageGroup, Pick, Round, RoundState, Tally
from gandt.ports.job_store import JobStore

NOW = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
GROUP = PageGroup(("a", "b"), 3)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state' / 'controller.db'}"
    return str(request.getfixturevalue("postgres_database"))


@pytest.fixture
def store(url: str) -> Iterator[JobStore]:
    made: JobStore = SqlJobs(url)
    yield made
    made.close()


def campaign(budget: int = 1_000_000, **changes: object) -> Campaign:
    spec = CampaignSpec("pets", ("cat", "dog"), budget_usd_micros=budget, target_labels=("cat",))
    return replace(Campaign("c1", spec, CampaignState.RUNNING, NOW, NOW), **changes)  # type: ignore[arg-type]


def a_round(number: int = 1, **changes: object) -> Round:
    made = Round(f"r{number}", "c1", number, RoundState.SELECTED, NOW, pending=(GROUP,))
    return replace(made, **changes)  # type: ignore[arg-type]


def a_job(name: str = "j1", reserved: int = 600_000, **changes: object) -> LabelingJob:
    request = JobRequest(name, "s3://b/m", "s3://b/o", "s3://b/t", "r", "w", "p", "q", "t", "d", 3, 30, 60, 1, {})
    made = LabelingJob(name, "r1", "c1", JobState.INTENT, request, "f", 2, 1, 3, NOW, reserved=reserved)
    return replace(made, **changes)  # type: ignore[arg-type]


def with_round(store: JobStore, budget: int = 1_000_000) -> None:
    store.create_campaign(campaign(budget), "")
    store.create_round(a_round(), [Pick("a", 1), Pick("b", 2, arm="control")], "")


PAGES = {"a": "p-0", "b": "p-0"}


def test_migrations_make_exactly_the_schema(store: SqlJobs) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with store.read() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == HEAD


def test_opening_twice_keeps_everything(store: JobStore, url: str) -> None:
    with_round(store)
    other = SqlJobs(url)
    assert other.get_round("r1").images == 2
    other.close()


def test_facts_and_times_come_back_exactly(store: JobStore) -> None:
    assert store.fact("x") == ""
    store.set_fact("x", "1")
    store.set_fact("x", "2")
    assert store.fact("x") == "2"
    made = store.create_campaign(campaign(), "q")
    assert made.created_at == NOW
    assert store.get_campaign("") == made == store.create_campaign(campaign(), "q")


def test_paths_and_images(store: JobStore) -> None:
    image = CatalogImage("id1", 4, 3, "JPEG", 9, "s3://g/t")
    files = [CatalogFile("s3://p/x/1.jpg", 9, "e", "id1"), CatalogFile("s3://p/y/1.jpg", 9, "e", "id1")]
    assert store.record_files([image], files) == 1
    assert store.record_files([image], files) == 0
    assert store.record_files([replace(image, image_id="id2")], [CatalogFile("s3://p/z/1.jpg", 9, "e", "id2")]) == 1
    assert store.known_files(["s3://p/x/1.jpg", "s3://p/n"]) == {"s3://p/x/1.jpg": files[0]}
    store.add_folder("s3://p/")
    assert store.resolve_images(["id2", "x/1.jpg", "1.jpg", "s3://p/z/1.jpg", "q"]) == [
        ("id2",),
        ("id1",),
        ("id1", "id2"),
        ("id2",),
        (),
    ]
    assert store.list_images("", 10)[0].uris == ("s3://p/x/1.jpg", "s3://p/y/1.jpg")
    assert [image.image_id for image in store.list_images("id1", 10)] == ["id2"]
    assert store.count_images() == 2


def test_a_relative_path_below_a_folder_wins_over_a_suffix(store: JobStore) -> None:
    images = [CatalogImage(i, 1, 1, "PNG", 1, "") for i in ("id1", "id2")]
    store.record_files(
        images, [CatalogFile("s3://p/1.jpg", 1, "e", "id1"), CatalogFile("s3://p/deep/1.jpg", 1, "e", "id2")]
    )
    assert store.resolve_images(["1.jpg"]) == [("id1", "id2")]
    store.add_folder("s3://p/")
    assert store.resolve_images(["1.jpg", "./deep/1.jpg"]) == [("id1",), ("id2",)]


def test_vectors_flags_and_groups(store: JobStore) -> None:
    images = [CatalogImage(f"id{n}", 1, 1, "PNG", 1, "") for n in range(3)]
    store.record_files(images, [CatalogFile(f"s3://p/{n}.png", 1, "e", f"id{n}") for n in range(3)])
    store.mark_embedded("col", ["id1"])
    store.mark_embedded("col", ["id1"])
    store.set_fact("collection", "col")
    assert store.count_unembedded("col") == 2
    assert [(ref.image_id, ref.uri) for ref in store.unembedded("col", "", 5)] == [
        ("id0", "s3://p/0.png"),
        ("id2", "s3://p/2.png"),
    ]
    assert [image.embedded for image in store.list_images("", 5)] == [False, True, False]
    store.unmark_embedded("col")
    assert store.count_unembedded("col") == 3
    assert store.near_groups("col", 1) is None
    store.set_near_groups("col", 1, {"id0": "g", "id1": "g"})
    assert store.near_groups("col", 1) == {"id0": "g", "id1": "g"}
    assert store.near_groups("col", 2) is None


def test_known_labels_count_what_changed(store: JobStore) -> None:
    labels = [KnownLabel("a", ("cat",)), KnownLabel("b", ("dog", "cat"))]
    assert store.put_known_labels(LabelKind.SEED, labels) == 2
    assert store.put_known_labels(LabelKind.SEED, labels) == 0
    assert store.put_known_labels(LabelKind.SEED, [KnownLabel("a", ("dog",))]) == 1
    assert store.put_known_labels(LabelKind.GOLD, labels) == 2
    assert store.known_labels(LabelKind.SEED) == [KnownLabel("a", ("dog",)), labels[1]]


def test_rounds_come_one_after_another(store: JobStore) -> None:
    with_round(store)
    with pytest.raises(Conflict):
        store.create_round(a_round(), [], "")
    with pytest.raises(WrongState):
        store.create_round(a_round(2), [], "")
    store.change_round("r1", lambda now: replace(now, state=RoundState.AGGREGATED, pending=()), NOW)
    second = store.create_round(a_round(2), [Pick("c", 1)], "q")
    assert store.create_round(a_round(2), [Pick("c", 1)], "q") == second
    assert store.newest_round("c1") == replace(second, picks=())
    assert [r.number for r in store.list_rounds("c1", 1, 10)] == [2]
    assert store.get_round("", with_picks=True) == second


def test_an_intent_reserves_or_leaves_nothing(store: JobStore) -> None:
    with_round(store)
    with pytest.raises(OverBudget):
        store.record_intent(a_job(reserved=1_000_001), GROUP, PAGES, "")
    assert store.list_jobs("c1") == []
    assert store.get_round("r1").pending == (GROUP,)
    made = store.record_intent(a_job(), GROUP, PAGES, "q")
    assert store.record_intent(a_job("j9"), GROUP, PAGES, "q") == made
    assert store.get_campaign("c1").money == Money(1_000_000, 600_000, 0)
    assert (store.get_round("r1").state, store.get_round("r1").pending) == (RoundState.LABELING, ())
    with pytest.raises(WrongState):
        store.record_intent(a_job("j2", reserved=0), GROUP, PAGES, "")
    assert store.job_pages("j1") == PAGES
    assert store.asked_images("c1") == {"a", "b"}


def test_two_threads_cannot_spend_the_same_money(store: JobStore) -> None:
    store.create_campaign(campaign(), "")
    store.create_round(a_round(pending=(GROUP,) * 6), [Pick("a", 1), Pick("b", 2)], "")
    outcomes: list[str] = []

    def reserve(number: int) -> None:
        try:
            store.record_intent(a_job(f"j{number}", reserved=400_000), GROUP, PAGES, "")
            outcomes.append("done")
        except OverBudget:
            outcomes.append("refused")

    threads = [threading.Thread(target=reserve, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["done"] * 2 + ["refused"] * 4
    assert store.get_campaign("c1").money.reserved == 800_000


def test_a_job_is_settled_once(store: JobStore) -> None:
    with_round(store)
    store.record_intent(a_job(), GROUP, PAGES, "")
    done = store.settle_job(a_job(cost=250_000, pages_labeled=1), {"b": 1}, NOW)
    assert (done.state, done.cost, done.reserved) == (JobState.SETTLED, 250_000, 600_000)
    assert store.settle_job(a_job(cost=999_999), {}, NOW) == done
    assert store.get_campaign("c1").money == Money(1_000_000, 0, 250_000)
    assert store.get_round("r1").cost == 250_000
    assert [(t.image_id, t.failed_pages) for t in store.tallies("r1")] == [("a", 0), ("b", 1)]
    unchanged = store.change_job("j1", lambda now: replace(now, state=JobState.CREATED), NOW)
    assert unchanged == done


def test_a_refused_job_gives_back_money_group_and_request(store: JobStore) -> None:
    with_round(store)
    store.record_intent(a_job(), GROUP, PAGES, "q")
    refused = store.refuse_job("j1", "no", GROUP, NOW)
    assert (refused.state, refused.message) == (JobState.REFUSED, "no")
    assert store.get_campaign("c1").money == Money(1_000_000, 0, 0)
    assert (store.get_round("r1").state, store.get_round("r1").pending) == (RoundState.SELECTED, (GROUP,))
    assert store.job_of_request("q") is None
    assert store.record_intent(a_job("j2"), GROUP, PAGES, "q").job_name == "j2"
    assert store.count_jobs() == {JobState.REFUSED: 1, JobState.INTENT: 1}
    assert store.oldest_open_job() == NOW


def test_renaming_takes_pages_and_money_along(store: JobStore) -> None:
    with_round(store)
    store.record_intent(a_job(), GROUP, PAGES, "")
    renamed = store.rename_intent("j1", a_job("j1b", attempt=1), NOW)
    assert (renamed.job_name, renamed.attempt, renamed.reserved) == ("j1b", 1, 600_000)
    assert store.job_pages("j1b") == PAGES
    assert not store.has_job("j1")
    with pytest.raises(NotFound):
        store.get_job("j1")


def test_versions_grow_with_what_watchers_may_see(store: JobStore) -> None:
    with_round(store)
    before = store.campaign_version("c1")
    store.record_intent(a_job(), GROUP, PAGES, "")
    middle = store.campaign_version("c1")
    assert middle > before
    later = NOW + timedelta(seconds=5)
    quiet = store.change_job("j1", lambda now: replace(now, tries=1, next_try_at=later), NOW, quiet=True)
    assert (quiet.next_try_at, store.campaign_version("c1")) == (later, middle)
    store.change_job("j1", lambda now: replace(now, state=JobState.CREATED), NOW)
    assert store.campaign_version("c1") > middle
    with pytest.raises(Conflict):
        store.change_campaign("c1", lambda now: replace(now, message="x"), NOW, expected_version=1)


def test_answers_are_kept_once(store: JobStore) -> None:
    with_round(store)
    given = [
        Answer("a", "w1", ("cat",), job="j1", page="p-0", answered_at=NOW, seconds=1.5),
        Answer("a", "w2", (), state=AnswerState.BLANK, job="j1"),
        Answer("b", "w1", ("dog",), job="j0"),
    ]
    assert store.add_answers("c1", given) == 3
    assert store.add_answers("c1", [*given, replace(given[0], labels=("dog",))]) == 0
    assert store.add_answers("c1", []) == 0
    found = store.all_answers("c1")
    assert found == [given[0], given[1], given[2]]
    key = store.list_answers("c1", limit=1)[0][0]
    assert [answer.worker_id for _, answer in store.list_answers("c1", after=key)] == ["w2", "w1"]
    assert (store.count_answers("c1"), store.count_answers("c1", "j0")) == (3, 1)
    assert store.tallies("r1") == [Tally("a", 1, 2), Tally("b", 1, 1)]
    entry = QuarantinedAnswer("j1", "s3://x", "not_json", "{")
    store.add_quarantine([entry, entry])
    store.add_quarantine([])
    assert store.list_quarantine(["j1"]) == [entry]


def test_earlier_rounds_are_tallied_without_what_an_expert_decided(store: JobStore) -> None:
    with_round(store)
    store.record_intent(a_job(cost=0), GROUP, PAGES, "")
    store.settle_job(a_job(state=JobState.SETTLED), {"b": 1}, NOW)
    store.add_answers("c1", [Answer("a", "w1", ("cat",), job="j1"), Answer("b", "w1", ("cat",), job="j0")])
    assert store.earlier_tallies("r1") == []
    store.change_round("r1", lambda now: replace(now, state=RoundState.AGGREGATED, pending=()), NOW)
    store.create_round(replace(a_round(), round_id="r2", number=2), [Pick("d", 1)], "")
    again = replace(a_job("j2", state=JobState.INTENT), round_id="r2")
    store.record_intent(again, GROUP, {"b": "p-0", "d": "p-0"}, "")
    store.settle_job(replace(again, state=JobState.SETTLED), {"b": 1, "d": 1}, NOW)
    store.add_answers("c1", [Answer("a", "w2", ("dog",), job="j2")])
    assert store.tallies("r2") == [Tally("d", failed_pages=1)]
    assert store.earlier_tallies("r2") == [Tally("a", 2, 2), Tally("b", 1, 1, failed_pages=2)]
    store.put_reviews("c1", [KnownLabel("a", ("cat",))], "me", {"cat"}, NOW)
    assert [tally.image_id for tally in store.earlier_tallies("r2")] == ["b"]


def test_labels_are_replaced_and_reviews_stay(store: JobStore) -> None:
    with_round(store)
    store.put_known_labels(LabelKind.SEED, [KnownLabel("s", ("dog",)), KnownLabel("a", ("dog",))])
    sure = LabelEstimate("a", ("cat",), 0.9, LabelStatus.CERTAIN, 3, 3)
    open_ = LabelEstimate("b", (), 0.0, LabelStatus.UNLABELED, 0, 0)
    people = [WorkerRecord("w1", 3, 0.9, 0.5, 1.0, -1.0, "reliable", 0.8, 0.7, 0.9, 0.5, 0.6, 0.1)]

    def closed(now: Round) -> Round:
        return replace(now, state=RoundState.AGGREGATED, pending=(), warnings=("w",))

    made = store.write_labels("r1", [sure, open_], people, {"cat"}, closed, NOW)
    assert (made.state, made.targets_found, made.main_targets, made.control_images) == (RoundState.AGGREGATED, 1, 1, 1)
    assert store.list_workers("c1", "", 5) == people
    rows = store.list_labels("c1", "", True, "", 10)
    assert [(r.image_id, r.source, r.round, r.arm) for r in rows] == [
        ("a", "workers", 1, "main"),
        ("b", "workers", 1, "control"),
        ("s", "seed", 0, ""),
    ]
    assert store.count_labels("c1", "certain", True) == 2
    assert store.count_labels("c1", "unlabeled", False) == 1
    store.put_reviews("c1", [KnownLabel("a", ("dog",))], "expert", {"cat"}, NOW)
    store.write_labels("r1", [sure], people, {"cat"}, closed, NOW)
    assert store.list_labels("c1", "", False, "", 1)[0].labels == ("dog",)
    current = store.get_campaign("c1")
    assert (current.labeled, current.targets_found) == (1, 0)
    assert store.picked_images("c1") == {"a", "b"}


def test_a_lease_has_one_holder(store: JobStore, url: str) -> None:
    other = SqlJobs(url)
    assert store.take_lease("loop", "me", NOW, 15)
    assert store.take_lease("loop", "me", NOW, 15)
    assert not other.take_lease("loop", "you", NOW, 15)
    store.drop_lease("loop", "me")
    assert other.take_lease("loop", "you", NOW, 15)
    other.close()


def test_embedding_jobs(store: JobStore) -> None:
    job = EmbeddingJob("e1", EmbeddingState.RUNNING, "m", "col", 5)
    assert store.create_embedding_job(job, "q") == job
    assert store.create_embedding_job(replace(job, embedding_job_id="e2"), "q") == job
    bad = RejectedFile("s3://x", "IMAGE_TRUNCATED", "cut off")
    store.advance_embedding_job("e1", 3, [("a", bad)])
    store.advance_embedding_job("e1", 1, [("a", bad)])
    assert store.running_embedding_jobs() == ["e1"]
    store.end_embedding_job("e1", EmbeddingState.COMPLETED, "done")
    done = store.get_embedding_job("e1")
    assert (done.embedded, done.failed, done.rejected, done.message) == (4, 1, (bad,), "done")
    assert store.running_embedding_jobs() == []


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"not a database at all, but long enough to be looked at" * 40)
    with pytest.raises(CorruptData):
        SqlJobs(f"sqlite:///{tmp_path / 'x.db'}")


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(BackendUnavailable):
        SqlJobs("postgresql+psycopg://127.0.0.1:1/none?connect_timeout=1")
