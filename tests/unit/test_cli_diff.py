# SPDX-License-Identifier: GPL-3.0-or-later
"""`gandt diff`: what differs between two versions, and hashes that tell versions apart and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gandt.cli.main import main
from gandt.domain.dataset_diff import ChangeKind, dataset_hash, differences

DATASETS = st.dictionaries(
    st.text(min_size=1, max_size=3), st.lists(st.sampled_from("abc"), unique=True, max_size=2).map(tuple), max_size=8
)


@given(old=DATASETS, new=DATASETS)
def test_the_differences_lead_from_one_version_to_the_other(
    old: dict[str, tuple[str, ...]], new: dict[str, tuple[str, ...]]
) -> None:
    changed = {image: tuple(sorted(labels)) for image, labels in old.items()}
    changes = differences(old, new)
    for change in changes:
        assert change.old == changed.get(change.image, ())
        if change.kind is ChangeKind.REMOVED:
            del changed[change.image]
        else:
            changed[change.image] = change.new
    assert changed == {image: tuple(sorted(labels)) for image, labels in new.items()}
    assert (dataset_hash(old) == dataset_hash(new)) == (not changes)


def test_the_hash_does_not_depend_on_order() -> None:
    assert dataset_hash({"x": ("a", "b"), "y": ()}) == dataset_hash({"y": (), "x": ("b", "a")})
    assert dataset_hash({"x": ("a",)}) != dataset_hash({"xa": ()})


def test_a_table_of_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, out = tmp_path / "old.csv", tmp_path / "new.jsonl", tmp_path / "changes.csv"
    old.write_text("image,label\nsame.jpg,cat\ngone.jpg,cat\nother.jpg,cat|dog\n")
    rows = {"other.jpg": "dog", "new.jpg": "", "same.jpg": "cat"}
    new.write_text("".join(json.dumps({"image": image, "label": label}) + "\n" for image, label in rows.items()))
    assert main(["diff", str(old), str(new), "-o", str(out), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["added"], summary["removed"], summary["changed"]) == (1, 1, 1)
    assert summary["classes"] == {"cat": [3, 1], "dog": [1, 1]}
    assert summary["old"]["sha256"] != summary["new"]["sha256"]
    assert out.read_text().splitlines() == [
        "image,change,old,new",
        "gone.jpg,removed,cat,",
        "new.jpg,added,,",
        "other.jpg,changed,cat|dog,dog",
    ]


def test_the_same_dataset_in_two_formats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = tmp_path / "old.csv", tmp_path / "new.jsonl"
    old.write_text("image,label\nx.jpg,cat\ny.jpg,dog\n")
    new.write_text('{"image": "y.jpg", "label": "dog"}\n{"image": "x.jpg", "label": "cat"}\n')
    assert main(["diff", str(old), str(new), "--json"]) == 3
    summary = json.loads(capsys.readouterr().out)
    assert summary["old"] == summary["new"]


def test_a_file_that_is_no_table_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("image,label\n")
    assert main(["diff", str(tmp_path / "a.csv"), str(tmp_path / "none.csv")]) == 2
    assert "none.csv" in capsys.readouterr().err
