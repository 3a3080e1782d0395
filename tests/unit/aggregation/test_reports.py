# SPDX-License-Identifier: GPL-3.0-or-later
"""Agreement measures, intervals, the plan, the state, chunks and the plot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.stats import binomtest

from gandt.domain.aggregation.answer_table import AnswerTableBuilder, Limits
from gandt.domain.aggregation.chunks import AnswerEncoder, encode_known, encode_model
from gandt.domain.aggregation.consistency import measure_agreement
from gandt.domain.aggregation.intervals import wilson_interval
from gandt.domain.aggregation.majority_plot import majority_plot, majority_proportions
from gandt.domain.aggregation.plan import plan_answers
from gandt.domain.aggregation.records import AggregateSpec, AnswerChunk, ModelChunk, PlanSpec
from gandt.domain.aggregation.votes import count_votes
from gandt.domain.datasets import Answer, LabelEstimate, LabelStatus
from gandt.domain.errors import InvalidInput
from tests.unit.aggregation.builders import Row, answer, crowd, run, table


def agreement(rows: list[Row], **spec: Any) -> tuple[float, float, float, int, int]:
    a = measure_agreement(count_votes(table(rows), AggregateSpec(**spec), {}).votes)
    return a.raw, a.alpha, a.kappa, a.images, a.answers


def test_alpha_of_krippendorffs_own_example() -> None:
    # Krippendorff 2011, nominal data with missing values: alpha = 0.743.
    coders = {
        "A": "1 2 3 3 2 1 4 1 2 - - -",
        "B": "1 2 3 3 2 2 4 1 2 5 - 3",
        "C": "- 3 3 3 2 3 4 2 2 5 1 -",
        "D": "1 2 3 3 2 4 4 1 2 5 1 -",
    }
    rows = [(f"u{n:02d}", coder, label) for coder, line in coders.items() for n, label in enumerate(line.split())]
    _, alpha, _, images, answers = agreement(rows)
    assert alpha == pytest.approx(0.743, abs=5e-4)
    assert (images, answers) == (11, 40)


def test_kappa_of_fleiss_own_example() -> None:
    # The worked example of Fleiss' kappa with 14 raters and 5 categories: kappa = 0.210.
    counts = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    rows = []
    for n, row in enumerate(counts):
        labels = [str(k) for k, count in enumerate(row) for _ in range(count)]
        rows += [(f"s{n}", f"r{r:02d}", label) for r, label in enumerate(labels)]
    raw, _, kappa, _, _ = agreement(rows)
    assert kappa == pytest.approx(0.210, abs=5e-4)
    assert raw == pytest.approx(0.378, abs=5e-4)


def test_agreement_is_undefined_without_pairs_and_of_one_label() -> None:
    assert np.isnan(agreement([("i", "w", "a")])[:3]).all()
    raw, alpha, kappa, _, _ = agreement([("i", "w", "a"), ("i", "v", "a")])
    assert raw == 1
    assert np.isnan([alpha, kappa]).all()
    assert (
        agreement([("i", "w", "a|b"), ("i", "v", "b|a"), ("j", "w", "a"), ("j", "v", "")], multi_label=True)[0] == 0.5
    )


@pytest.mark.parametrize(("hits", "trials"), [(0, 5), (3, 7), (10, 10), (80, 100)])
def test_wilson_equals_scipys(hits: int, trials: int) -> None:
    expected = binomtest(hits, trials).proportion_ci(method="wilson")
    low, high = wilson_interval(hits, trials)
    assert (float(low), float(high)) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert [float(side) for side in wilson_interval(0, 0)] == [0, 1]


def test_the_plan_asks_where_an_answer_is_worth_most() -> None:
    rows, _ = crowd(100, 3, 3, 1)
    rows = [row for row in rows if row[0] not in ("i0000", "i0001")] + [("i0000", "w00", "c0"), ("none", "w01", "-")]
    spec = PlanSpec(AggregateSpec(method="hierarchical"))
    plan = plan_answers(run(rows, {"i0002": ["c1"]}, method="hierarchical"), spec)
    reasons = {image.image_id: image.reason for image in plan.images}
    assert reasons["i0000"] == "has 1 of at least 2 answers"
    assert reasons["none"] == "no vote counts"
    assert "i0002" not in reasons  # gold is known
    assert all(1 <= image.answers_needed <= 9 for image in plan.images)
    assert plan.summary.answers == sum(image.answers_needed for image in plan.images)
    assert plan.summary.accuracy_now < plan.summary.accuracy_after <= 1


def test_the_plan_keeps_to_the_budget_and_the_most_answers() -> None:
    rows, _ = crowd(100, 3, 3, 1)
    result = run(rows, method="hierarchical")
    spec = PlanSpec(AggregateSpec(method="hierarchical"))
    free = plan_answers(result, spec)
    tight = plan_answers(result, replace(spec, answer_budget=7))
    assert 0 < tight.summary.answers <= 7 < free.summary.answers
    assert list(tight.images) == list(free.images)[: len(tight.images)]
    assert not plan_answers(result, replace(spec, max_answers=3)).images
    with pytest.raises(InvalidInput):
        PlanSpec(min_answers=5, max_answers=2)
    with pytest.raises(InvalidInput):
        PlanSpec(explore_share=1.5)


def test_a_share_of_sure_images_is_explored_and_stays_the_same() -> None:
    rows = [(f"i{n:03d}", f"w{w}", "ab"[n % 2]) for n in range(400) for w in range(3)]
    spec = PlanSpec(target_confidence=0.9, max_answers=7, explore_share=0.1)
    known = {"i000": ["a"]}
    plan = plan_answers(run(rows, known), spec)
    names = {image.image_id for image in plan.images}
    assert 20 <= len(names) <= 60  # 40 are expected
    assert {image.answers_needed for image in plan.images} == {4}
    assert all("explored" in image.reason for image in plan.images)
    assert names == {image.image_id for image in plan_answers(run(rows[::-1], known), spec).images}
    wider = {image.image_id for image in plan_answers(run(rows, known), replace(spec, explore_share=1.0)).images}
    assert wider == {f"i{n:03d}" for n in range(1, 400)}  # gold is never asked
    assert not plan_answers(run(rows, known), replace(spec, explore_share=0.0)).images


def test_a_broken_chunk_is_named_with_its_offset() -> None:
    good = AnswerChunk(["i"], ["w"], ["a"], (), *(np.array([0]), np.array([0]), np.array([1]), np.array([0])))
    cases = [
        (replace(good, new_images=(), images=np.array([5])), "chunk 1, offset 0: images holds 5"),
        (replace(good, new_images=["i"]), "chunk 1 names the image 'i' .* a second time"),
        (replace(good, new_images=(), workers=np.array([0, 0])), "chunk 1 has 1 images but 2 workers"),
        (replace(good, new_images=(), label_counts=np.array([2])), "add up to 2"),
        (replace(good, new_images=[""]), "image_id"),
        (replace(good, new_images=["j"], new_labels=["a|b"]), "holds '|'"),
    ]
    for chunk, text in cases:
        builder = AnswerTableBuilder()
        builder.add(good)
        with pytest.raises(InvalidInput, match=text.replace("|", r"\|")):
            builder.add(
                replace(chunk, new_workers=(), new_labels=chunk.new_labels if "b" in str(chunk.new_labels) else ())
            )


def test_limits_refuse_too_much() -> None:
    chunk = next(AnswerEncoder().encode(map(answer, [("i", "w", "a"), ("j", "v", "b")])))
    for limits in (Limits(answers=1), Limits(images=1), Limits(workers=1), Limits(classes=1)):
        with pytest.raises(InvalidInput) as caught:
            AnswerTableBuilder(limits).add(chunk)
        assert caught.value.reason == "TOO_MUCH_DATA"


def test_chunks_stay_small() -> None:
    answers = (Answer(f"image-{n:09d}", f"w{n % 7}", ("a",)) for n in range(3000))
    chunks = list(AnswerEncoder(10_000).encode(answers))
    assert len(chunks) > 5
    assert sum(len(chunk.images) for chunk in chunks) == 3000
    assert [name for chunk in chunks for name in chunk.new_images] == [f"image-{n:09d}" for n in range(3000)]
    assert [name for chunk in chunks for name in chunk.new_workers] == [f"w{n}" for n in range(7)]
    assert len(list(encode_known(((f"i{n}", ("a",)) for n in range(100)), max_bytes=200))) > 5
    model = ModelChunk([f"i{n}" for n in range(100)], ("a", "b"), np.full((100, 2), 0.5, np.float32))
    parts = list(encode_model(model, max_bytes=400))
    assert len(parts) > 5
    assert [name for part in parts for name in part.images] == list(model.images)
    assert sum(len(part.probability) for part in parts) == 100


def test_majority_proportions_and_their_plot() -> None:
    estimates = [
        LabelEstimate("1", ("cat",), 1.0, LabelStatus.CERTAIN, 3, 3),
        LabelEstimate("2", ("cat",), 0.67, LabelStatus.CERTAIN, 3, 2),
        LabelEstimate("3", ("<dog>",), 1.0, LabelStatus.CERTAIN, 3, 3),
        LabelEstimate("4", ("cat", "<dog>"), 0.5, LabelStatus.TIED, 2, 1),
        LabelEstimate("5", (), 0.0, LabelStatus.UNLABELED, 0, 0),
    ]
    data = majority_proportions(estimates)
    assert data.labels == ("cat", "(no label)", "<dog>", "cat|<dog>")
    assert data.proportions == ((3, 3), (2, 3), (1, 2), (0, 0))
    assert data.counts == ((1, 1, 0, 0), (0, 0, 0, 1), (1, 0, 0, 0), (0, 0, 1, 0))
    assert sum(map(sum, data.counts)) == len(estimates)
    svg = ElementTree.fromstring(majority_plot(data))
    bars = [
        r
        for r in svg.iter("{http://www.w3.org/2000/svg}rect")
        if r.find("{http://www.w3.org/2000/svg}title") is not None
    ]
    assert len(bars) == 5
    assert len(ElementTree.fromstring(majority_plot(majority_proportions([])))) > 0
    many = majority_proportions(LabelEstimate(str(n), (f"l{n}",), 1, LabelStatus.CERTAIN, 1, 1) for n in range(60))
    assert "21 others" in majority_plot(many)


def test_a_worker_who_does_not_look_is_seen_in_the_report() -> None:
    rng = np.random.default_rng(5)
    rows = []
    for n in range(120):
        right = "abc"[rng.integers(3)]
        rows += [(f"i{n}", w, right) for w in ("w1", "w2", "w3")]
        rows += [(f"i{n}", "lazy", "a"), (f"i{n}", "dice", "abc"[rng.integers(3)])]
    found = {report.worker_id: report for report in run(rows, method="hierarchical").reports}
    assert found["lazy"].one_label_share == 1
    assert (found["w1"].one_label_share or 1) < 0.5
    assert (found["w1"].spammer_score or 0) > 0.8
    assert all((found[name].spammer_score or 0) < 0.1 for name in ("lazy", "dice"))
    assert {report.spammer_score for report in run(rows, method="majority").reports} == {None}
