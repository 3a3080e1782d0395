# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's plots on people: counted by hand, and drawn as a reader gets them."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from gandt.domain.datasets import Answer, AnswerState
from gandt.domain.report.worker_plots import (
    EVERYBODY,
    MOST_CLASSES,
    MOST_WORKERS,
    calibration_bins,
    calibration_plot,
    confusion_plot,
    confusions,
)

SVG = "{http://www.w3.org/2000/svg}"


def titles(svg: str) -> list[str]:
    return [title.text or "" for title in ET.fromstring(svg).iter(f"{SVG}title")]


def test_answers_are_counted_against_the_right_label() -> None:
    right = {"a": ("cat",), "b": ("dog",), "c": ("cat", "dog"), "d": ()}
    answers = [
        Answer("a", "w", ("cat",)),
        Answer("a", "v", ("dog",)),
        Answer("b", "w", ("cat",)),
        Answer("b", "v", ("dog",)),
        Answer("b", "u", (), AnswerState.BLANK),
        Answer("c", "w", ("cat",)),  # several right labels, none, or an unknown image: nothing to compare with
        Answer("d", "w", ("cat",)),
        Answer("e", "w", ("cat",)),
    ]
    found = confusions(answers, right, ("cat", "dog", "owl"), "the truth")
    assert found.classes == ("cat", "dog")
    assert found.counts == {EVERYBODY: [[1, 1], [1, 1]], "v": [[0, 1], [0, 1]], "w": [[1, 0], [1, 0]]}
    told = titles(confusion_plot(found))
    assert len(told) == 3 * 4
    assert "w: 1 of 1 answers on dog said cat, 95 % interval 0.21 to 1.00" in told


def test_many_classes_and_workers_leave_a_readable_plot_and_everybody_counts_all() -> None:
    names = [f"<class {n}>" for n in range(20)]
    right = {f"i{n}": (names[n % 20],) for n in range(60)}
    answers = [Answer(image, f"w{n}", label) for image, label in right.items() for n in range(12)]
    found = confusions(answers, right, names, "the truth")
    assert len(found.classes) == MOST_CLASSES
    assert len(found.counts) == MOST_WORKERS + 1
    assert sum(map(sum, found.counts[EVERYBODY])) == MOST_CLASSES * 3 * 12
    svg = ET.fromstring(confusion_plot(found))
    assert len(list(svg.iter(f"{SVG}rect"))) == 9 * MOST_CLASSES**2
    width, height = map(float, svg.attrib["viewBox"].split()[2:])
    for rect in svg.iter(f"{SVG}rect"):
        assert 0 <= float(rect.attrib["x"]) < width - 20
        assert 0 <= float(rect.attrib["y"]) < height - 20


def test_nothing_to_compare_gives_no_squares() -> None:
    assert not confusions([Answer("a", "w", ("cat",))], {}, ("cat",), "the truth").counts


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60))
def test_calibration_bins_hold_every_label_once(labels: list[tuple[float, bool]]) -> None:
    bins = calibration_bins(labels)
    assert sum(found.labels for found in bins) == len(labels)
    assert sum(found.right for found in bins) == sum(hit for _, hit in labels)
    for found in bins:
        assert 0 <= found.low <= found.right / found.labels <= found.high <= 1
    assert len(list(ET.fromstring(calibration_plot(bins)).iter(f"{SVG}circle"))) == len(bins)


def test_an_honest_label_lies_on_the_line() -> None:
    (found,) = calibration_bins([(0.75, True), (0.75, True), (0.75, True), (0.75, False)])
    assert (found.confidence, found.right, found.labels) == (0.75, 3, 4)
    assert titles(calibration_plot([found])) == ["3 of 4 labels are right at a confidence of 0.75"]
