# SPDX-License-Identifier: GPL-3.0-or-later
"""`gandt aggregate` on plain files, through the service that it starts in its own process."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from gandt.cli import exit_codes
from gandt.cli.main import main

HEADER = "image,worker,label"


def write(path: Path, *lines: str, header: str = HEADER) -> str:
    path.write_text("\n".join([header, *lines]) + "\n")
    return str(path)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, JSON summary (empty when none was printed) and stderr."""
    code = main(["aggregate", *arguments, "--project", str(tmp_path), "--json", "-o", str(tmp_path / "labels.csv")])
    printed = capsys.readouterr()
    return code, json.loads(printed.out) if printed.out else {}, printed.err


def crowd_lines() -> list[str]:
    lines = []
    for n in range(12):
        lines += [f"i{n}.jpg,w1,{'ab'[n % 2]}", f"i{n}.jpg,w2,{'ab'[n % 2]}", f"i{n}.jpg,bad,{'ba'[n % 2]}"]
    return lines


def test_labels_and_workers_come_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = write(tmp_path / "answers.csv", *crowd_lines(), "blank.jpg,w1,")
    workers, again = tmp_path / "workers.csv", tmp_path / "relabel.csv"
    code, summary, err = run(
        tmp_path, capsys, answers, "--workers-out", str(workers), "--relabel-out", str(again), "--method", "agreement"
    )
    assert code == exit_codes.DONE, err
    assert (summary["images"], summary["certain"], summary["unlabeled"]) == (13, 12, 1)
    assert (summary["unreliable_workers"], summary["unreliable_answers"], summary["abstentions"]) == (1, 12, 1)
    labels = rows(tmp_path / "labels.csv")
    assert list(labels[0]) == ["image", "label", "confidence", "status", "answers", "agreeing", "description"]
    assert labels[0] == {
        "image": "i0.jpg",
        "label": "a",
        "confidence": "1.0",
        "status": "certain",
        "answers": "2",
        "agreeing": "2",
        "description": "a (2 / 2)",
    }
    assert [row["image"] for row in labels] == [*(f"i{n}.jpg" for n in range(12)), "blank.jpg"]
    report = {row["worker"]: row for row in rows(workers)}
    assert list(report["bad"])[:7] == ["worker", "answers", "reliability", "low", "high", "gold_accuracy", "verdict"]
    assert {name: row["verdict"] for name, row in report.items()} == {
        "bad": "unreliable",
        "w1": "reliable",
        "w2": "reliable",
    }
    assert [row["image"] for row in rows(again)] == ["blank.jpg"]


def test_the_relabel_table_goes_into_a_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = "s3://photos/a.jpg"
    answers = write(
        tmp_path / "answers.csv", f"{uri},w,a", f"{uri},v,b", "s3://photos/b.jpg,w,a", "s3://photos/b.jpg,v,a"
    )
    again = tmp_path / "relabel.csv"
    code, summary, err = run(tmp_path, capsys, answers, "--relabel-out", str(again))
    assert (code, summary["certain"], summary["uncertain"]) == (exit_codes.DONE, 1, 1), err
    assert [row["image"] for row in rows(again)] == [uri]
    manifest = tmp_path / "input.manifest"
    assert main(["manifest", "--images", str(again), "--classes", "a,b", "-o", str(manifest)]) == exit_codes.DONE
    assert uri in manifest.read_text()


def test_compat_counts_as_the_original(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["j,1.jpg,w1,a", "j,1.jpg,w2,a", "j,1.jpg,bad,b", "j,2.jpg,w1,b", "j,2.jpg,w2,b", "j,2.jpg,bad,a"]
    answers = write(tmp_path / "answers.csv", *lines, "j,3.jpg,bad,a", "j,4.jpg,new,a", header=f"job,{HEADER}")
    workers = tmp_path / "workers.csv"
    code, summary, err = run(tmp_path, capsys, answers, "--compat", "--workers-out", str(workers))
    assert code == exit_codes.PARTIAL
    assert (summary["method"], summary["unlabeled"]) == ("compat", 2)
    assert "loses" in err
    labels = rows(tmp_path / "labels.csv")
    assert [(r["image"], r["label"], r["status"], r["description"], r["job"]) for r in labels] == [
        ("1.jpg", "a", "certain", "a (2 / 2)", "j"),
        ("2.jpg", "b", "certain", "b (2 / 2)", "j"),
        ("3.jpg", "", "unlabeled", "", "j"),
        ("4.jpg", "", "unlabeled", "", "j"),
    ]
    report = {row["worker"]: (row["reliability"], row["verdict"]) for row in rows(workers)}
    assert report == {
        "bad": ("0.0", "unreliable"),
        "new": ("", "unknown"),
        "w1": ("1.0", "reliable"),
        "w2": ("1.0", "reliable"),
    }


@pytest.mark.parametrize(
    ("lines", "flags", "reason"),
    [
        (["i,w,a", "i,v,b"], [], "NOBODY_CERTAIN"),
        (["i,w,", "j,w,a", "j,v,a"], [], "ONLY_EMPTY_ANSWERS"),
        (["i,w,a", "i,v,a"], ["--reliability-threshold", "1"], "EVERYONE_UNRELIABLE"),
        (["i,w,a", "i,v,a"], ["--include-previous"], "NO_PREVIOUS_ANSWERS"),
        ([], [], "NO_ANSWERS"),
    ],
)
def test_where_the_original_crashes_compat_fails_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: list[str], flags: list[str], reason: str
) -> None:
    answers = write(tmp_path / "answers.csv", *lines)
    code, summary, err = run(tmp_path, capsys, answers, "--compat", *flags)
    assert code == exit_codes.FAILED
    assert not summary
    assert reason in err
    assert not (tmp_path / "labels.csv").exists()


def test_an_empty_answer_and_a_repeated_label_count_in_compat(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = write(tmp_path / "answers.csv", "i,w1,", "i,w2,", "i,w3,a", "i,w4,a", "j,w3,a|a")
    code, _, err = run(tmp_path, capsys, answers, "--compat")
    assert code == exit_codes.DONE, err
    assert [(r["image"], r["status"], r["answers"], r["agreeing"]) for r in rows(tmp_path / "labels.csv")] == [
        ("i", "uncertain", "1", "1"),  # only w3 was ever measured; the others are dropped
        ("j", "certain", "1", "2"),
    ]


def test_previous_answers_measure_and_label_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = write(tmp_path / "new.csv", "9.jpg,bad,a", "9.jpg,w1,b", "9.jpg,w2,b")
    earlier = write(tmp_path / "old.csv", *crowd_lines())
    for flags in (["--method", "agreement"], ["--compat"]):
        code, summary, err = run(tmp_path, capsys, answers, "--previous", earlier, *flags)
        assert code == exit_codes.DONE, err
        label = rows(tmp_path / "labels.csv")
        assert [(r["image"], r["label"], r["answers"]) for r in label] == [("9.jpg", "b", "2")]
        code, summary, err = run(tmp_path, capsys, answers, "--previous", earlier, "--include-previous", *flags)
        assert (code, summary["images"]) == (exit_codes.DONE, 13), err


def test_crowd_kits_columns_gold_and_several_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = tmp_path / "answers.jsonl"
    records = [("1", "w", ["a", "b"]), ("1", "v", ["a", "b"]), ("2", "w", []), ("2", "v", [])]
    answers.write_text("".join(json.dumps({"task": t, "worker": w, "label": x}) + "\n" for t, w, x in records))
    gold = write(tmp_path / "gold.csv", "2,", header="image,label")
    workers = tmp_path / "workers.csv"
    code, summary, err = run(
        tmp_path, capsys, str(answers), "--multilabel", "--gold", gold, "--workers-out", str(workers)
    )
    assert code == exit_codes.DONE, err
    assert summary["method"] == "two-coin"
    labels = rows(tmp_path / "labels.csv")
    assert [(r["image"], r["label"], r["status"]) for r in labels] == [("1", "a|b", "certain"), ("2", "", "certain")]
    assert {row["gold_accuracy"] for row in rows(workers)} == {"1.0"}


def test_bad_input_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = [
        (write(tmp_path / "a.csv", "i,a", header="image,label"), [], "COLUMN_MISSING"),
        (write(tmp_path / "b.csv", "i,w,a", ",w,a"), [], "line 3"),
        (write(tmp_path / "c.csv", "i,w,a|b"), [], "SEVERAL_LABELS"),
        (write(tmp_path / "d.csv", "i,w,a"), ["--method", "majorty"], "did you mean majority?"),
        (str(tmp_path / "none.csv"), [], "FILE_NOT_FOUND"),
        (write(tmp_path / "e.csv", "i,w,a"), ["--min-proportion", "2"], "min_proportion is 2"),
        (write(tmp_path / "f.csv", "i,w,a"), ["--compat", "--method", "majority"], "--compat"),
        (write(tmp_path / "g.csv", "i,w,a"), ["--include-previous"], "--previous"),
        (write(tmp_path / "h.csv", "i,w,a", "i,w,b"), ["--duplicates", "error"], "more than once"),
    ]
    for path, flags, text in cases:
        code, _, err = run(tmp_path, capsys, path, *flags)
        assert code == exit_codes.USAGE, (path, err)
        assert text in err


def test_a_label_outside_the_classes_is_listed_and_the_rest_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = write(tmp_path / "answers.csv", "i,w,a", "i,v,a", "i,u,x", "j,u,x")
    code, summary, err = run(tmp_path, capsys, answers, "--classes", "a,b")
    assert (code, summary["certain"], summary["unlabeled"]) == (exit_codes.PARTIAL, 1, 1)
    assert "'x' of worker u for image i" in err


def test_no_answers_is_nothing_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, summary, _ = run(tmp_path, capsys, write(tmp_path / "answers.csv"))
    assert (code, summary["images"]) == (exit_codes.NOTHING, 0)


def test_labels_go_to_stdout_without_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = write(tmp_path / "answers.csv", "i,w,a", "i,v,a")
    assert main(["aggregate", answers, "--project", str(tmp_path), "--method", "majority"]) == exit_codes.DONE
    assert capsys.readouterr().out.splitlines() == [
        "image,label,confidence,status,answers,agreeing",
        "i,a,1.0,certain,2,2",
    ]
