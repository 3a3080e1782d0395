# SPDX-License-Identifier: GPL-3.0-or-later
"""The use cases over memory: where vectors come from, what is remembered, what is measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gandt_selection.intake import Sources
from gandt_selection.service import CANDIDATES, SECONDS, Selection

from gandt.adapters.memory_clock import ManualClock, MemoryMeter
from gandt.adapters.memory_vector_source import MemoryVectorSource
from gandt.adapters.spooled_rows import SpooledRows
from gandt.domain.datasets import LabeledImage
from gandt.domain.errors import AlreadyExists, DeadlineExceeded, InvalidInput, NotFound, WrongState
from gandt.domain.filters import Ids
from gandt.domain.progress import Progress
from gandt.domain.selection.records import (
    Decision,
    DecisionBlock,
    EvaluateRun,
    EvaluateSpec,
    FilterSpec,
    FilterSummary,
    InputChunk,
    Pick,
    PoolSource,
    SelectSpec,
    SelectSummary,
)
from gandt.domain.vectors import VectorSet
from gandt.ports.clock import NO_DEADLINE
from gandt.ports.vector_source import VectorSource
from tests.unit.selection.make import blobs

IDS, MATRIX, NAMES = blobs({"rare": 30, "b": 60, "c": 60})
VECTORS = VectorSet(IDS, MATRIX, "m1")
LABELED = tuple(
    LabeledImage(IDS[row], ("rare" if NAMES[row] == "rare" else "Other",)) for row in (0, 1, 2, 30, 31, 32, 90, 91)
)
COLLECTION = PoolSource(collection="photos")
SPEC = SelectSpec(pool=COLLECTION, strategy="find-more", target_labels=("rare",), other_label="Other", count=10)


@pytest.fixture
def meter() -> MemoryMeter:
    return MemoryMeter()


@pytest.fixture
def service(meter: MemoryMeter) -> Selection:
    def named(name: str) -> VectorSource:
        if name != "photos":
            raise NotFound(f"there is no collection {name}", kind="collection", id=name)
        return MemoryVectorSource(VECTORS, 17)

    sources = Sources(named, lambda _: MemoryVectorSource(VECTORS, 40), lambda: SpooledRows(1_000))
    return Selection(sources, meter, ManualClock(), remembered=2)


def selected(service: Selection, spec: SelectSpec, *chunks: InputChunk) -> tuple[list[Pick], SelectSummary]:
    reports = list(service.select(spec, iter(chunks), NO_DEADLINE))
    picks = [pick for report in reports if isinstance(report, tuple) for pick in report]
    summary = reports[-1]
    assert isinstance(summary, SelectSummary)
    return picks, summary


def inline(dim: int = 12) -> PoolSource:
    return PoolSource(inline_dim=dim)


def pieces(rows: int = 31) -> Iterable[InputChunk]:
    return [InputChunk(vectors=block) for block in VECTORS.blocks(rows)]


def test_collection_file_and_inline_vectors_give_the_same_picks(service: Selection, meter: MemoryMeter) -> None:
    labels = InputChunk(labeled=LABELED)
    first, summary = selected(service, SPEC, labels)
    assert (len(first), summary.scanned) == (10, 150 - len(LABELED))
    stored, _ = selected(service, replace(SPEC, pool=PoolSource(vectors_uri="s3://b/v.parquet")), labels)
    sent, _ = selected(service, replace(SPEC, pool=inline()), *pieces(), labels)
    late, _ = selected(service, replace(SPEC, pool=inline()), labels, *reversed(list(pieces(150))))
    assert first == stored == sent == late
    assert meter.value(CANDIDATES, strategy="find-more") == 4 * 142
    assert len(meter.observations(SECONDS, strategy="find-more")) == 4


def test_excluded_images_do_not_count_as_pool_and_groups_hold(service: Selection) -> None:
    groups = dict.fromkeys(IDS[:30], "burst")
    chunks = (InputChunk(labeled=LABELED), InputChunk(excluded=tuple(IDS[3:10])), InputChunk(groups=groups))
    picks, summary = selected(service, replace(SPEC, count=20, control_fraction=0.0), *chunks)
    assert summary.scanned == 150 - len(LABELED) - 7
    assert not {pick.image_id for pick in picks} & set(IDS[:10])
    assert [pick.group_id for pick in picks].count("burst") == 1


def test_labeled_images_outside_the_condition_still_train(service: Selection) -> None:
    only = replace(SPEC, pool=replace(COLLECTION, condition=Ids(tuple(IDS[10:100]))), control_fraction=0.0)
    picks, summary = selected(service, only, InputChunk(labeled=LABELED))
    assert summary.scanned == 90 - 5  # five of the labeled ones meet the condition
    assert summary.unknown_ids == ()
    assert all(NAMES[IDS.index(pick.image_id)] == "rare" for pick in picks)


def test_unknown_and_broken_labels_are_listed(service: Selection) -> None:
    broken = VectorSet([*IDS, "zero"], np.vstack([MATRIX, np.zeros((1, 12), np.float32)]), "")
    labeled = (*LABELED, LabeledImage("gone", ("rare",)), LabeledImage("zero", ("rare",)))
    spec = replace(SPEC, pool=inline())
    _, summary = selected(service, spec, InputChunk(labeled=labeled), InputChunk(vectors=broken))
    assert summary.unknown_ids == ("gone",)
    assert any("zero or broken" in warning for warning in summary.warnings)


def test_the_same_request_id_gets_the_same_answer(service: Selection) -> None:
    spec = replace(SPEC, request_id="r1")
    first, summary = selected(service, spec, InputChunk(labeled=LABELED))
    again, remembered = selected(service, spec, InputChunk(labeled=LABELED[:4]))
    assert (again, remembered) == (first, summary)
    with pytest.raises(AlreadyExists) as caught:
        selected(service, replace(spec, count=11), InputChunk(labeled=LABELED))
    assert caught.value.reason == "REQUEST_ID_REUSED"
    for number in (2, 3):
        selected(service, replace(spec, request_id=f"r{number}"), InputChunk(labeled=LABELED))
    forgotten, _ = selected(service, spec, InputChunk(labeled=LABELED[:4]))
    assert forgotten != first


def test_another_model_is_refused(service: Selection) -> None:
    selected(service, replace(SPEC, pool=replace(COLLECTION, model_id="m1")), InputChunk(labeled=LABELED))
    with pytest.raises(WrongState) as caught:
        selected(service, replace(SPEC, pool=replace(COLLECTION, model_id="m2")))
    assert caught.value.reason == "MODEL_MISMATCH"


def test_vectors_of_another_size_are_refused(service: Selection) -> None:
    odd = InputChunk(vectors=VectorSet(["odd"], np.ones((1, 5), np.float32)))
    with pytest.raises(InvalidInput) as caught:
        selected(service, replace(SPEC, pool=inline()), *pieces(), odd)
    assert caught.value.reason == "WRONG_DIM"


def test_a_caller_who_left_stops_the_work(service: Selection) -> None:
    class Gone:
        def remaining(self) -> float:
            return 0.0

        def check(self) -> None:
            raise DeadlineExceeded("no time is left for this call")

    for run in (
        service.select(SPEC, iter([]), Gone()),
        service.filter(FilterSpec(COLLECTION, discard_share=0.1), iter([]), Gone()),
    ):
        with pytest.raises(DeadlineExceeded):
            list(run)


def test_filter_decides_for_every_pool_image_once(service: Selection, meter: MemoryMeter) -> None:
    reports = list(
        service.filter(FilterSpec(COLLECTION, discard_share=0.5), iter([InputChunk(labeled=LABELED)]), NO_DEADLINE)
    )
    blocks = [report for report in reports if isinstance(report, DecisionBlock)]
    summary = reports[-1]
    assert isinstance(summary, FilterSummary)
    assert [image for block in blocks for image in block.image_ids] == [
        image for image in IDS if image not in {known.image_id for known in LABELED}
    ]
    decisions = [decision for block in blocks for decision in block.decisions]
    assert decisions.count(Decision.DISCARD) == summary.discarded == 71
    assert {report.stage for report in reports if isinstance(report, Progress)} >= {"reading", "scanning", "scoring"}
    assert meter.value(CANDIDATES, strategy="filter") == 142


def test_evaluate_counts_labels(service: Selection) -> None:
    truth = tuple(
        LabeledImage(image, ("rare",) if name == "rare" else ("Other",)) for image, name in zip(IDS, NAMES, strict=True)
    )
    spec = EvaluateSpec(
        COLLECTION, ("find-more", "random"), ("rare",), "Other", batch_size=10, initial_positives=2, initial_others=5,
        repetitions=3,
    )  # fmt: skip
    runs = [
        report
        for report in service.evaluate(spec, iter([InputChunk(labeled=truth)]), NO_DEADLINE)
        if isinstance(report, EvaluateRun)
    ]
    assert [(run.strategy, run.repetition) for run in runs] == [
        (name, number) for number in range(3) for name in ("find-more", "random")
    ]
    for run in runs:
        assert 23 <= run.labels_to_target <= run.labels_by_round[-1]
        assert run.found_by_round[-1] >= 23  # 80 % of the 28 that were not known
    cost = {name: sum(run.labels_to_target for run in runs if run.strategy == name) for name in ("find-more", "random")}
    assert cost["find-more"] < cost["random"] / 3


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"target_labels": ()}, "NO_TARGETS"),
        ({"strategies": ("magic",)}, "UNKNOWN_STRATEGY"),
        ({"recall_target": 1.5}, "BAD_SHARE"),
        ({"initial_positives": 30}, "TOO_FEW_IMAGES"),
    ],
)
def test_evaluations_that_cannot_work(service: Selection, changes: dict[str, Any], reason: str) -> None:
    truth = tuple(LabeledImage(image, (name,)) for image, name in zip(IDS, NAMES, strict=True))
    spec = replace(EvaluateSpec(COLLECTION, target_labels=("rare",)), **changes)
    with pytest.raises(InvalidInput) as caught:
        list(service.evaluate(spec, iter([InputChunk(labeled=truth)]), NO_DEADLINE))
    assert caught.value.reason == reason


def test_strategies_are_listed_in_pages(service: Selection) -> None:
    def pages() -> Iterator[str]:
        token = ""
        while True:
            page, token = service.list_strategies(4, token)
            yield from (info.name for info in page)
            if not token:
                return

    names = list(pages())
    assert names == sorted(names)
    assert {"auto", "find-more", "cover", "compat", "random", "relabel"} <= set(names)
    with pytest.raises(InvalidInput):
        service.list_strategies(101)
