# SPDX-License-Identifier: GPL-3.0-or-later
"""The methods: equal to references, accurate on planted truth, defined on degenerate input."""

from __future__ import annotations

import numpy as np
import pytest

from gandt.domain.aggregation.methods import METHODS, list_methods
from gandt.domain.datasets import LabelStatus
from gandt.domain.errors import DeadlineExceeded, InvalidInput
from tests.unit.aggregation import plain_dawid_skene
from tests.unit.aggregation.builders import accuracy, crowd, items, run, table

SINGLE = sorted(name for name, method in METHODS.items() if method.fit is not None)
ALL = [*SINGLE, "auto"]

# Posterior of c0 for crowd(60, 3, 4, seed), as plain_dawid_skene gave it when this was written.
FROZEN = {
    7: {"i0004": 0.99732832, "i0025": 0.89696044, "i0047": 0.08485571, "i0057": 0.31238737},
    8: {"i0007": 0.01129496, "i0025": 0.99549329, "i0051": 0.90752710, "i0059": 0.49145725},
}


@pytest.mark.parametrize("seed", [7, 8, 9])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_dawid_skene_equals_the_plain_reference(seed: int, classes: int) -> None:
    rows, _ = crowd(60, classes, 4, seed)
    result = run(rows, method="dawid-skene", with_posteriors=True)
    expected = plain_dawid_skene.posteriors(rows, result.summary.classes)
    for image, item in items(result).items():
        assert item.posterior == pytest.approx(expected[image], abs=1e-8)


@pytest.mark.parametrize("seed", sorted(FROZEN))
def test_dawid_skene_equals_frozen_posteriors(seed: int) -> None:
    rows, _ = crowd(60, 3, 4, seed)
    found = items(run(rows, method="dawid-skene", with_posteriors=True))
    assert {image: found[image].posterior[0] for image in FROZEN[seed]} == pytest.approx(FROZEN[seed], abs=1e-7)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
@pytest.mark.parametrize(("classes", "each"), [(2, 3), (4, 5), (8, 5)])
def test_worker_models_beat_the_majority_on_planted_truth(seed: int, classes: int, each: int) -> None:
    rows, truth = crowd(400, classes, each, seed)
    majority = accuracy(run(rows, method="majority"), truth)
    for method in ("hierarchical", "one-coin", "auto"):
        assert accuracy(run(rows, method=method), truth) >= majority


def test_hierarchical_wins_clearly_on_average() -> None:
    gains = []
    for seed in range(8):
        rows, truth = crowd(400, 4, 5, seed)
        majority, model = (accuracy(run(rows, method=m), truth) for m in ("majority", "hierarchical"))
        gains.append(model - majority)
    assert np.mean(gains) > 0.03


@pytest.mark.parametrize("method", ALL)
def test_posteriors_are_distributions(method: str) -> None:
    rows, _ = crowd(50, 4, 3, 5)
    result = run(rows, method=method, with_posteriors=True)
    found = np.array([item.posterior for item in result.items()])
    assert np.isfinite(found).all()
    assert found.sum(axis=1) == pytest.approx(np.ones(len(found)), abs=1e-9)


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize(
    "rows",
    [
        [],
        [("i", "w", "a")],
        [("i", "w", "a"), ("i", "v", "a")],
        [("i", "w", "-")],
        [("i", "w", "a"), ("j", "w", "-")],
        [("i", "w", "a"), ("i", "v", "b")],
        [("i", "w", "a"), ("j", "w", "a"), ("k", "w", "a")],
    ],
)
def test_degenerate_input_has_a_defined_result(method: str, rows: list[tuple[str, str, str]]) -> None:
    result = run(rows, method=method, with_posteriors=True)
    assert {item.image_id for item in result.items()} == {row[0] for row in rows}
    for item in result.items():
        assert 0 <= item.confidence <= 1
        assert all(np.isfinite(item.posterior))
    assert {report.worker_id for report in result.reports} == {row[1] for row in rows}


@pytest.mark.parametrize("method", ALL)
def test_a_tie_is_shown_and_never_drawn(method: str) -> None:
    item = items(run([("i", "w", "b"), ("i", "v", "a")], method=method))["i"]
    assert item.status is LabelStatus.TIED
    assert item.labels == ("a", "b")
    assert item.agreeing == 1


def test_ties_come_in_the_order_of_the_label_space() -> None:
    rows = [("i", "w", "b"), ("i", "v", "a")]
    assert items(run(rows, method="majority", classes=("b", "a")))["i"].labels == ("b", "a")


@pytest.mark.parametrize("method", ["one-coin", "hierarchical"])
def test_gold_is_fixed_and_weighs_in_worker_estimates(method: str) -> None:
    rows = [(f"i{n}", w, "a" if w != "liar" else "b") for n in range(12) for w in ("liar", "good")]
    gold = {f"i{n}": ["a"] for n in range(6)}
    result = run(rows, gold, method=method)
    found = items(result)
    assert found["i0"].gold
    assert found["i0"].status is LabelStatus.CERTAIN
    assert found["i0"].confidence == 1
    assert found["i11"].labels == ("a",)  # two votes against each other, settled by the gold images
    reports = {report.worker_id: report for report in result.reports}
    assert reports["good"].gold_accuracy == 1
    assert reports["liar"].gold_accuracy == 0
    assert reports["liar"].gold_answers == 6
    assert reports["good"].gold_interval == pytest.approx((0.6097, 1.0), abs=1e-4)


def test_gold_does_not_count_in_the_class_prior() -> None:
    rows = [(f"g{n}", w, "b") for n in range(50) for w in ("w", "v")]
    rows += [(f"i{n}", w, "a" if n % 2 else "b") for n in range(10) for w in ("w", "v")]
    rows += [("empty", "w", "-")]
    gold = {f"g{n}": ["b"] for n in range(50)}
    result = run(rows, gold, method="hierarchical", with_posteriors=True)
    assert items(result)["empty"].posterior == pytest.approx((0.5, 0.5), abs=0.05)


def test_unknown_methods_name_the_nearest() -> None:
    with pytest.raises(InvalidInput, match="did you mean hierarchical") as caught:
        run([("i", "w", "a")], method="hierarchial")
    assert caught.value.reason == "UNKNOWN_METHOD"
    with pytest.raises(InvalidInput) as caught:
        run([("i", "w", "a")], method="two-coin")
    assert caught.value.reason == "METHOD_NEEDS_MULTI_LABEL"


def test_methods_are_listed_by_name_with_auto() -> None:
    names = [method.name for method in list_methods()]
    assert names == sorted([*METHODS, "auto"])


def test_auto_says_why() -> None:
    few = run([("i", "w", "a"), ("j", "w", "b")]).summary
    assert (few.method, few.explanation.startswith("no image has two answers")) == ("majority", True)
    rows, _ = crowd(60, 3, 3, 1)
    assert run(rows).summary.method == "committee"
    assert (
        run(rows, classes=tuple(f"c{n}" for n in range(12_000))).summary.method == "blend"
    )  # as much work as many votes
    assert run(rows, multi_label=True).summary.method == "two-coin"


def test_the_deadline_is_asked_each_iteration() -> None:
    from gandt.domain.aggregation.aggregate import aggregate
    from gandt.domain.aggregation.records import AggregateSpec

    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise DeadlineExceeded("late")

    rows, _ = crowd(100, 4, 3, 1)
    with pytest.raises(DeadlineExceeded):
        aggregate(table(rows), AggregateSpec(method="hierarchical"), {}, check)
    assert asked == 3


@pytest.mark.parametrize("method", ["one-coin", "hierarchical", "auto"])
def test_a_worker_who_always_gives_one_label_does_not_win(method: str) -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 6, 200)
    rows = []
    for n, right in enumerate(truth):
        honest = [right if rng.random() < 0.7 else rng.integers(6) for _ in range(2)]
        rows += [
            (f"i{n}", f"w{k}", f"c{label}") for k, label in zip(rng.choice(4, 2, replace=False), honest, strict=True)
        ]
        rows.append((f"i{n}", "lazy", "c0"))
    known = {f"i{n}": f"c{label}" for n, label in enumerate(truth)}
    assert accuracy(run(rows, method=method), known) > 0.7
