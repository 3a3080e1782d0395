# SPDX-License-Identifier: GPL-3.0-or-later
"""Several labels an image: sets, ties, nothing at all, and a crowd whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from gandt.domain.aggregation.records import Verdict
from gandt.domain.datasets import LabelStatus
from tests.unit.aggregation.builders import Row, items, run


def test_the_second_label_is_kept() -> None:
    # In the original only labels at the top count survive: b (2 of 3) is lost.
    item = items(run([("i", "w", "a|b"), ("i", "v", "a|b"), ("i", "u", "a")], method="agreement", multi_label=True))[
        "i"
    ]
    assert (item.labels, item.status, item.agreeing, item.answers) == (("a", "b"), LabelStatus.CERTAIN, 2, 3)


def test_an_empty_set_means_none_of_these() -> None:
    item = items(run([("i", "w", ""), ("i", "v", ""), ("i", "u", "a")], method="agreement", multi_label=True))["i"]
    assert (item.labels, item.status, item.agreeing) == ((), LabelStatus.CERTAIN, 2)


def test_only_empty_sets_are_a_verdict() -> None:
    for method in ("agreement", "auto", "two-coin"):
        item = items(run([("i", "w", ""), ("i", "v", "")], method=method, multi_label=True))["i"]
        assert (item.labels, item.status) == ((), LabelStatus.CERTAIN)


def test_half_the_votes_for_a_label_is_a_tie() -> None:
    item = items(run([("i", "w", "a"), ("i", "v", "a|b")], method="majority", multi_label=True))["i"]
    assert (item.labels, item.status) == (("a", "b"), LabelStatus.TIED)


def test_ticking_everything_is_caught() -> None:
    # In the original a worker who ticks every label always agrees with the majority.
    rng = np.random.default_rng(0)
    rows: list[Row] = []
    for n in range(30):
        truth = "abcd"[rng.integers(4)]
        rows += [(f"i{n}", w, truth) for w in ("w1", "w2", "w3")] + [(f"i{n}", "all", "a|b|c|d")]
    judged = {report.worker_id: report.verdict for report in run(rows, multi_label=True).reports}
    assert judged["all"] is Verdict.UNRELIABLE
    assert judged["w1"] is Verdict.RELIABLE


def test_gold_sets_are_fixed() -> None:
    rows: list[Row] = [("i", "w", "a"), ("i", "v", "a"), ("j", "w", "")]
    result = run(rows, {"i": ["a", "b"], "j": []}, multi_label=True)
    found = items(result)
    assert (found["i"].labels, found["i"].gold, found["i"].status) == (("a", "b"), True, LabelStatus.CERTAIN)
    assert (found["j"].labels, found["j"].gold) == ((), True)
    gold = {report.worker_id: report.gold_accuracy for report in result.reports}
    assert gold == {"v": 0.0, "w": 0.5}


def planted(seed: int) -> tuple[list[Row], dict[str, tuple[str, ...]]]:
    rng = np.random.default_rng(seed)
    labels, workers, images = "abcde", 20, 300
    rates = rng.uniform(0.1, 0.35, len(labels))
    hit = np.clip(rng.beta(8, 2, (workers, len(labels))), 0.4, 0.99)
    alarm = 1 - np.clip(rng.beta(20, 1.5, (workers, len(labels))), 0.6, 0.999)
    hit[:3], alarm[:3] = 0.3, 0.3  # three who tick at random
    truth = rng.random((images, len(labels))) < rates
    rows: list[Row] = []
    for n in range(images):
        for worker in rng.choice(workers, 4, replace=False):
            says = rng.random(len(labels)) < np.where(truth[n], hit[worker], alarm[worker])
            rows.append((f"i{n:03d}", f"w{worker:02d}", "|".join(np.array(list(labels))[says])))
    return rows, {f"i{n:03d}": tuple(np.array(list(labels))[truth[n]]) for n in range(images)}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_two_coin_beats_the_majority_on_planted_truth(seed: int) -> None:
    rows, truth = planted(seed)

    def exact(method: str) -> float:
        return float(
            np.mean([i.labels == truth[i.image_id] for i in run(rows, method=method, multi_label=True).items()])
        )

    assert exact("auto") > exact("majority") + 0.03


def test_random_tickers_are_told_from_the_others() -> None:
    rows, _ = planted(1)
    judged = {report.worker_id: report.reliability for report in run(rows, multi_label=True).reports}
    spam = [judged[f"w{w:02d}"] for w in range(3)]
    good = [judged[f"w{w:02d}"] for w in range(3, 20)]
    assert max(s for s in spam if s is not None) < min(g for g in good if g is not None)
