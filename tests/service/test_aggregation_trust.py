# SPDX-License-Identifier: GPL-3.0-or-later
"""Over real gRPC: what tells how far labels can be trusted. Workers, gold, audit, image model, plans, states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
from gandt_aggregation.bootstrap import bootstrap
from gandt_aggregation.service import AggregationService
from gandt_aggregation.settings import Settings
from gandt_aggregation.stored_answers import StoredAnswers

from gandt.adapters.local_files import LocalFiles
from gandt.adapters.memory_clock import ManualClock, ManualDeadline, MemoryMeter
from gandt.adapters.memory_objects import MemoryObjects
from gandt.api.aggregation.v1 import aggregation_pb2 as pb
from gandt.api.aggregation.v1 import aggregation_pb2_grpc as grpc_api
from gandt.client.aggregation import AggregateResult, AggregationClient, Beside
from gandt.client.connection import connect
from gandt.domain.aggregation.records import AggregateSpec, ModelChunk, PlanSpec
from gandt.domain.datasets import Answer, LabelStatus
from gandt.domain.errors import DeadlineExceeded, InvalidInput
from gandt.runtime.peers import Peers, unknown_peer
from gandt.runtime.server import ServerThread
from tests.unit.aggregation.builders import answer, crowd

CLASSES = ("c0", "c1", "c2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trust")


@pytest.fixture(scope="module")
def endpoint(folder: Path) -> Iterator[str]:
    settings = Settings(
        port=0, health_port=None, metrics_port=None, data_dir=folder, max_images=4000, max_stored_bytes=200_000
    )
    with ServerThread(bootstrap(settings, Peers(unknown_peer)), settings) as thread:
        yield thread.addresses["aggregation"].service


@pytest.fixture(scope="module")
def client(endpoint: str) -> Iterator[AggregationClient]:
    with connect(endpoint, service="aggregation") as channel:
        yield AggregationClient(channel)


def planted(images: int, seed: int = 1, each: int = 4) -> tuple[list[Answer], dict[str, tuple[str, ...]]]:
    rows, truth = crowd(images, 3, each, seed)
    return [answer(row) for row in rows], {image: (label,) for image, label in truth.items()}


def model(truth: dict[str, tuple[str, ...]], share: float, classes: tuple[str, ...] = CLASSES) -> ModelChunk:
    """Sure of the right class for that share of the images, of the next one for the others."""
    right = np.array([classes.index(labels[0]) for labels in truth.values()])
    wrong = np.random.default_rng(3).random(len(right)) >= share
    return ModelChunk(list(truth), classes, np.eye(len(classes), dtype=np.float32)[(right + wrong) % 3])


# Workers


def test_workers_come_with_everything_that_is_known_of_them(client: AggregationClient) -> None:
    given, _ = planted(150)
    slow = [replace(a, seconds=4.0 + n % 5) for n, a in enumerate(given)]
    lazy = [Answer(a.image_id, "lazy", ("c0",), seconds=0.2 if n % 2 else 5.0) for n, a in enumerate(given[::4])]
    workers = {w.worker_id: w for w in client.aggregate([*slow, *lazy], AggregateSpec(method="hierarchical")).workers}
    w = workers["lazy"]
    assert w.one_label_share == 1
    assert w.too_fast_share == pytest.approx(0.5, abs=0.01)
    assert w.spammer_score is not None
    assert w.spammer_score < 0.1
    good = max((w for w in workers.values() if w.answers > 20), key=lambda w: w.estimated_accuracy or 0)
    assert (good.spammer_score or 0) > 0.4
    assert good.too_fast_share == 0
    assert good.estimated_accuracy is not None
    assert 0 < good.estimated_low < good.estimated_accuracy < good.estimated_high <= 1
    untimed = client.aggregate(given).workers
    assert all(w.too_fast_share is None for w in untimed)
    several = client.aggregate(given, AggregateSpec(multi_label=True)).workers
    assert all(w.one_label_share is None for w in several)


def test_a_column_of_seconds_of_another_length_is_refused(endpoint: str) -> None:
    spec = pb.AggregateRequest(spec=pb.AggregateSpec())
    chunk = pb.AnswerChunk(
        new_image_ids=["i"],
        new_worker_ids=["w"],
        new_labels=["a"],
        images=[0],
        workers=[0],
        label_counts=[1],
        labels=[0],
        seconds=[1.0, 2.0],
    )
    odd = pb.ModelChunk(image_ids=["i"], classes=["a", "b"], probabilities=b"\0" * 4)
    cases = [(pb.AggregateRequest(answers=chunk), "2 seconds"), (pb.AggregateRequest(model=odd), "need 8")]
    with grpc.insecure_channel(endpoint) as channel:
        stub = grpc_api.AggregationServiceStub(channel)
        for request, text in cases:
            with pytest.raises(grpc.RpcError) as caught:
                list(stub.Aggregate(iter([spec, request]), timeout=20))
            assert isinstance(caught.value, grpc.Call)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert text in (caught.value.details() or "")


def test_earlier_answers_weigh_workers(client: AggregationClient) -> None:
    # Two strangers against one worker whose history is spotless and theirs is not.
    votes = [Answer("new", "good", ("c0",)), Answer("new", "bad", ("c1",)), Answer("new", "worse", ("c1",))]
    history, _ = planted(60, each=5)
    past = [
        Answer(f"old{n}", w, (f"c{n % 3}" if w in ("good", "x", "y") else f"c{(n * 7 + len(w)) % 3}",))
        for n in range(60)
        for w in ("good", "x", "y", "bad", "worse")
    ]
    alone = client.aggregate(votes, AggregateSpec(classes=CLASSES)).items[0]
    known = client.aggregate(votes, AggregateSpec(classes=CLASSES), previous=[*past, *history])
    assert alone.labels == ("c1",)
    assert [item.image_id for item in known.items] == ["new"]
    assert known.items[0].labels == ("c0",)
    gold = client.aggregate(votes, AggregateSpec(classes=CLASSES), {"old0": ("c0",)}, past)
    assert {w.worker_id: w.gold_answers for w in gold.workers}["good"] == 1


# Calibration


def measured(client: AggregationClient, images: int, gold: int, drawn: int, **spec: object) -> AggregateResult:
    given, truth = planted(images)
    known = dict(list(truth.items())[:gold])
    beside = Beside(drawn_gold=set(list(known)[:drawn]))
    return client.aggregate(given, replace(AggregateSpec(method="hierarchical"), **spec), known, beside=beside)  # type: ignore[arg-type]


def test_gold_measures_posteriors_by_a_fit_that_does_not_know_it(client: AggregationClient) -> None:
    found = measured(client, 200, 40, 0).summary.calibration
    assert found is not None
    assert (found.images, found.drawn_at_random, found.error, found.temperature) == (40, False, None, None)
    assert 0.05 < found.brier < 0.6  # the fit that knows them would give 0
    assert found.log_loss > 0.05
    assert measured(client, 200, 0, 0).summary.calibration is None
    some = measured(client, 200, 40, 15).summary.calibration
    assert some is not None
    assert (some.images, some.drawn_at_random) == (15, True)


@pytest.mark.parametrize(
    ("gold", "drawn", "error", "temperature"),
    [(299, 299, False, False), (300, 300, False, True), (1000, 1000, True, True), (1000, 0, True, False)],
)
def test_the_error_takes_1000_images_and_the_temperature_300_drawn_at_random(
    client: AggregationClient, gold: int, drawn: int, error: bool, temperature: bool
) -> None:
    found = measured(client, 1200, gold, drawn).summary.calibration
    assert found is not None
    assert (found.error is not None, found.temperature is not None) == (error, temperature)


def test_a_temperature_changes_confidences_but_no_label(client: AggregationClient) -> None:
    plain, mended = measured(client, 1200, 400, 0), measured(client, 1200, 400, 400)
    assert mended.summary.calibration is not None
    temperature = mended.summary.calibration.temperature
    assert temperature is not None
    assert temperature != 1
    assert [item.labels for item in plain.items] == [item.labels for item in mended.items]
    free = [(a.confidence, b.confidence) for a, b in zip(plain.items, mended.items, strict=True) if not a.gold]
    assert any(abs(a - b) > 1e-3 for a, b in free)
    assert all((a <= b + 1e-9) == (temperature < 1) for a, b in free if abs(a - b) > 1e-6)


def test_several_labels_are_measured_by_their_questions(client: AggregationClient) -> None:
    found = measured(client, 400, 350, 350, method="auto", multi_label=True).summary.calibration
    assert found is not None
    assert (found.images, found.error) == (350, None)
    assert found.temperature is not None


# Audit


def test_an_audit_bounds_the_wrong_labels_for_the_price_that_was_named(client: AggregationClient) -> None:
    given, truth = planted(600, each=7)
    spec = AggregateSpec(audit_size=120, audit_seed=7)
    first = client.aggregate(given, spec)
    audit = first.summary.audit
    assert audit is not None
    assert (audit.judged, audit.error_bound, audit.if_none_wrong, audit.if_some_wrong) == (0, 1.0, 73, 243)
    drawn = sorted((item for item in first.items if item.audit_place), key=lambda item: item.audit_place)
    assert [item.audit_place for item in drawn] == list(range(1, 121))
    assert all(item.status is LabelStatus.CERTAIN for item in drawn)
    assert audit.settled == sum(item.status is LabelStatus.CERTAIN for item in first.items)
    judged = {item.image_id: item.labels for item in drawn[:73]}  # an expert who agrees
    after = client.aggregate(given, spec, beside=Beside(judged=judged)).summary
    assert after.audit is not None
    assert (after.audit.judged, after.audit.wrong) == (73, 0)
    assert after.audit.error_bound <= 0.05
    honest = client.aggregate(given, spec, beside=Beside(judged={i.image_id: truth[i.image_id] for i in drawn}))
    assert honest.summary.audit is not None
    wrong = sum(i.labels != truth[i.image_id] for i in first.items if i.status is LabelStatus.CERTAIN)
    assert honest.summary.audit.error_bound >= wrong / audit.settled
    assert after.estimated_error == after.estimated_error
    other = client.aggregate(given, replace(spec, audit_seed=8))
    assert {i.image_id for i in other.items if i.audit_place} != {i.image_id for i in drawn}


def test_judgments_count_up_to_the_first_image_that_was_passed_over(client: AggregationClient) -> None:
    given, _ = planted(200, each=7)
    spec = AggregateSpec(audit_size=50)
    drawn = sorted((i for i in client.aggregate(given, spec).items if i.audit_place), key=lambda i: i.audit_place)
    judged = {item.image_id: item.labels for item in drawn}
    del judged[drawn[20].image_id]
    judged["nowhere"] = ("c0",)
    summary = client.aggregate(given, spec, beside=Beside(judged=judged)).summary
    assert summary.audit is not None
    assert summary.audit.judged == 20
    assert any(drawn[20].image_id in text and "29 judgments" in text for text in summary.warnings)
    assert any("not settled" in text for text in summary.warnings)


def test_all_judged_is_no_estimate(client: AggregationClient) -> None:
    given = [Answer(f"i{n}", w, ("c0",)) for n in range(10) for w in ("a", "b", "c")]
    judged = {f"i{n}": ("c0" if n else "c1",) for n in range(10)}
    audit = client.aggregate(given, AggregateSpec(method="majority"), beside=Beside(judged=judged)).summary.audit
    assert audit is not None
    assert (audit.settled, audit.judged, audit.wrong, audit.error_bound) == (10, 10, 1, 0.1)
    assert audit.if_none_wrong == 10


# An image model


def test_a_model_is_one_more_worker_with_a_confusion_of_its_own(client: AggregationClient) -> None:
    given, truth = planted(300, each=3)
    spec = AggregateSpec(method="hierarchical", classes=CLASSES)

    def right(result: AggregateResult) -> float:
        return float(np.mean([item.labels == truth[item.image_id] for item in result.items]))

    alone = client.aggregate(given, spec)
    both = client.aggregate(given, spec, beside=Beside(model=[model(truth, 0.9)]))
    poor = client.aggregate(given, spec, beside=Beside(model=[model(truth, 0.3)]))
    assert right(both) > right(alone) + 0.01
    assert right(poor) > right(alone) - 0.02
    machine = both.workers[-1]
    assert (machine.worker_id, machine.image_model, machine.answers) == ("image model", True, 300)
    assert machine.estimated_accuracy == pytest.approx(0.9, abs=0.05)
    assert machine.confusion is not None
    assert not any(w.image_model for w in alone.workers)
    assert [i.answers for i in both.items] == [i.answers for i in alone.items]  # people alone are counted
    assert both.summary.raw_agreement == alone.summary.raw_agreement


def test_a_model_alone_settles_nothing_and_unknown_classes_are_told(client: AggregationClient) -> None:
    given = [Answer("i", "w", ("c0",)), Answer("j", "w", ("c1",)), Answer("j", "v", ("c1",))]
    chunk = ModelChunk(["i", "j", "k"], ("c0", "c1", "zebra"), np.eye(3, dtype=np.float32)[[0, 2, 1]])
    result = client.aggregate(given, beside=Beside(model=[chunk]))
    assert {i.image_id: i.status for i in result.items} == {"i": LabelStatus.UNCERTAIN, "j": LabelStatus.CERTAIN}
    assert any("1 vote of the image model for a class" in text for text in result.summary.warnings)


def test_what_a_model_cannot_say_is_refused(client: AggregationClient) -> None:
    given, truth = planted(20)
    good = model(truth, 1.0)
    cases = [
        (replace(good, probability=good.probability * 2), {}, "BAD_PROBABILITY"),
        (good, {"multi_label": True}, "MODEL_NEEDS_ONE_LABEL"),
        (good, {"compat": True}, "COMPAT_ONLY_COUNTS"),
        (ModelChunk([f"i{n}" for n in range(5000)], ("c0",), np.ones((5000, 1), np.float32)), {}, "TOO_MUCH_DATA"),
    ]
    for chunk, spec, reason in cases:
        with pytest.raises(InvalidInput) as caught:
            client.aggregate(given, AggregateSpec(**spec), beside=Beside(model=[chunk]))  # type: ignore[arg-type]
        assert caught.value.reason == reason
    with pytest.raises(InvalidInput, match="different classes"):
        client.aggregate(given, beside=Beside(model=[good, replace(good, classes=("c2", "c1", "c0"))]))
    many = {f"i{n}": ("c0",) for n in range(5000)}
    for gold, judged in ((many, {}), ({}, many)):
        with pytest.raises(InvalidInput) as caught:
            client.aggregate(given, gold=gold, beside=Beside(judged=judged))
        assert caught.value.reason == "TOO_MUCH_DATA"


# Plans


def test_a_plan_keeps_to_its_budget_and_explores(client: AggregationClient) -> None:
    given, truth = planted(400)
    spec = PlanSpec(AggregateSpec(method="hierarchical"), max_answers=7)
    free = client.plan_answers(given, spec)
    explored = client.plan_answers(given, replace(spec, explore_share=0.1))
    more = {i.image_id for i in explored.images} - {i.image_id for i in free.images}
    assert 10 < sum("explored" in i.reason for i in explored.images) < 70
    assert more
    poor, rich = (client.plan_answers(given, replace(spec, answer_budget=n)) for n in (20, 200))
    assert poor.summary.answers <= 20 < rich.summary.answers <= 200
    assert poor.summary.accuracy_now < poor.summary.accuracy_after < rich.summary.accuracy_after
    floor = client.plan_answers(given, replace(spec, min_answers=5))
    assert len(floor.images) == 400  # every image has four
    helped = client.plan_answers(given, spec, beside=Beside(model=[model(truth, 0.95)]))
    assert len(helped.images) < len(free.images)


# States


def test_a_state_of_many_messages_goes_on(client: AggregationClient, endpoint: str) -> None:
    given, truth = planted(3000, each=5)
    cut = len(given) - 100
    gold = {image: truth[image] for image in list(truth)[:10]}
    spec = AggregateSpec(method="blend", classes=CLASSES, with_state=True)
    first = client.aggregate(given[:cut], spec, gold, beside=Beside({*gold}, model=[model(truth, 0.8)]))
    state = first.summary.state
    second = client.aggregate(given[cut:], replace(spec, state=state))
    whole = client.aggregate(given, spec, gold, beside=Beside({*gold}, model=[model(truth, 0.8)]))
    assert "from the state on by" in second.summary.explanation
    assert second.summary.answers == len(given)
    pairs = list(zip(second.items, whole.items, strict=True))
    assert np.mean([abs(a.confidence - b.confidence) <= 0.01 for a, b in pairs]) >= 0.999
    assert all(a.labels == b.labels for a, b in pairs if b.confidence > 0.6)
    assert second.workers[-1].image_model
    assert second.summary.calibration == whole.summary.calibration
    plan = client.plan_answers((), PlanSpec(replace(spec, state=state, with_state=False)))
    assert plan.summary.images
    with grpc.insecure_channel(endpoint) as channel:
        stub = grpc_api.AggregationServiceStub(channel)
        # as another client may: the first part in the spec, the rest in messages
        requests = [pb.AggregateRequest(spec=pb.AggregateSpec(method="blend", classes=CLASSES, state=state[:9]))]
        requests += [pb.AggregateRequest(state=state[at : at + 50_000]) for at in range(9, len(state), 50_000)]
        *_, last = stub.Aggregate(iter(requests), timeout=60)
        assert last.summary.answers == cut


def test_a_state_that_does_not_fit_is_one_error(client: AggregationClient) -> None:
    given, _ = planted(50)
    spec = AggregateSpec(method="hierarchical", with_state=True)
    state = client.aggregate(given, spec).summary.state
    for asked, reason in [
        (replace(spec, state=state, method="one-coin"), "STATE_MISMATCH"),
        (replace(spec, state=state, classes=("c0", "c1")), "STATE_MISMATCH"),
        (replace(spec, state=state[:-5]), "BAD_STATE"),
        (replace(spec, state=b"GTAS\x01\x00" + state[6:]), "STATE_VERSION"),
        (AggregateSpec(compat=True, with_state=True), "COMPAT_ONLY_COUNTS"),
    ]:
        with pytest.raises(InvalidInput) as caught:
            client.aggregate(given[:4], asked)
        assert caught.value.reason == reason
        assert caught.value.fix


# Stored answers


def test_stored_tables_beside_the_answers(client: AggregationClient, folder: Path) -> None:
    store = LocalFiles(folder / "objects")
    given, truth = planted(40)
    lines = [f"{a.image_id},{a.worker_id},{a.labels[0]},{n % 7}" for n, a in enumerate(given)]
    store.put("s3://gandt/a.csv", "\n".join(["image,worker,label,seconds", *lines]).encode())
    gold = [f"{image},{labels[0]},{'yes' if n % 2 else ''}" for n, (image, labels) in enumerate(truth.items())][:10]
    store.put("s3://gandt/gold.csv", "\n".join(["image,label,random", *gold]).encode())
    says = [f"{image},{','.join('1' if c == labels[0] else '0' for c in CLASSES)}" for image, labels in truth.items()]
    store.put("s3://gandt/model.csv", "\n".join([f"image,{','.join(CLASSES)}", *says]).encode())
    store.put("s3://gandt/judged.csv", b"image,label\ni0039,c0\n")
    result = client.aggregate_stored(
        ["s3://gandt/a.csv"],
        AggregateSpec(audit_size=5),
        "s3://gandt/gold.csv",
        audit_uri="s3://gandt/judged.csv",
        model_uri="s3://gandt/model.csv",
    )
    assert result.workers[-1].image_model
    assert any(w.too_fast_share is not None for w in result.workers)
    assert result.summary.calibration is not None
    assert (result.summary.calibration.images, result.summary.calibration.drawn_at_random) == (5, True)
    assert result.summary.audit is not None
    store.put("s3://gandt/huge.csv", b"image,worker,label\n" + b"i,w,a\n" * 40_000)
    store.put("s3://gandt/job/annotations/x.json", b" " * 250_000)
    for uri in ("s3://gandt/huge.csv", "s3://gandt/job"):
        with pytest.raises(InvalidInput) as caught:
            client.aggregate_stored([uri])
        assert caught.value.reason == "TOO_MUCH_DATA"
        assert uri in caught.value.message


def test_reading_stored_answers_tells_how_far_it_is_and_stops_when_nobody_waits() -> None:
    store = MemoryObjects()
    store.put("s3://gandt/a.csv", b"image,worker,label\n" + b"".join(b"i%d,w,a\n" % n for n in range(150_000)))
    service = AggregationService(StoredAnswers(store), MemoryMeter())
    deadline = ManualDeadline(ManualClock())
    events = service.aggregate_stored(AggregateSpec(), ["s3://gandt/a.csv"], [], "", deadline)
    steps = [next(events), next(events)]
    assert [getattr(step, "stage", "") for step in steps] == ["reading", "reading"]
    deadline.cancel()
    with pytest.raises(DeadlineExceeded):
        list(events)
