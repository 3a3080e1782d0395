# SPDX-License-Identifier: GPL-3.0-or-later
"""`gandt filter` and `gandt select` on plain files, through the service inside the process."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gandt.cli import exit_codes
from gandt.cli.main import main
from gandt.domain.vectors import VectorSet
from gandt.tables.vectors import write_vectors
from tests.conftest import golden_cases
from tests.unit.selection.make import blobs

IDS, MATRIX, NAMES = blobs({"cat": 20, "dog": 20, "x": 40, "y": 40})
KNOWN = [*range(5), *range(20, 25), *range(40, 46)]
Run = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_vectors("vectors.parquet", VectorSet(IDS, MATRIX, "m1"))
    labels = {"cat": "cat", "dog": "dog", "x": "Other", "y": "Other"}
    write_table(tmp_path / "labeled.csv", ["image", "label"], [[IDS[row], labels[NAMES[row]]] for row in KNOWN])
    return tmp_path


@pytest.fixture
def run(files: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def command(verb: str, *args: str, labeled: str | None = "labeled.csv") -> tuple[int, dict[str, Any], str]:
        known = ["--labeled", labeled] if labeled else []
        code = main([verb, "--vectors", "vectors.parquet", *known, *args])
        out, err = capsys.readouterr()
        return code, json.loads(out) if "--json" in args and out else {}, out if "--json" not in args else err

    return command


def write_table(path: Path, columns: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def table(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_filter_by_share(run: Run) -> None:
    code, summary, _ = run("filter", "--discard", "0.5", "-o", "decisions.csv", "--json")
    rows = table("decisions.csv")
    assert code == exit_codes.DONE
    assert list(rows[0]) == ["image", "decision", "farther_than_other", "Other", "cat", "dog"]
    assert [row["image"] for row in rows] == [image for n, image in enumerate(IDS) if n not in KNOWN]
    decisions = [row["decision"] for row in rows]
    assert (summary["images"], summary["kept"], summary["discarded"]) == (104, 52, 52)
    assert (decisions.count("keep"), decisions.count("discard")) == (52, 52)
    for row in rows:
        farther = sum(float(row[name]) > float(row["Other"]) for name in ("cat", "dog"))
        assert int(row["farther_than_other"]) == farther


def test_filter_by_loss_and_to_stdout(run: Run) -> None:
    code, _, out = run("filter", "--max-loss", "0.2")
    assert code == exit_codes.DONE
    assert out.splitlines()[0] == "image,decision,farther_than_other,Other,cat,dog"
    assert len(out.splitlines()) == 105


def test_filter_with_an_audit_of_the_discarded(run: Run) -> None:
    code, summary, err = run(
        "filter", "--discard", "0.5", "--audit", "12", "--audit-out", "audit.csv", "-o", "decisions.csv", "--json"
    )
    assert code == exit_codes.DONE
    drawn = [row["image"] for row in table("audit.csv")]
    discarded = {row["image"] for row in table("decisions.csv") if row["decision"] == "discard"}
    assert (len(set(drawn)), set(drawn) <= discarded, summary["audit"]) == (12, True, drawn)
    assert 0.1 < summary["audit_bound"] < 0.3
    assert "12 of 52 discarded images were drawn, listed in audit.csv" in err
    assert "if none of the 12 is wanted" in err


def test_zero_vectors_come_out_undecided(run: Run) -> None:
    matrix = MATRIX.copy()
    matrix[[50, 51]] = 0.0
    write_vectors("vectors.parquet", VectorSet(IDS, matrix, "m1"))
    code, summary, _ = run("filter", "--discard", "0.5", "-o", "decisions.jsonl", "--json")
    rows = [json.loads(line) for line in Path("decisions.jsonl").read_text().splitlines()]
    undecided = [row for row in rows if row["decision"] == "undecided"]
    assert (code, summary["undecided"], len(rows)) == (exit_codes.PARTIAL, 2, 104)
    assert [row["image"] for row in undecided] == [IDS[50], IDS[51]]
    assert undecided[0]["farther_than_other"] is None
    assert undecided[0]["cat"] is None
    assert any("undecided" in warning for warning in summary["warnings"])
    # The original keeps them: a comparison with NaN does not hold.
    code, summary, _ = run("filter", "--compat", "-o", "decisions.csv", "--json")
    assert (code, summary["undecided"]) == (exit_codes.DONE, 0)
    assert {row["decision"] for row in table("decisions.csv") if row["image"] in (IDS[50], IDS[51])} == {"keep"}


@pytest.mark.parametrize("case", golden_cases("selection_compat"))
def test_compat_reproduces_the_original(case: dict[str, Any], run: Run) -> None:
    names = case["labelled_names"]
    pool = [f"u{row:03d}.jpg" for row in range(len(case["unlabelled"]))]
    write_vectors(
        "vectors.parquet", VectorSet([*names, *pool], np.array(case["labelled"] + case["unlabelled"], np.float32))
    )
    rows = [[name, "|".join(labels)] for name, labels in zip(names, case["labels"], strict=True)]
    write_table(Path("labeled.csv"), ["image", "label"], rows)
    params, expected = case["params"], case["expected"]
    options = ["--min-discard", str(params["min_proportion_to_discard"]), "--other-label", params["other_label"]]
    code, summary, err = run("filter", "--compat", *options, "-o", "decisions.csv", "--json")
    if "error" in expected:
        assert (code, "OTHER_LABEL_MISSING" in err) == (exit_codes.FAILED, True)
        return
    rows_out = table("decisions.csv")
    assert [row["image"] for row in rows_out] == pool
    for decision, key in (("discard", "discarded"), ("keep", "remaining")):
        assert [row["image"] for row in rows_out if row["decision"] == decision] == expected[key]
    if not pool:
        assert code == exit_codes.NOTHING
    elif not expected["discarded"] and not expected["remaining"]:
        # The original loses every image here: all rows are there, undecided, and the reason is said.
        assert (code, "NO_THRESHOLD" in err) == (exit_codes.FAILED, True)
        assert summary["undecided"] == len(pool)
        assert summary["threshold"] is None
    else:
        assert (code, summary["undecided"]) == (exit_codes.DONE, 0)
        assert [int(row["farther_than_other"] or 0) for row in rows_out] == [int(n) for n in expected["n_farther"]]


def test_select(run: Run) -> None:
    args = ["--strategy", "find-more", "--target", "cat", "--count", "10", "--json"]
    code, summary, _ = run("select", *args, "-o", "picks.csv")
    rows = table("picks.csv")
    assert code == exit_codes.DONE
    assert list(rows[0])[:8] == [
        "image", "rank", "score", "reason", "arm", "inclusion_probability", "pool_size", "round",
    ]  # fmt: skip
    assert (summary["strategy"], summary["picked"], summary["arms"]) == ("find-more", 10, {"main": 9, "control": 1})
    main_rows = [row for row in rows if row["arm"] == "main"]
    assert sum(NAMES[IDS.index(row["image"])] == "cat" for row in main_rows) >= 8
    assert all(row["reason"] for row in rows)
    assert {row["pool_size"] for row in rows} == {"104"}
    run("select", *args, "-o", "again.csv")
    assert table("again.csv") == rows
    run("select", *args, "--seed", "5", "-o", "other.csv")
    assert table("other.csv") != rows


def test_select_without_labels_covers(run: Run) -> None:
    code, summary, _ = run("select", "--count", "4", "--control", "0", "--json", labeled=None)
    assert (code, summary["strategy"], summary["picked"]) == (exit_codes.DONE, "cover", 4)
    assert "nothing is labeled" in summary["explanation"]


def test_select_with_groups_and_exclusions(run: Run) -> None:
    write_table(Path("groups.csv"), ["group", "image"], [["g1", image] for image in IDS[:20]])
    write_table(Path("away.csv"), ["image"], [[image] for image in IDS[40:60]])
    options = ["--groups", "groups.csv", "--exclude", "away.csv", "--control", "0", "--target", "cat", "--count", "8"]
    code, summary, _ = run("select", *options, "-o", "picks.csv", "--json")
    rows = table("picks.csv")
    assert (code, summary["scanned"]) == (exit_codes.DONE, 104 - 14)
    assert [row["group"] for row in rows].count("g1") == 1
    assert not {row["image"] for row in rows} & set(IDS[40:60])


def test_labels_without_vectors_are_listed(run: Run) -> None:
    with Path("labeled.csv").open("a") as file:
        file.write("gone.jpg,cat\n")
    _, summary, _ = run("select", "--target", "cat", "--count", "5", "--json")
    assert summary["unknown"] == ["gone.jpg"]
    assert summary["warnings"]


def test_nothing_to_do(run: Run) -> None:
    write_table(Path("all.csv"), ["image", "label"], [[image, "cat"] for image in IDS])
    code, summary, _ = run("select", "--target", "cat", "--count", "5", "--json", "-o", "picks.csv", labeled="all.csv")
    assert (code, summary["picked"], table("picks.csv")) == (exit_codes.NOTHING, 0, [])
    code, summary, _ = run("filter", "--discard", "0.5", "--json", "-o", "decisions.csv", labeled="all.csv")
    assert (code, summary["images"], table("decisions.csv")) == (exit_codes.NOTHING, 0, [])


@pytest.mark.parametrize(
    "args",
    [
        ["filter"],
        ["filter", "--discard", "0.5", "--compat"],
        ["filter", "--discard", "1.5"],
        ["filter", "--discard", "0.5", "--min-discard", "0.1"],
        ["filter", "--discard", "0.5", "--target", "bird"],
        ["filter", "--discard", "0.5", "-o", "-", "--json"],
        ["filter", "--discard", "0.5", "--audit", "-1"],
        ["filter", "--discard", "0.5", "--audit-out", "audit.csv"],
        ["select"],
        ["select", "--count", "0"],
        ["select", "--count", "5", "--strategy", "magic"],
        ["select", "--count", "5", "--control", "2"],
        ["select", "--count", "5", "--exclude", "missing.csv"],
    ],
)
def test_what_cannot_work_is_a_usage_error(run: Run, args: list[str]) -> None:
    assert run(*args)[0] == exit_codes.USAGE
