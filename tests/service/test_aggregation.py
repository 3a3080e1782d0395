# SPDX-License-Identifier: GPL-3.0-or-later
"""The aggregation service over real gRPC: streams, errors with places, stored answers, state and plans."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from gandt_aggregation.bootstrap import bootstrap
from gandt_aggregation.service import METRICS, AggregationService
from gandt_aggregation.settings import Settings
from gandt_aggregation.stored_answers import StoredAnswers

from gandt.adapters.local_files import LocalFiles
from gandt.adapters.memory_clock import ManualClock, ManualDeadline, MemoryMeter
from gandt.adapters.memory_objects import MemoryObjects
from gandt.api.aggregation.v1 import aggregation_pb2 as pb
from gandt.api.aggregation.v1 import aggregation_pb2_grpc as grpc_api
from gandt.client.aggregation import AggregationClient
from gandt.client.connection import connect
from gandt.domain.aggregation.records import AggregateSpec, Message, PlanSpec, Verdict
from gandt.domain.datasets import Answer, AnswerState, LabelStatus
from gandt.domain.errors import DeadlineExceeded, InvalidInput, NotFound, WrongState
from gandt.ports.clock import NO_DEADLINE
from gandt.runtime.peers import Peers, unknown_peer
from gandt.runtime.server import ServerThread
from tests.unit.aggregation.builders import answer, crowd


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("aggregation")


@pytest.fixture(scope="module")
def endpoint(folder: Path) -> Iterator[str]:
    settings = Settings(port=0, health_port=None, metrics_port=None, data_dir=folder, max_answers=5000)
    with ServerThread(bootstrap(settings, Peers(unknown_peer)), settings) as thread:
        yield thread.addresses["aggregation"].service


@pytest.fixture(scope="module")
def client(endpoint: str) -> Iterator[AggregationClient]:
    with connect(endpoint, service="aggregation") as channel:
        yield AggregationClient(channel)


def answers(seed: int = 1, images: int = 120, classes: int = 3) -> list[Answer]:
    return [answer(row) for row in crowd(images, classes, 4, seed)[0]]


def test_answers_become_labels_and_workers(client: AggregationClient) -> None:
    given = answers()
    seen: list[str] = []
    result = client.aggregate(
        given,
        AggregateSpec(method="hierarchical", with_posteriors=True),
        gold={given[0].image_id: ("c1",)},
        on_progress=lambda progress: seen.append(progress.stage),
    )
    assert [item.image_id for item in result.items] == list(dict.fromkeys(a.image_id for a in given))
    assert result.items[0].gold
    assert result.items[0].labels == ("c1",)
    assert all(sum(item.posterior) == pytest.approx(1, abs=1e-5) for item in result.items)
    assert [w.worker_id for w in result.workers] == sorted({a.worker_id for a in given})
    assert all(w.confusion is not None and w.confusion.sum(axis=1) == pytest.approx(1) for w in result.workers)
    assert {w.verdict for w in result.workers} <= set(Verdict)
    summary = result.summary
    assert (summary.method, summary.images, summary.answers) == ("hierarchical", 120, 480)
    assert summary.classes == ("c0", "c1", "c2")
    assert 0 < summary.alpha < 1
    assert seen == ["reading", "fitting"]


def test_states_travel(client: AggregationClient) -> None:
    given = [
        Answer("i", "w", ("a",)),
        Answer("i", "v", (), AnswerState.BLANK),
        Answer("i", "u", ("b",), AnswerState.UNSURE),
        Answer("j", "w", ("b",), AnswerState.BROKEN),
    ]
    result = client.aggregate(given, AggregateSpec(method="majority"))
    assert [(i.status, i.answers) for i in result.items] == [(LabelStatus.UNCERTAIN, 1), (LabelStatus.UNLABELED, 0)]
    assert result.summary.abstentions == 3
    assert result.summary.alpha != result.summary.alpha


def test_compat_and_its_crash_come_over_the_wire(client: AggregationClient) -> None:
    given = [Answer("1.jpg", w, (label,), job="j") for w, label in (("w1", "a"), ("w2", "a"), ("bad", "b"))]
    given += [Answer("2.jpg", w, (label,), job="j") for w, label in (("w1", "b"), ("w2", "b"), ("bad", "a"))]
    given += [Answer("3.jpg", "bad", ("a",), job="j"), Answer("1.jpg", "w1", ("b",), job="k")]
    result = client.aggregate(given, AggregateSpec(compat=True), gold={"1.jpg": ("b",)})
    assert [(i.job, i.image_id, i.labels, i.description, i.status) for i in result.items] == [
        ("j", "1.jpg", ("a",), "a (2 / 2)", LabelStatus.CERTAIN),
        ("j", "2.jpg", ("b",), "b (2 / 2)", LabelStatus.CERTAIN),
        ("j", "3.jpg", (), "", LabelStatus.UNLABELED),
        ("k", "1.jpg", ("b",), "b (1 / 1)", LabelStatus.UNCERTAIN),
    ]
    assert not any(i.gold for i in result.items)
    assert any("decoy" in text for text in result.summary.warnings)
    assert any("loses" in text for text in result.summary.warnings)
    with pytest.raises(WrongState) as caught:
        client.aggregate([Answer("i", "w", ("a",)), Answer("i", "v", ("b",))], AggregateSpec(compat=True))
    assert caught.value.reason == "NOBODY_CERTAIN"
    with pytest.raises(WrongState) as caught:
        client.aggregate(given, AggregateSpec(compat=True, reliability_threshold=1.0))
    assert caught.value.reason == "EVERYONE_UNRELIABLE"


def test_the_callers_own_error_comes_back(client: AggregationClient) -> None:
    def broken() -> Iterator[Answer]:
        yield Answer("i", "w", ("a",))
        raise InvalidInput("answers.csv, line 3: broken")

    with pytest.raises(InvalidInput, match="line 3"):
        client.aggregate(broken())
    with pytest.raises(InvalidInput, match="line 3"):
        client.measure_agreement(broken())


def test_refusals(client: AggregationClient) -> None:
    with pytest.raises(InvalidInput) as caught:
        client.aggregate(answers(), AggregateSpec(method="nope"))
    assert caught.value.reason == "UNKNOWN_METHOD"
    with pytest.raises(InvalidInput) as caught:
        client.aggregate(Answer(f"i{n}", "w", ("a",)) for n in range(6000))
    assert caught.value.reason == "TOO_MUCH_DATA"
    with pytest.raises(InvalidInput) as caught:
        client.plan_answers(answers(), PlanSpec(AggregateSpec(compat=True)))
    assert caught.value.reason == "COMPAT_CANNOT_PLAN"


def test_broken_streams_are_refused_with_the_place(endpoint: str) -> None:
    spec = pb.AggregateRequest(spec=pb.AggregateSpec())
    chunk = pb.AnswerChunk(
        new_image_ids=["i"],
        new_worker_ids=["w"],
        new_labels=["a"],
        images=[0],
        workers=[0],
        label_counts=[1],
        labels=[7],
    )
    unknown_state = pb.AnswerChunk.FromString(b"J\x01\x09")  # field 9, one state that the enum does not have
    streams = [
        ([], "first message must be the spec"),
        ([pb.AggregateRequest(answers=chunk)], "first message must be the spec"),
        ([spec, spec], "second spec"),
        ([spec, pb.AggregateRequest()], "holds nothing"),
        ([spec, pb.AggregateRequest(answers=chunk)], "answer chunk 0, offset 0: labels holds 7"),
        ([spec, pb.AggregateRequest(answers=unknown_state)], "unknown state 9 at offset 0"),
        ([pb.AggregateRequest(spec=pb.AggregateSpec(min_proportion=2))], "min_proportion is 2"),
    ]
    with grpc.insecure_channel(endpoint) as channel:
        stub = grpc_api.AggregationServiceStub(channel)
        for stream, text in streams:
            with pytest.raises(grpc.RpcError) as caught:
                list(stub.Aggregate(iter(stream), timeout=20))
            error = caught.value
            assert isinstance(error, grpc.Call)
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert text in (error.details() or "")


def test_methods_come_in_pages(client: AggregationClient, endpoint: str) -> None:
    assert "hierarchical" in [method.name for method in client.list_methods()]
    with grpc.insecure_channel(endpoint) as channel:
        stub = grpc_api.AggregationServiceStub(channel)
        page = stub.ListMethods(pb.ListMethodsRequest(page_size=2), timeout=20)
        assert [m.name for m in page.methods] == ["agreement", "auto"]
        rest = stub.ListMethods(pb.ListMethodsRequest(page_token=page.next_page_token), timeout=20)
        assert rest.methods[0].name == "blend"
        assert not rest.next_page_token


def test_agreement(client: AggregationClient) -> None:
    found = client.measure_agreement([Answer("i", "w", ("a",)), Answer("i", "v", ("a",)), Answer("j", "w", ("b",))])
    assert (found.raw, found.images, found.answers) == (1.0, 1, 2)
    assert math.isnan(found.alpha)


def test_a_plan(client: AggregationClient) -> None:
    plan = client.plan_answers(answers(), PlanSpec(AggregateSpec(method="hierarchical"), answer_budget=20))
    assert plan.images
    assert plan.summary.answers <= 20
    assert plan.summary.accuracy_now <= plan.summary.accuracy_after


def test_a_state_goes_on_where_the_last_call_ended(client: AggregationClient) -> None:
    given = answers()
    spec = AggregateSpec(method="hierarchical", with_state=True, with_posteriors=True)
    first = client.aggregate(given[:300], spec)
    second = client.aggregate(given[300:], AggregateSpec(method="hierarchical", state=first.summary.state))
    whole = client.aggregate(given, AggregateSpec(method="hierarchical"))
    assert second.summary.answers == whole.summary.answers == len(given)
    labels = {i.image_id: (i.labels, i.confidence) for i in whole.items}
    for item in second.items:
        expected, confidence = labels[item.image_id]
        assert item.labels == expected
        assert item.confidence == pytest.approx(confidence, abs=0.01)
    with pytest.raises(InvalidInput) as caught:
        client.aggregate(given, AggregateSpec(state=b"junk"))
    assert caught.value.reason == "BAD_STATE"


def test_stored_answers(client: AggregationClient, folder: Path) -> None:
    store = LocalFiles(folder / "objects")
    store.put("s3://gandt/a.csv", b"image,worker,label\ni,w,a\ni,v,a\nj,w,b\n")
    store.put("s3://gandt/old.csv", b"image,worker,label\ni,w,b\n")
    store.put("s3://gandt/gold.csv", b"image,label\nj,b\n")
    store.put("s3://gandt/bad.csv", b"image,label\ni,a\n")
    result = client.aggregate_stored(
        ["s3://gandt/a.csv"], AggregateSpec(method="majority"), "s3://gandt/gold.csv", ["s3://gandt/old.csv"]
    )
    assert [(i.image_id, i.labels, i.gold) for i in result.items] == [("i", ("a",), False), ("j", ("b",), True)]
    assert result.summary.answers == 4
    with pytest.raises(InvalidInput, match=r"s3://gandt/bad.csv has no column 'worker'"):
        client.aggregate_stored(["s3://gandt/bad.csv"])
    for uri in ("s3://gandt/none.csv", "s3://gandt/folder"):
        with pytest.raises(NotFound):
            client.aggregate_stored([uri])
    with pytest.raises(InvalidInput):
        client.aggregate_stored([])


def test_stored_ground_truth_output() -> None:
    store = MemoryObjects()
    tiles = [{"index": 1, "source-ref": "s3://b/p/a.jpg"}, {"index": 2, "source-ref": "s3://b/q/b.jpg"}]
    batch = [
        {
            "datasetObjectId": "0",
            "dataObject": {"content": json.dumps(tiles)},
            "annotations": [
                {"workerId": w, "annotationData": {"content": json.dumps({"labels-1": '["x"]', "labels-2": second})}}
                for w, second in (("w1", '["y"]'), ("w2", "[]"))
            ],
        }
    ]
    key = "out/job/annotations/consolidated-annotation/consolidation-request/iteration-1/x.json"
    store.put(f"s3://gandt/{key}", json.dumps(batch).encode())
    found = list(StoredAnswers(store).answers("s3://gandt/out/job/", False, False))
    assert len(found) == 4
    assert {a.worker_id for a in found} == {"w1", "w2"}


def test_deadlines_and_metrics() -> None:
    meter = MemoryMeter()
    service = AggregationService(StoredAnswers(MemoryObjects()), meter)
    from gandt.domain.aggregation.chunks import AnswerEncoder

    chunks = list(AnswerEncoder().encode(answers()))
    list(service.aggregate(iter([AggregateSpec(method="hierarchical"), *chunks]), NO_DEADLINE))
    assert meter.value("gandt_aggregation_answers_total", method="hierarchical") == 480
    assert meter.observations("gandt_aggregation_iterations", method="hierarchical")[0] > 1
    assert 0 < meter.value("gandt_aggregation_agreement") < 1
    assert meter.names() <= {metric.name for metric in METRICS}
    gone = ManualDeadline(ManualClock())
    gone.cancel()
    with pytest.raises(DeadlineExceeded):
        list(service.aggregate(iter([AggregateSpec(), *chunks]), gone))


def test_large_results_come_in_small_messages(endpoint: str) -> None:
    from gandt.domain.aggregation.chunks import AnswerEncoder
    from gandt.wire import aggregation as wire

    rows = [(f"a-rather-long-image-name-{n:06d}" * 8, f"w{n % 3}", f"c{n % 40}") for n in range(4000)]
    stream: list[Message] = [
        AggregateSpec(method="majority", with_posteriors=True),
        *AnswerEncoder(50_000).encode(map(answer, rows)),
    ]
    with grpc.insecure_channel(endpoint) as channel:
        stub = grpc_api.AggregationServiceStub(channel)
        sizes = [r.ByteSize() for r in stub.Aggregate(wire.aggregate_requests(stream), timeout=60)]
    assert max(sizes) < 2**20
    assert len(sizes) > 4
