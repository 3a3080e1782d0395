# SPDX-License-Identifier: GPL-3.0-or-later
"""Selection over real gRPC: every RPC through the typed client, bad streams through bare messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gandt_selection.bootstrap import assemble, bootstrap
from gandt_selection.intake import Sources
from gandt_selection.settings import Settings
from gandt_vectorsearch.bootstrap import assemble as assemble_vectorsearch

from gandt.adapters.memory_vector_source import MemoryVectorSource
from gandt.adapters.memory_vectors import MemoryVectors
from gandt.adapters.spooled_rows import SpooledRows
from gandt.client.connection import Channel, Target, connect
from gandt.client.selection import SelectionClient
from gandt.client.vectorsearch import VectorSearchClient
from gandt.domain.datasets import Arm, LabeledImage
from gandt.domain.errors import AlreadyExists, BackendUnavailable, GandtError, InvalidInput, NotFound, WrongState
from gandt.domain.filters import Ids
from gandt.domain.progress import Progress
from gandt.domain.selection.records import Decision, EvaluateSpec, FilterSpec, PoolSource, SelectSpec
from gandt.domain.selection.registry import listed
from gandt.domain.vectors import VectorSet
from gandt.runtime.peers import Peers
from gandt.runtime.server import ServerThread
from gandt.wire import selection as wire
from gandt.wire.selection import pb

DIM = 16


def photos(count: int = 300, dim: int = DIM) -> tuple[VectorSet, list[LabeledImage]]:
    """A tenth is wanted; all labels are known."""
    rng = np.random.default_rng(0)
    wanted = np.arange(count) % 10 == 0
    centers = rng.normal(size=(2, dim))
    matrix = (centers[wanted.astype(int)] + 0.6 * rng.normal(size=(count, dim))).astype(np.float32)
    ids = [f"folder/{row:05d}.jpg" for row in range(count)]
    labels = [LabeledImage(image, ("cat",) if w else ("Other",)) for image, w in zip(ids, wanted, strict=True)]
    return VectorSet(ids, matrix, "m1"), labels


VECTORS, TRUTH = photos()
LABELED = [*(TRUTH[row] for row in (0, 10, 20)), *(TRUTH[row] for row in range(1, 9))]
INLINE = PoolSource(inline_dim=DIM)
SPEC = SelectSpec(INLINE, "find-more", ("cat",), "Other", count=20)


@pytest.fixture(scope="module")
def channel() -> Iterator[Channel]:
    sources = Sources(
        lambda _: MemoryVectorSource(VECTORS), lambda _: MemoryVectorSource(VECTORS), lambda: SpooledRows(1 << 20)
    )
    with (
        ServerThread(assemble(sources)) as server,
        connect(server.addresses["selection"].service, service="selection") as opened,
    ):
        yield opened


@pytest.fixture(scope="module")
def client(channel: Channel) -> SelectionClient:
    return SelectionClient(channel)


def test_select_inline(client: SelectionClient) -> None:
    stages: list[Progress] = []
    result = client.select(SPEC, LABELED, vectors=VECTORS.blocks(64), on_progress=stages.append)
    assert [pick.rank for pick in result.picks] == list(range(1, 21))
    assert [pick.arm for pick in result.picks].count(Arm.CONTROL) == 2
    cats = {image.image_id for image in TRUTH if image.labels == ("cat",)}
    assert len([pick for pick in result.picks if pick.arm is Arm.MAIN and pick.image_id in cats]) >= 16
    assert {"receiving", "fitting", "scoring"} <= {report.stage for report in stages}
    first = result.picks[0]
    assert first.neighbors[0].labels == ("cat",)
    assert first.predicted_label == "cat"
    assert result.summary.scanned == 300 - len(LABELED)
    assert client.select(SPEC, LABELED, vectors=VECTORS).picks == result.picks
    assert client.select(replace(SPEC, pool=PoolSource(collection="c")), LABELED).picks == result.picks
    assert client.select(replace(SPEC, pool=PoolSource(vectors_uri="s3://b/v")), LABELED).picks == result.picks


def test_many_picks_groups_and_exclusions_cross_in_pieces(client: SelectionClient) -> None:
    vectors, _ = photos(3_000)
    ids = list(vectors.ids)
    groups = {image: f"g{row // 2}" for row, image in enumerate(ids)}
    spec = replace(SPEC, strategy="random", count=2_000, control_fraction=0.0)
    result = client.select(spec, LABELED, ids[-200:], groups, vectors)
    assert not {pick.image_id for pick in result.picks} & set(ids[-200:])
    taken = [pick.group_id for pick in result.picks]
    assert len(set(taken)) == len(taken) == result.summary.picked >= 1_390
    assert any("near-duplicate" in warning for warning in result.summary.warnings)


@pytest.mark.parametrize(
    "spec",
    [
        FilterSpec(INLINE, discard_share=0.3),
        FilterSpec(INLINE, max_loss_share=0.5),
        FilterSpec(INLINE, min_proportion=0.1),
    ],
)
def test_filter(client: SelectionClient, spec: FilterSpec) -> None:
    stream = client.filter(spec, LABELED, vectors=VECTORS)
    with pytest.raises(RuntimeError):
        _ = stream.summary
    blocks = list(stream)
    known = {image.image_id for image in LABELED}
    assert [image for block in blocks for image in block.image_ids] == [i for i in VECTORS.ids if i not in known]
    decisions = [decision for block in blocks for decision in block.decisions]
    assert (decisions.count(Decision.KEEP), decisions.count(Decision.DISCARD)) == (
        stream.summary.kept,
        stream.summary.discarded,
    )
    assert stream.summary.labels == ("Other", "cat")
    for block in blocks:
        assert block.distances.shape == (len(block.image_ids), 2)
        assert np.array_equal(block.farther, (block.distances[:, 1] > block.distances[:, 0]).astype(int))


def test_evaluate(client: SelectionClient) -> None:
    spec = EvaluateSpec(INLINE, ("find-more", "random"), ("cat",), "Other", initial_others=10, repetitions=2)
    runs = list(client.evaluate(spec, TRUTH, VECTORS))
    assert [(run.strategy, run.repetition) for run in runs] == [
        ("find-more", 0),
        ("random", 0),
        ("find-more", 1),
        ("random", 1),
    ]
    assert all(0 < run.labels_to_target <= 285 for run in runs)


def test_strategies(client: SelectionClient) -> None:
    assert client.list_strategies() == listed()


def test_request_ids(client: SelectionClient) -> None:
    spec = replace(SPEC, request_id="once", round=3)
    first = client.select(spec, LABELED, vectors=VECTORS)
    assert client.select(spec, [], vectors=VECTORS) == first
    with pytest.raises(AlreadyExists):
        client.select(replace(spec, seed=5), LABELED, vectors=VECTORS)


@pytest.mark.parametrize(
    ("spec", "error", "reason"),
    [
        (replace(SPEC, strategy="magic"), InvalidInput, "UNKNOWN_STRATEGY"),
        (replace(SPEC, count=0), InvalidInput, "BAD_COUNT"),
        (replace(SPEC, pool=PoolSource()), InvalidInput, "NO_POOL"),
        (replace(SPEC, pool=PoolSource(inline_dim=DIM + 1)), InvalidInput, "WRONG_DIM"),
        (replace(SPEC, pool=PoolSource(collection="c")), InvalidInput, "VECTORS_NOT_EXPECTED"),
        (replace(SPEC, pool=replace(INLINE, condition=Ids(("a",)))), InvalidInput, "NO_FIELDS"),
        (replace(SPEC, strategy="compat", other_label="None"), InvalidInput, "OTHER_LABEL_MISSING"),
    ],
)
def test_bad_requests(client: SelectionClient, spec: SelectSpec, error: type[GandtError], reason: str) -> None:
    with pytest.raises(error) as caught:
        client.select(spec, LABELED, vectors=VECTORS)
    assert caught.value.reason == reason


def test_another_model_is_refused(client: SelectionClient) -> None:
    with pytest.raises(WrongState) as caught:
        client.select(replace(SPEC, pool=PoolSource(collection="c", model_id="m2")), LABELED)
    assert caught.value.reason == "MODEL_MISMATCH"


def test_what_goes_wrong_while_sending_reaches_the_caller(client: SelectionClient) -> None:
    def torn() -> Iterator[VectorSet]:
        yield from VECTORS.blocks(100)
        raise NotFound("there is no second part", kind="file", id="part-2")

    with pytest.raises(NotFound, match="no second part"):
        client.select(SPEC, LABELED, vectors=torn())
    with pytest.raises(NotFound, match="no second part"):
        list(client.filter(FilterSpec(INLINE, discard_share=0.1), LABELED, vectors=torn()))


def test_streams_that_do_not_begin_with_a_spec(channel: Channel) -> None:
    stub = wire.Stub(channel)
    spec = pb.SelectRequest(spec=wire.select_spec_message(SPEC))
    for requests, reason in (
        ([], "NO_SPEC"),
        ([pb.SelectRequest(chunk=pb.InputChunk())], "NO_SPEC"),
        ([spec, spec], "NOT_A_CHUNK"),
        ([spec, pb.SelectRequest()], "NOT_A_CHUNK"),
    ):
        with pytest.raises(InvalidInput) as caught:
            list(stub.Select(iter(requests)))
        assert caught.value.reason == reason


def test_defaults_of_bare_messages() -> None:
    spec = wire.select_spec(pb.SelectSpec(pool=pb.Pool(collection="c"), count=5))
    assert (spec.control_fraction, spec.round, spec.max_per_group, spec.strategy) == (0.1, 1, 1, "")
    none = wire.select_spec(pb.SelectSpec(pool=pb.Pool(collection="c"), count=5, control_fraction=0.0))
    assert none.control_fraction == 0.0
    replay = wire.evaluate_spec(pb.EvaluateSpec(pool=pb.Pool(collection="c")))
    assert (replay.batch_size, replay.initial_positives, replay.initial_others) == (20, 5, 20)
    assert (replay.recall_target, replay.repetitions) == (0.8, 5)


def test_specs_survive_the_wire() -> None:
    pool = PoolSource(collection="c", condition=Ids(("a", "b")), model_id="m")
    select = SelectSpec(pool, "balance", ("a",), "Other", 7, 0.5, 2**63, 4, 2, {"a": 3}, "id", 9)
    assert wire.select_spec(wire.select_spec_message(select)) == select
    blank = FilterSpec(PoolSource(vectors_uri="s3://b/k"), "None", target_labels=("x",))
    for spec in (
        replace(blank, discard_share=0.0),
        replace(blank, max_loss_share=0.2),
        replace(blank, min_proportion=0.0),
        replace(blank, discard_share=0.5, audit=7, seed=2**63),
    ):
        assert wire.filter_spec(wire.filter_spec_message(spec)) == spec
    evaluate = EvaluateSpec(INLINE, ("random",), ("a",), "Other", 3, 4, 5, 0.5, 6, 7)
    assert wire.evaluate_spec(wire.evaluate_spec_message(evaluate)) == evaluate


def test_a_collection_of_the_real_vector_search_service(tmp_path: Path) -> None:
    with ServerThread(assemble_vectorsearch(MemoryVectors(8 << 20))) as vectorsearch:
        peers = Peers(lambda name: Target(vectorsearch.addresses[name].service))
        with connect(vectorsearch.addresses["vectorsearch"].service) as filling:
            store = VectorSearchClient(filling)
            store.create_collection("photos", DIM, "m1")
            store.upsert("photos", VECTORS)
        settings = Settings(health_port=None, metrics_port=None, data_dir=tmp_path)
        with (
            ServerThread(bootstrap(settings, peers)) as server,
            connect(server.addresses["selection"].service) as opened,
        ):
            client = SelectionClient(opened)
            pool = PoolSource(collection="photos", model_id="m1")
            got = client.select(replace(SPEC, pool=pool), LABELED)
            sent = client.select(SPEC, LABELED, vectors=VECTORS)
            assert [pick.image_id for pick in got.picks] == [pick.image_id for pick in sent.picks]
            some = replace(pool, condition=Ids(tuple(VECTORS.ids[50:150])))
            assert client.select(replace(SPEC, pool=some), LABELED).summary.scanned == 100
            with pytest.raises(NotFound):
                client.select(replace(SPEC, pool=PoolSource(collection="nothing")), LABELED)
            with pytest.raises(NotFound):
                client.select(replace(SPEC, pool=PoolSource(vectors_uri="s3://gandt/none.parquet")), LABELED)
        peers.close()


def test_without_vector_search_a_collection_is_unavailable(tmp_path: Path) -> None:
    settings = Settings(health_port=None, metrics_port=None, data_dir=tmp_path)
    with (
        ServerThread(bootstrap(settings)) as server,
        connect(server.addresses["selection"].service) as opened,
        pytest.raises(BackendUnavailable),
    ):
        SelectionClient(opened).select(replace(SPEC, pool=PoolSource(collection="photos")), LABELED, timeout=30)
