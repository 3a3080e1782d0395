# SPDX-License-Identifier: GPL-3.0-or-later
"""Vector search over real gRPC at its edges: what the contract says where there is little, nothing or too much."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from gandt.client.connection import Channel
from gandt.client.vectorsearch import VectorSearchClient
from gandt.domain.errors import AlreadyExists, InvalidInput, NotFound, WrongState
from gandt.domain.filters import In
from gandt.domain.search_records import Example, ExampleStrategy, SearchOptions
from gandt.domain.vectors import VectorSet
from gandt.wire import vectorsearch as wire
from gandt.wire import vectorsearch_search as search_wire
from gandt.wire.vectorsearch import pb
from tests.service.test_vectorsearch.samples import ids_of, vectors

EAST = np.array([1.0, 0.0])
STRATEGIES = list(ExampleStrategy)


def test_fewer_matches_than_asked_for_come_all(compass: VectorSearchClient) -> None:
    right = SearchOptions(k=1000, condition=In("side", ("right",)))
    answer = compass.search_vectors("c", EAST, right)
    assert (ids_of(answer), answer.candidates, answer.exact) == (["east", "ene", "ne"], 3, True)
    assert ids_of(compass.search_vectors("c", EAST, SearchOptions(k=50, group_by="side"))) == [
        "east",
        "north",
        "south",
        "west",
    ]
    spread = compass.search_vectors("c", EAST, SearchOptions(k=50, diversity=1.0))
    assert sorted(ids_of(spread)) == ["east", "ene", "ne", "north", "south", "west"]


@pytest.mark.parametrize(
    "options",
    [
        SearchOptions(k=5, offset=6),
        SearchOptions(k=5, offset=10_000),
        SearchOptions(k=5, offset=6, diversity=0.5),
        SearchOptions(k=5, offset=4, group_by="side"),
        SearchOptions(k=5, condition=In("side", ("nowhere",))),
        SearchOptions(k=5, condition=In("side", ("up",)), min_score=0.5),
    ],
)
def test_beyond_the_end_there_is_nothing(compass: VectorSearchClient, options: SearchOptions) -> None:
    answer = compass.search_vectors("c", EAST, replace(options, with_vectors=True))
    assert ids_of(answer) == []
    assert answer.exact


def test_an_empty_collection_answers_with_nothing(client: VectorSearchClient) -> None:
    client.create_collection("c", 2, "m")
    answer = client.search_vectors("c", np.stack([EAST, EAST]), SearchOptions(with_vectors=True, with_fields=True))
    assert [hits.hits for hits in answer.results] == [(), ()]
    assert (answer.candidates, answer.exact) == (0, True)
    assert client.find_near_duplicates("c").groups == ()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_negatives_alone_find_outliers_without_the_negatives(
    compass: VectorSearchClient, strategy: ExampleStrategy
) -> None:
    answer = compass.search_examples("c", (), [Example("east"), Example("ene", 3.0)], strategy)
    farthest = ["south", "west"] if strategy is ExampleStrategy.BEST_SCORE else ["west", "south"]
    assert ids_of(answer)[:2] == farthest  # by best score, what is opposite is as far as what is alike
    assert sorted(ids_of(answer)) == ["ne", "north", "south", "west"]
    scores = [hit.score for hit in answer.results[0].hits]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_example_that_is_not_there_is_named(compass: VectorSearchClient, strategy: ExampleStrategy) -> None:
    for positives, negatives in (([Example("nowhere")], []), ([Example("east")], [Example("nowhere")])):
        with pytest.raises(NotFound, match="image 'nowhere' is not in collection c") as caught:
            compass.search_examples("c", positives, negatives, strategy)
        assert (caught.value.id, caught.value.reason) == ("nowhere", "IMAGE_NOT_EMBEDDED")


def test_weights_count_and_zero_on_the_wire_is_one(compass: VectorSearchClient, channel: Channel) -> None:
    request = pb.SearchRequest(collection="c", k=1, examples=pb.SearchRequest.Examples())
    for weight, best in ((0.0, "ne"), (1.0, "ne"), (1e6, "ene")):
        request.examples.CopyFrom(
            pb.SearchRequest.Examples(
                positives=[pb.Example(image_id="east", weight=weight), pb.Example(image_id="north")]
            )
        )
        assert search_wire.search_answer(wire.Stub(channel).Search(request)).results[0].hits[0].image_id == best


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_weights_that_are_no_weights_are_refused(
    compass: VectorSearchClient, weight: float, strategy: ExampleStrategy
) -> None:
    with pytest.raises(InvalidInput) as caught:
        compass.search_examples("c", [Example("east")], [Example("west", weight)], strategy)
    assert caught.value.reason == "BAD_WEIGHT"


def test_names_may_be_aliases_and_models_are_checked_through_them(compass: VectorSearchClient) -> None:
    assert compass.create_collection("c", 2, "m", alias="live").aliases == ("live",)
    assert ids_of(compass.search_vectors("live", EAST, SearchOptions(k=1), model_id="m")) == ["east"]
    assert [block.ids for block in compass.scan("live")] == [["east", "ene", "ne", "north", "south", "west"]]
    assert compass.fetch("live", ["east"]).missing == ()
    for call in (
        lambda: compass.search_vectors("live", EAST, model_id="other"),
        lambda: compass.upsert("live", VectorSet(["x"], np.ones((1, 2), np.float32), "other")),
        lambda: compass.delete_collection("live"),
    ):
        with pytest.raises(WrongState) as caught:
            call()
        assert caught.value.reason in ("MODEL_MISMATCH", "IS_ALIAS")
    compass.create_collection("d", 2, "other", alias="live")
    assert compass.get_collection("live").name == "d"
    for name, alias in (("live", ""), ("e", "c")):
        with pytest.raises(AlreadyExists):
            compass.create_collection(name, 2, "m", alias)
    with pytest.raises(InvalidInput):
        compass.create_collection("e", 2, "m", "no alias")


def test_an_upsert_stays_in_the_collection_that_it_began_in(compass: VectorSearchClient) -> None:
    compass.create_collection("c", 2, "m", alias="live")

    def blocks() -> object:
        yield VectorSet(["x"], np.ones((1, 2), np.float32), "m")
        compass.create_collection("d", 2, "m", alias="live")
        yield VectorSet(["y"], np.ones((1, 2), np.float32), "m")

    compass.upsert("live", blocks())  # type: ignore[arg-type]
    assert compass.fetch("c", ["x", "y"]).missing == ()
    assert compass.get_collection("d").items == 0


def test_a_scan_resumed_anywhere_loses_and_doubles_nothing_while_others_write(client: VectorSearchClient) -> None:
    client.create_collection("c", 64, "m")
    stable = vectors(1500, 64, prefix="s")
    client.upsert("c", stable)
    stop, rounds = threading.Event(), [0]

    def write() -> None:
        rng = np.random.default_rng(2)
        while not stop.is_set():
            seed = int(rng.integers(1 << 31))
            chosen = rng.permutation(1500)[:100]
            changed = VectorSet([stable.ids[row] for row in chosen], vectors(100, 64, seed).matrix, "m")
            passing = vectors(50, 64, seed, prefix=f"s{rng.integers(1500):04d}x")
            client.upsert("c", [changed, passing])
            client.delete("c", passing.ids)
            rounds[0] += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        rng = np.random.default_rng(3)
        for _ in range(15):
            seen: list[str] = []
            after = ""
            while True:
                ended = True
                for block in client.scan("c", after_id=after):
                    taken = int(rng.integers(1, len(block) + 1))  # cut off anywhere in a block
                    seen += block.ids[:taken]
                    if taken < len(block) or rng.random() < 0.3:
                        ended = False
                        break
                after = seen[-1]
                if ended:
                    break
            assert seen == sorted(set(seen))
            assert [image_id for image_id in seen if "x" not in image_id] == list(stable.ids)
    finally:
        stop.set()
        writer.join()
    assert rounds[0] > 0


def test_a_least_score_may_lie_where_sums_and_weights_take_scores(compass: VectorSearchClient) -> None:
    examples = [Example("north", 3.0), Example("east")]
    for strategy in (ExampleStrategy.SUM_SCORES, ExampleStrategy.BEST_SCORE):
        whole = compass.search_examples("c", examples, (), strategy, SearchOptions(k=10)).results[0].hits
        assert whole[0].score > 1
        some = compass.search_examples("c", examples, (), strategy, SearchOptions(k=10, min_score=whole[0].score))
        assert [hit.image_id for hit in some.results[0].hits] == [
            hit.image_id for hit in whole if hit.score >= whole[0].score
        ]
        with pytest.raises(InvalidInput, match="finite"):
            compass.search_examples("c", examples, (), strategy, SearchOptions(min_score=float("nan")))
    with pytest.raises(InvalidInput, match=r"\[-1, 1\]"):
        compass.search_examples("c", examples, options=SearchOptions(min_score=1.5))
