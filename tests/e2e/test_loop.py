# SPDX-License-Identifier: GPL-3.0-or-later
"""`gandt run` from a folder of images to the report, with simulated workers over the real HTTP path."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
from gandt_standalone import serve_file

from tests.e2e.under_fire import pictures
from tests.processes import gandt


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished campaign."""
    folder = tmp_path_factory.mktemp("loop")
    truth, known = pictures(folder / "photos", 100, 20, seed=5)
    for name, labels in (("truth.csv", truth), ("labeled.csv", known)):
        (folder / name).write_text("image,label\n" + "".join(f"{i},{label}\n" for i, label in labels.items()))
    done = gandt(*run_command(folder))
    assert done.returncode == 0, done.stderr
    (folder / "summary.json").write_text(done.stdout)
    return folder


def run_command(folder: Path) -> list[str]:
    return [
        "run", str(folder / "photos"), "--project", str(folder), "--classes", "three,other", "--target", "three",
        "--other-label", "other", "--seed-labels", str(folder / "labeled.csv"), "--truth", str(folder / "truth.csv"),
        "--budget", "30", "--price-per-page", "0.036", "--round-size", "20", "--max-rounds", "3", "--json",
    ]  # fmt: skip


def test_the_report_says_what_was_done(project: Path) -> None:
    summary = json.loads((project / "summary.json").read_text())
    figures = json.loads((project / "report.json").read_text())
    assert summary["labels_bought"] == figures["labels_bought"] == 60
    assert figures["targets_found"] >= 16
    assert figures["label_accuracy"] >= 0.85
    assert 0 < figures["cost_usd_micros"] <= 30_000_000
    page = (project / "report.html").read_text()
    assert "60 of 95 images were labeled by people" in page
    assert "data:image/jpeg;base64," in page
    assert "<script" not in page
    for chart in ("How many workers agree", "Who takes what for what", "How far confidence can be trusted"):
        assert f"<h2>{chart}</h2>" in page
    assert "answers on three said other" in page


def test_running_again_changes_nothing(project: Path) -> None:
    before = json.loads((project / "report.json").read_text())
    done = gandt(*run_command(project))
    assert done.returncode == 0, done.stderr
    after = json.loads((project / "report.json").read_text())
    for key in ("labels_bought", "answers_bought", "cost_usd_micros", "targets_found", "curve"):
        assert before[key] == after[key]


def test_the_project_can_be_asked(project: Path) -> None:
    status = gandt("status", "--project", str(project), "--json")
    assert status.returncode == 0, status.stderr
    state = json.loads(status.stdout)
    assert state["state"] == "completed"
    assert_the_bound_is_honest(project, state)
    workers = gandt("workers", "--project", str(project), "--json")
    people = json.loads(workers.stdout)["workers"]
    assert len(people) >= 3
    for person in people:
        assert person["estimated_low"] <= person["estimated_accuracy"] <= person["estimated_high"]
        assert 0 <= person["one_label_share"] <= 1
        assert 0 <= person["spammer_score"] <= 1
        assert 0 <= person["too_fast_share"] <= 1
    labels = project / "labels.csv"
    done = gandt("export", "--project", str(project), "-o", str(labels), "--include-uncertain")
    assert done.returncode == 0, done.stderr
    with labels.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 65  # the five seeds are part of the dataset
    assert {row["arm"] for row in rows} == {"main", "control", ""}
    assert all(row["image"].startswith("picture-") for row in rows)
    again = gandt("embed", "--project", str(project))
    assert again.returncode == 3, again.stderr


def test_certain_labels_are_audited(project: Path) -> None:
    sample, judged = project / "sample.csv", project / "judged.csv"
    drawn = gandt("review", "--project", str(project), "--audit-out", str(sample), "--audit-size", "12")
    assert drawn.returncode == 0, drawn.stderr
    assert "error <= 5 % at 95 %: 73 images if none is wrong, 243 if 2 % are" in drawn.stderr
    with sample.open(newline="") as stream:
        names = [row["image"] for row in csv.DictReader(stream)]
    with (project / "truth.csv").open(newline="") as stream:
        truth = {row["image"]: row["label"] for row in csv.DictReader(stream)}
    judged.write_text("image,label\n" + "".join(f"{name},{truth[name]}\n" for name in names))
    counted = gandt("review", "--project", str(project), "--audit", str(judged), "--json")
    assert counted.returncode == 0, counted.stderr
    audit = json.loads(counted.stdout)["audit"]
    assert audit["judged"] == len(names) == 12
    assert audit["wrong"] / 12 < audit["error_bound"] < 1


def assert_the_bound_is_honest(project: Path, state: dict[str, Any]) -> None:
    """Nobody asked for a proof: the end says what is proven all the same, no more than is true, everywhere the same."""
    proof = state["proof"]
    figures = json.loads((project / "report.json").read_text())
    assert figures["proof"] == proof
    assert (proof["control"], proof["phase"], proof["labels"]) == (6, "find", "consensus labels")
    assert 0 < proof["recall"] <= proof["found"] / 20
    assert proof["claim"] in state["message"]
    assert "all 3 rounds are done; with 90% confidence at least" in state["message"]
    page = (project / "report.html").read_text()
    assert "No proof was asked for" in page
    assert "The pool in two dimensions" in page
    assert page.count('<g class="wanted"') == 1
    assert "random choice, by the control draws" in page or "random choice, expected" in page


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A campaign that was to prove something, in rounds of two parts; its folder and what it said."""
    folder = tmp_path_factory.mktemp("proven")
    truth, known = pictures(folder / "photos", 120, 24, seed=5)
    for name, labels in (("truth.csv", truth), ("labeled.csv", known)):
        (folder / name).write_text("image,label\n" + "".join(f"{i},{label}\n" for i, label in labels.items()))
    (folder / "gandt.toml").write_text("[project]\ncontrol_fraction = 0.3\n")
    command = [word for word in run_command(folder) if word != "--json"]
    command[command.index("--max-rounds") + 1] = "0"
    done = gandt(*command, "--prove", "0.6", "--part-size", "10")
    assert done.returncode == 0, done.stderr
    return folder, done.stderr


def test_a_proof_that_was_asked_for_is_printed_everywhere(proven: tuple[Path, str]) -> None:
    folder, said = proven
    assert "a recall of 60% is proven; with 90% confidence at least" in said
    assert "not worth it: label all" in said  # so small a pool; it was asked for all the same
    state = json.loads(gandt("status", "--project", str(folder), "--json").stdout)
    figures = json.loads((folder / "report.json").read_text())
    assert figures["proof"] == state["proof"]
    assert state["proof"]["recall"] >= 0.6
    assert state["proof"]["found"] >= 0.6 * 24
    assert state["labeled"] < 115  # it ended before all was labeled
    page = (folder / "report.html").read_text()
    assert "60.0 %: proven" in page
    assert state["proof"]["claim"][1:] in page


def test_a_finished_project_is_replayed(proven: tuple[Path, str]) -> None:
    folder = proven[0]
    flags = ["--truth", str(folder / "truth.csv"), "--repetitions", "2", "--batch-size", "10", "--json"]
    names = ["--strategy", "find-more", "--strategy", "random"]
    replay = gandt("evaluate", "--project", str(folder), *flags, *names)
    assert replay.returncode == 0, replay.stderr
    rows = {row["strategy"]: row for row in json.loads(replay.stdout)["strategies"]}
    assert rows["find-more"]["ratio"] > 1.5
    assert rows["random"]["ratio"] == 1.0
    assert rows["find-more"]["curves"][0][1][-1] >= 15


def test_a_project_in_use_is_named(project: Path) -> None:
    from tests.processes import serving

    with serving(project):
        status = gandt("status", "--project", str(project), "--json")  # attaches to the server
        assert status.returncode == 0, status.stderr
        second = gandt("serve", "--project", str(project))
        assert second.returncode == 1
        assert "PROJECT_IN_USE" in second.stderr


def test_a_second_run_is_refused_before_it_writes(project: Path) -> None:
    with serve_file.project_lock(project):  # as the first one does
        before = (project / ".gandt" / "controller.db").read_bytes()
        for command in (run_command(project), ["ingest", str(project / "photos"), "--project", str(project)]):
            second = gandt(*command)
            assert second.returncode == 1, second.stderr
            assert "PROJECT_IN_USE" in second.stderr
            assert f"process {os.getpid()}" in second.stderr
        assert (project / ".gandt" / "controller.db").read_bytes() == before


def test_a_raised_limit_goes_on_and_other_settings_do_not(project: Path) -> None:
    command = [a if a != "3" else "4" for a in run_command(project)]  # --max-rounds 4
    done = gandt(*command)
    assert done.returncode == 0, done.stderr
    assert "goes on with the 60 labels that it has" in done.stderr
    assert json.loads(done.stdout)["labels_bought"] == 80
    other = gandt(*command, "--round-size", "10")
    assert other.returncode == 6, other.stderr
    assert "NEEDS_YES" in other.stderr
    assert "80 labels" in other.stderr


def test_a_budget_below_one_page_buys_nothing_and_says_so(tmp_path: Path) -> None:
    truth, known = pictures(tmp_path / "photos", 30, 10, seed=7)
    known["nowhere.png"] = "three"
    known["picture-001.png"] = "thee"
    for name, labels in (("truth.csv", truth), ("labeled.csv", known)):
        (tmp_path / name).write_text("image,label\n" + "".join(f"{i},{label}\n" for i, label in labels.items()))
    command = run_command(tmp_path)
    command[command.index("--budget") + 1] = "0.01"
    done = gandt(*command)
    assert done.returncode == 6, done.stderr
    assert "BUDGET_BELOW_ONE_PAGE" in done.stderr
    command[command.index("--budget") + 1] = "10"
    (tmp_path / "truth.csv").write_text("image,label\nelsewhere.png,three\n")
    done = gandt(*command)
    assert done.returncode == 2, done.stderr
    assert "'thee'" in done.stderr
    assert "NO_TRUTH" in done.stderr
