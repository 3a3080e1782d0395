# SPDX-License-Identifier: GPL-3.0-or-later
"""What counts as a vote, what goes out, and what the default does where the original loses or miscounts.

The table in docs/reference/compat-aggregation.md names these tests.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gandt.domain.aggregation.answer_table import AnswerTableBuilder, Limits
from gandt.domain.aggregation.dawid_skene import fit_dawid_skene
from gandt.domain.aggregation.mace import fit_mace
from gandt.domain.aggregation.model import FitOptions
from gandt.domain.aggregation.one_coin import fit_one_coin
from gandt.domain.aggregation.records import AnswerChunk, DuplicatePolicy, Verdict
from gandt.domain.aggregation.votes import NO_GOLD, Votes
from gandt.domain.datasets import LabelStatus
from gandt.domain.errors import InvalidInput
from tests.unit.aggregation.builders import Row, items, run

GOOD_AND_BAD: list[Row] = [
    (f"i{n}", worker, label)
    for n in range(12)
    for worker, label in (("w1", "ab"[n % 2]), ("w2", "ab"[n % 2]), ("bad", "ba"[n % 2]))
]


def verdicts(rows: list[Row], **spec: Any) -> dict[str, Verdict]:
    return {report.worker_id: report.verdict for report in run(rows, **spec).reports}


def test_a_worker_has_one_vote_an_image() -> None:
    result = run([("i", "w", "a"), ("i", "w", "a"), ("i", "v", "b")], method="agreement")
    item = items(result)["i"]
    assert (item.answers, item.status) == (2, LabelStatus.TIED)
    assert result.summary.repeated_answers == 1


@pytest.mark.parametrize(("policy", "label"), [(DuplicatePolicy.FIRST, "a"), (DuplicatePolicy.LAST, "b")])
def test_the_policy_says_which_repeated_answer_counts(policy: DuplicatePolicy, label: str) -> None:
    rows = [("i", "w", "-"), ("i", "w", "a"), ("i", "w", "b"), ("i", "w", "-")]
    assert items(run(rows, method="majority", duplicates=policy))["i"].labels == (label,)


def test_repeated_answers_can_be_an_error() -> None:
    with pytest.raises(InvalidInput, match="worker w answered image i more than once"):
        run([("i", "w", "a"), ("i", "w", "b")], duplicates=DuplicatePolicy.ERROR)


def test_a_repeated_label_counts_once() -> None:
    item = items(run([("i", "w", "a|a")], method="agreement"))["i"]
    assert (item.answers, item.agreeing, item.status) == (1, 1, LabelStatus.UNCERTAIN)


def test_blank_answers_do_not_vote_and_do_not_dilute() -> None:
    result = run([("i", "w", "a"), ("i", "v", "a"), ("i", "u", "-"), ("i", "t", "-")], method="agreement")
    assert items(result)["i"].status is LabelStatus.CERTAIN
    assert items(result)["i"].answers == 2
    assert result.summary.abstentions == 2


def test_an_image_with_only_blank_answers_stays_unlabeled() -> None:
    item = items(run([("i", "w", "-"), ("j", "w", "a")], method="agreement"))["i"]
    assert (item.status, item.labels, item.confidence, item.answers) == (LabelStatus.UNLABELED, (), 0.0, 0)


def test_nobody_certain_is_no_error() -> None:
    assert items(run([("i", "w", "a"), ("i", "v", "b")], method="agreement"))["i"].status is LabelStatus.TIED


def test_no_answers_is_no_error() -> None:
    assert list(run([], method="agreement").items()) == []


def test_unreliable_workers_are_left_out_by_agreement_with_the_others() -> None:
    assert verdicts(GOOD_AND_BAD) == {"bad": Verdict.UNRELIABLE, "w1": Verdict.RELIABLE, "w2": Verdict.RELIABLE}
    result = run(GOOD_AND_BAD, method="agreement")
    assert {item.answers for item in result.items()} == {2}
    assert {item.confidence for item in result.items()} == {1.0}
    assert result.summary.unreliable_answers == 12
    assert "the votes of 1 unreliable worker were left out" in result.summary.warnings


def test_an_image_seen_only_by_unreliable_workers_stays_unlabeled() -> None:
    result = run([*GOOD_AND_BAD, ("only", "bad", "a")], method="agreement")
    assert items(result)["only"].status is LabelStatus.UNLABELED
    assert any("1 image without a vote that counts" in text for text in result.summary.warnings)


def test_a_worker_with_few_answers_is_unknown_and_counts() -> None:
    rows: list[Row] = [*GOOD_AND_BAD, ("new-image", "new", "a"), ("new-image", "w1", "a")]
    assert verdicts(rows)["new"] is Verdict.UNKNOWN
    assert items(run(rows, method="agreement"))["new-image"].answers == 2


def test_a_spammer_among_three_is_caught_though_he_votes_too() -> None:
    # In the original his own vote is in the majority that judges him.
    rows = [(f"i{n}", w, "a" if w != "spam" else "ab"[n % 2]) for n in range(20) for w in ("spam", "w1", "w2")]
    assert verdicts(rows)["spam"] is Verdict.UNRELIABLE


def test_every_unreliable_worker_leaves_images_unlabeled_not_lost() -> None:
    rows = [(f"i{n}", w, "ab"[(n + k) % 2]) for n in range(12) for k, w in enumerate(("w1", "w2", "bad"))]
    result = run(rows, method="agreement", reliability_threshold=1.0)
    assert len(list(result.items())) == 12
    assert {item.status for item in result.items()} == {LabelStatus.UNLABELED}


def test_equal_basenames_are_different_images() -> None:
    found = items(run([("p/a.jpg", "w", "a"), ("p/a.jpg", "v", "a"), ("q/a.jpg", "w", "b"), ("q/a.jpg", "v", "b")]))
    assert (found["p/a.jpg"].labels, found["q/a.jpg"].labels) == (("a",), ("b",))


def test_agreement_describes_as_the_original_did() -> None:
    found = items(run([("i", "w", "a"), ("i", "v", "a"), ("i", "u", "b")], method="agreement"))
    assert found["i"].description == "a (2 / 3)"


@pytest.mark.parametrize("method", ["agreement", "hierarchical"])
def test_thresholds_decide_certainty(method: str) -> None:
    rows: list[Row] = [("i", "w", "a"), ("i", "v", "a")]
    assert items(run(rows, method=method))["i"].status is LabelStatus.CERTAIN
    assert items(run(rows, method=method, min_answers=3))["i"].status is LabelStatus.UNCERTAIN
    assert items(run(rows, method=method, min_proportion=1.0))["i"].status is LabelStatus.UNCERTAIN


def test_previous_answers_measure_workers_and_label_nothing() -> None:
    now: list[Row] = [("x", "bad", "a"), ("x", "w1", "b"), ("x", "w2", "b"), ("i0", "w1", "a")]
    result = run(now, previous=GOOD_AND_BAD, method="agreement")
    found = items(result)
    assert set(found) == {"x", "i0"}
    assert (found["x"].answers, found["x"].labels) == (2, ("b",))
    assert found["i0"].answers == 1  # the same image was answered in the earlier job; those votes stay there


def test_previous_images_are_labeled_when_asked_for() -> None:
    now: list[Row] = [("x", "w1", "b"), ("x", "w2", "b"), ("i0", "w3", "a"), ("i0", "w1", "b")]
    result = run(now, previous=GOOD_AND_BAD, method="agreement", include_previous=True)
    found = items(result)
    assert set(found) == {"x", *(f"i{n}" for n in range(12))}
    assert found["i0"].answers == 3  # w1's new answer repeats; the earlier one counts
    assert found["i0"].labels == ("a",)


def test_several_labels_need_multi_label() -> None:
    with pytest.raises(InvalidInput, match="--multilabel") as caught:
        run([("i", "w", "a|b")])
    assert caught.value.reason == "SEVERAL_LABELS"


def test_a_label_outside_the_label_space_does_not_vote_and_is_named() -> None:
    result = run([("i", "w", "a"), ("i", "v", "x")], classes=("a", "b"), method="majority")
    assert (items(result)["i"].labels, items(result)["i"].answers) == (("a",), 1)
    assert any("'x' of worker v for image i" in text for text in result.summary.warnings)


def test_gold_works_as_decoys_were_meant_to() -> None:
    # In the original a decoy is never found.
    result = run([("i", "w", "a"), ("i", "v", "a")], {"i": ["b"]}, method="agreement")
    item = items(result)["i"]
    assert (item.gold, item.labels, item.agreeing) == (True, ("b",), 0)
    assert {report.gold_accuracy for report in result.reports} == {0.0}
    unknown = run([("i", "w", "a")], {"i": ["z"]}, method="majority", classes=("a",))
    assert any("'z'" in text for text in unknown.summary.warnings)
    with pytest.raises(InvalidInput, match="several labels"):
        run([("i", "w", "a")], {"i": ["a", "b"]})


def test_one_against_one_is_never_certain_whatever_the_model_thinks() -> None:
    rows: list[Row] = [("i", "w", "a"), ("i", "v", "b"), ("j", "w", "a"), ("j", "v", "a")]
    for method in ("hierarchical", "one-coin", "dawid-skene", "wawa", "majority"):
        found = items(run(rows, method=method))
        assert found["i"].status in (LabelStatus.UNCERTAIN, LabelStatus.TIED), method
        assert found["j"].status is LabelStatus.CERTAIN, method


def test_more_workers_and_classes_than_fit_are_refused_before_memory_is_taken() -> None:
    one, two = np.array([0, 1], np.int32), np.zeros(2, np.int32)
    votes = Votes(np.array([0, 2]), two, one, one, np.full(1, NO_GOLD, np.int32), 1_000_000, 1000)
    for fit in (fit_one_coin, fit_mace, fit_dawid_skene):
        with pytest.raises(InvalidInput, match="1,000,000 workers with 1,000 classes") as caught:
            fit(votes, FitOptions())
        assert caught.value.reason == "TOO_MUCH_DATA"


@pytest.mark.parametrize(
    ("kind", "setting"), [("labels", "max_classes"), ("jobs", "max_images"), ("workers", "max_workers")]
)
def test_too_many_names_tell_the_setting_that_there_is(kind: str, setting: str) -> None:
    named: dict[str, Any] = {f"new_{kind}": ["a", "b"]}
    chunk = AnswerChunk(**named)
    with pytest.raises(InvalidInput) as caught:
        AnswerTableBuilder(Limits(images=1, workers=1, classes=1)).add(chunk)
    assert (caught.value.reason, setting in caught.value.fix) == ("TOO_MUCH_DATA", True)
