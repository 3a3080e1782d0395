# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's figures against hand-counted ones, and the page as a reader gets it."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gandt.domain.datasets import Arm, LabelStatus
from gandt.domain.errors import InvalidInput
from gandt.domain.report.figures import CampaignRecord, LabeledPick, RoundRecord, WorkerRecord, figures_of
from gandt.domain.report.html import report_html, verdict
from gandt.domain.report.pool_map import map_svg, series_of, two_dimensions
from gandt.domain.report.random_choice import expected_draws, expected_found
from gandt.domain.report.svg import bar_chart, line_chart, ticks
from gandt.domain.selection.proof import Sampled, proof_of


def pick(number: int, label: str, truth: str | None = None, arm: Arm = Arm.MAIN, round: int = 1) -> LabeledPick:
    return LabeledPick(
        f"id{number}",
        f"s3://photos/{number}.png",
        (label,),
        0.9,
        LabelStatus.CERTAIN,
        3,
        3,
        round,
        number,
        arm,
        truth=None if truth is None else (truth,),
    )


def record(picks: Sequence[LabeledPick], in_pool: int | None) -> CampaignRecord:
    return CampaignRecord(
        name="birds",
        classes=("owl", "Other"),
        target_labels=("owl",),
        other_label="Other",
        state="completed",
        message="the budget is spent",
        images=110,
        seeds=10,
        seed_targets=3,
        pool_truth=in_pool,
        picks=picks,
        rounds=[RoundRecord(1, "find-more", "owl is wanted", len(picks), 3 * len(picks), 1_200_000)],
        workers=[WorkerRecord("w<1>", 30, 0.9, 0.8, 0.95, -1.0, "reliable")],
        budget_usd_micros=5_000_000,
        spent_usd_micros=1_200_000,
        workers_per_image=3,
        fixed_cost_usd_micros=9_000_000,
        versions={"gandt": "0.1"},
    )


def test_figures_are_counted_from_the_picks() -> None:
    picks = [pick(1, "owl", "owl"), pick(2, "owl", "Other"), pick(3, "Other", "Other"), pick(4, "owl", "owl")]
    figures = figures_of(record(picks, in_pool=2))
    assert (figures.labels_bought, figures.targets_found, figures.answers_bought) == (4, 3, 12)
    assert figures.targets_right == 2
    assert "2 of 2 wanted images were found (and 1 others taken for such)" in verdict(figures)
    assert figures.label_accuracy == 0.75
    assert figures.labels_to_goal == 4  # 80 % of two is both of them, and a wrong "owl" does not count
    assert figures.random is not None
    assert figures.random.expected_labels == pytest.approx(2 * 101 / 3)
    assert figures.curve[-1] == (4, 3)


def test_confidence_is_measured_where_the_truth_is_known() -> None:
    picks = [pick(1, "owl", "owl"), pick(2, "owl", "Other"), pick(3, "owl")]
    campaign = record([*picks, replace(pick(4, "owl", "Other"), answers=0)], in_pool=1)  # the last one was reviewed
    figures = figures_of(campaign)
    assert figures.calibration is not None
    assert figures.calibration.images == 2
    assert figures.calibration.brier == pytest.approx((2 * 0.1**2 + 2 * 0.9**2) / 2)
    assert figures.calibration.log_loss == pytest.approx(-(math.log(0.9) + math.log(0.1)) / 2)
    assert (figures.calibration.error, figures.calibration.temperature) == (None, None)
    page = report_html(campaign, figures, "")
    assert '<td>Brier score, 0 to 2, smaller is better</td><td class="n">0.8200</td>' in page
    assert "calibration error, 0 to 1" not in page
    many = record([pick(n, "owl", "owl" if n % 10 else "Other") for n in range(1000)], in_pool=None)
    found = figures_of(many)
    assert found.calibration is not None
    assert found.calibration.error == pytest.approx(0, abs=1e-9)
    assert found.calibration.temperature is None  # the images were selected
    assert '<td>calibration error, 0 to 1, smaller is better</td><td class="n">0.0000</td>' in report_html(
        many, found, ""
    )
    assert "How honest" not in report_html(
        record([pick(1, "owl")], None), figures_of(record([pick(1, "owl")], None)), ""
    )


def test_control_draws_come_first_within_a_round() -> None:
    figures = figures_of(record([pick(1, "owl"), pick(2, "Other", arm=Arm.CONTROL)], in_pool=None))
    assert list(figures.curve) == [(0, 0), (1, 0), (2, 1)]
    assert (figures.control_labels, figures.control_yield, figures.main_yield) == (1, 0.0, 1.0)
    assert figures.random is None


def test_an_empty_campaign_has_figures() -> None:
    figures = figures_of(record([], in_pool=0))
    assert (figures.labels_bought, figures.label_accuracy, figures.labels_to_goal) == (0, None, None)
    assert "0 of 100 images" in verdict(figures)


def test_the_page_escapes_what_people_wrote_and_fetches_nothing() -> None:
    campaign = record([pick(1, "<script>alert(1)</script>", "owl")], in_pool=1)
    page = report_html(campaign, figures_of(campaign), "Nothing is proven yet.", {"Votes": bar_chart({"<b>": 1})})
    assert "<script" not in page
    assert "w&lt;1&gt;" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


def test_charts_are_well_formed() -> None:
    ET.fromstring(line_chart({"a": [(0, 0), (3, 5)], "b & c": [(0, 0), (3, 1)]}, "x", "y", ("b & c",)))
    ET.fromstring(line_chart({"a": []}, "x", "y"))
    ET.fromstring(bar_chart({}))


@given(st.floats(min_value=1e-3, max_value=1e9))
def test_ticks_are_few_and_cover(top: float) -> None:
    marks = ticks(top)
    assert marks[0] == 0
    assert marks[-1] >= top * (1 - 1e-6)
    assert 2 <= len(marks) <= 7


@given(st.integers(1, 60), st.data())
def test_random_choice_equals_its_definition(pool: int, data: st.DataObject) -> None:
    positives = data.draw(st.integers(1, pool))
    wanted = data.draw(st.integers(1, positives))
    # P(k-th positive at draw t) summed exactly
    exact = sum(
        t * math.comb(t - 1, wanted - 1) * math.comb(pool - t, positives - wanted) / math.comb(pool, positives)
        for t in range(wanted, pool - positives + wanted + 1)
    )
    assert expected_draws(pool, positives, wanted) == pytest.approx(exact)
    assert expected_found(pool, positives, pool + 5) == pytest.approx(positives)


def test_more_than_there_is_cannot_be_found() -> None:
    with pytest.raises(InvalidInput):
        expected_draws(10, 2, 3)
    assert expected_found(0, 0, 5) == 0.0


def test_the_guarantee_box_says_what_was_asked_and_what_is_proven() -> None:
    from gandt.cli.charts import guarantee

    rows = [Sampled(1, 1, 1, 100, 20, 2, 30, 18), Sampled(2, 1, 1, 50, 40, 0)]
    known = replace(record([pick(n, "owl") for n in range(5)], None), proof=proof_of(rows, 3), prove_recall=0.5)
    figures = figures_of(known)
    assert figures.proof is not None
    assert figures.proof["claim"][1:] in report_html(known, figures, guarantee(known))
    assert "50.0 %: proven" in report_html(known, figures, guarantee(known))
    strict = replace(known, prove_recall=0.99)
    assert "99.0 %: not proven" in report_html(strict, figures_of(strict), guarantee(strict))
    assert "No proof was asked for" in guarantee(replace(known, prove_recall=0.0))
    assert "no share of wanted images to prove" in guarantee(replace(known, proof=None))
    # The comparison is the unbiased estimate at the start of the pool, and the gain comes with its interval.
    total = figures.proof["total"]
    assert isinstance(total, float)
    assert figures.random_yield == pytest.approx((total - 3) / 100)
    page = report_html(known, figures, guarantee(known))
    assert "random choice, by the control draws" in page
    assert "95 % interval" in page


def test_the_map_shows_every_image_once_and_rings_control_draws() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(60, 16)).astype(np.float32)
    vectors[:30] += 3.0
    vectors[0] = 0.0
    ids = [f"i{n}" for n in range(60)]
    places = two_dimensions(vectors)
    assert places.shape == (60, 2)
    assert (places.min(), places.max()) == (0.0, 1.0)
    assert np.array_equal(places, two_dimensions(vectors))
    series = series_of(ids, {"i1": True, "i2": False}, {"i2", "i3"}, {"i1", "i3", "i4"})
    assert series[1:6] == ["wanted", "labeled", "picked", "discarded", "unlabeled"]
    chart = ET.fromstring(map_svg(places, series, [n == 1 for n in range(60)]))
    groups = {group.get("class"): len(group) for group in chart.iter("{http://www.w3.org/2000/svg}g")}
    assert groups == {"unlabeled": 56, "discarded": 1, "picked": 1, "labeled": 1, "wanted": 1, "control": 1}
    same = two_dimensions(np.ones((3, 4), np.float32))
    assert np.isfinite(same).all()
