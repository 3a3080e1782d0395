# SPDX-License-Identifier: GPL-3.0-or-later
"""`gandt aggregate` on files: states, audits, random gold, an image model, times, plans, Ground Truth folders."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gandt.cli import aggregate_calls, exit_codes
from gandt.cli.context import Context
from gandt.cli.main import main
from gandt.client.aggregation import AggregateResult
from gandt.domain.aggregation.records import AggregateSpec
from gandt.domain.aggregation.state import MAGIC
from gandt.tables.formats import WORKER_COLUMNS, WORKER_ESTIMATES
from tests.service.test_cli_aggregate import HEADER, rows, run, write
from tests.unit.aggregation.builders import crowd

CLASSES = "c0,c1,c2"


def planted(images: int = 300, each: int = 5) -> tuple[list[str], dict[str, str]]:
    """Lines of an answers table, and the truth."""
    given, truth = crowd(images, 3, each, 1)
    return [",".join(row) for row in given], truth


def test_only_the_new_answers_come_and_the_state_has_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, _ = planted()
    state = tmp_path / "answers.state"
    flags = ("--method", "blend", "--classes", CLASSES)
    whole = write(tmp_path / "all.csv", *lines)
    code, _, err = run(tmp_path, capsys, whole, *flags)
    assert code == exit_codes.DONE, err
    full = {row["image"]: row for row in rows(tmp_path / "labels.csv")}
    for part, kept in ((lines[:-20], len(lines) - 20), (lines[-20:], len(lines))):
        answers = write(tmp_path / "part.csv", *part)
        code, summary, err = run(tmp_path, capsys, answers, "--state", str(state), *flags)
        assert (code, summary["answers"]) == (exit_codes.DONE, kept), err
    assert "from the state on by 20 votes" in summary["explanation"]
    found = {row["image"]: row for row in rows(tmp_path / "labels.csv")}
    assert {name: row["label"] for name, row in found.items()} == {name: row["label"] for name, row in full.items()}
    near = [abs(float(found[name]["confidence"]) - float(row["confidence"])) <= 0.01 for name, row in full.items()]
    assert np.mean(near) >= 0.99

    code, _, err = run(tmp_path, capsys, whole, "--state", str(state), "--method", "one-coin", "--classes", CLASSES)
    assert code == exit_codes.USAGE
    assert "STATE_MISMATCH" in err
    before = state.read_bytes()
    state.write_bytes(MAGIC + b"\x07\x00" + before[6:])
    code, _, err = run(tmp_path, capsys, whole, "--state", str(state), *flags)
    assert code == exit_codes.USAGE
    assert "the state has version 7, this service reads 2" in err
    assert state.read_bytes()[4] == 7  # a call that fails leaves it as it was
    code, _, err = run(tmp_path, capsys, whole, "--state", whole, *flags)
    assert "OUTPUT_IS_INPUT" in err


def test_an_audit_from_the_price_to_the_bound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, truth = planted(600, 7)
    answers, sample = write(tmp_path / "answers.csv", *lines), tmp_path / "sample.csv"
    code, summary, err = run(tmp_path, capsys, answers, "--audit-out", str(sample), "--seed", "3")
    assert code == exit_codes.DONE, err
    price = "error <= 5 % at 95 %: 73 images if none is wrong, 243 if 2 % are"
    assert err.index(price) < err.index("certain labels are wrong (model estimate, not a bound)")
    drawn = rows(sample)
    assert list(drawn[0]) == ["image", "place"]
    assert len(drawn) == 243
    assert summary["estimated_error_is"] == "model estimate, not a bound"
    labels = {row["image"]: row["label"] for row in rows(tmp_path / "labels.csv")}
    judged = write(
        tmp_path / "judged.csv", *(f"{row['image']},{truth[row['image']]}" for row in drawn), header="image,label"
    )
    code, summary, err = run(tmp_path, capsys, answers, "--audit", judged, "--seed", "3")
    assert code == exit_codes.DONE, err
    wrong = sum(labels[row["image"]] != truth[row["image"]] for row in drawn)
    assert (summary["audit"]["judged"], summary["audit"]["wrong"]) == (243, wrong)
    assert summary["audit"]["error_bound"] > wrong / 243
    assert f"audit: {wrong} of 243 judged labels are wrong; at most" in err
    code, _, err = run(tmp_path, capsys, answers, "--audit-size", "9")
    assert (code, "--audit-out" in err) == (exit_codes.USAGE, True)


def test_gold_says_whether_it_was_drawn_at_random(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, truth = planted(400)
    answers = write(tmp_path / "answers.csv", *lines)
    known = list(truth.items())[:320]
    for column, drawn in (("yes", True), ("no", False)):
        gold = write(tmp_path / "gold.csv", *(f"{i},{c},{column}" for i, c in known), header="image,label,random")
        code, summary, err = run(tmp_path, capsys, answers, "--gold", gold)
        assert code == exit_codes.DONE, err
        found = summary["calibration"]
        assert (found["images"], found["drawn_at_random"], found["error"]) == (320, drawn, None)
        assert (found["temperature"] is not None) == drawn
        assert f"Brier score {found['brier']:.4f}" in err
        assert ("picked by hand" in err) != drawn
    gold = write(tmp_path / "gold.csv", "i0001,c0,perhaps", header="image,label,random")
    code, _, err = run(tmp_path, capsys, answers, "--gold", gold)
    assert (code, "line 2: random is 'perhaps'" in err) == (exit_codes.USAGE, True)


def test_an_image_model_and_times_in_the_table_of_workers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, truth = planted(200)
    timed = [f"{line},{0.1 if ',w03,' in line else 3 + n % 3}" for n, line in enumerate(lines)]
    answers = write(tmp_path / "answers.csv", *timed, header=f"{HEADER},seconds")
    workers = tmp_path / "workers.csv"
    columns = {"image": list(truth), **{c: [float(c == label) for label in truth.values()] for c in CLASSES.split(",")}}
    pq.write_table(pa.table(columns), tmp_path / "model.parquet")
    says = write(
        tmp_path / "model.csv",
        *(f"{i},{','.join(str(float(c == label)) for c in CLASSES.split(','))}" for i, label in truth.items()),
        "elsewhere,,,",
        header=f"image,{CLASSES}",
    )
    found = []
    for path in (says, str(tmp_path / "model.parquet")):
        code, summary, err = run(
            tmp_path, capsys, answers, "--model-probabilities", path, "--workers-out", str(workers), "--method", "blend"
        )
        assert code == exit_codes.DONE, err
        found.append(rows(workers))
        assert summary["workers"] == len(found[-1]) - 1
    assert found[0] == found[1]
    table = {row["worker"]: row for row in found[0]}
    gold = ("gold_answers", "gold_low", "gold_high")
    assert list(found[0][0]) == [*WORKER_COLUMNS, *gold, *WORKER_ESTIMATES]
    assert float(table["image model"]["estimated_accuracy"]) > 0.9
    assert table["image model"]["too_fast_share"] == ""
    assert table["w03"]["too_fast_share"] == "1.0"
    assert {row["too_fast_share"] for name, row in table.items() if name not in ("w03", "image model")} == {"0.0"}
    w = max((row for row in found[0]), key=lambda row: int(row["answers"]))
    assert float(w["estimated_low"]) <= float(w["estimated_accuracy"]) <= float(w["estimated_high"])
    broken = write(tmp_path / "broken.csv", "i0001,0.5,,0.5", header=f"image,{CLASSES}")
    code, _, err = run(tmp_path, capsys, answers, "--model-probabilities", broken)
    assert (code, "line 2: column 'c1' is empty" in err) == (exit_codes.USAGE, True)


def test_a_plan_for_a_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, _ = planted(200, 3)
    answers, again = write(tmp_path / "answers.csv", *lines), tmp_path / "again.csv"
    flags = ("--plan-out", str(again), "--answer-budget", "60", "--explore-share", "0.05", "--max-answers", "6")
    code, summary, err = run(tmp_path, capsys, answers, *flags)
    assert code == exit_codes.DONE, err
    planned = rows(again)
    assert list(planned[0]) == ["image", "answers_needed", "confidence", "reason"]
    assert sum(int(row["answers_needed"]) for row in planned) == summary["plan"]["answers"] <= 60
    assert summary["plan"]["accuracy_now"] < summary["plan"]["accuracy_after"]
    assert "expected accuracy" in err
    assert "after (model estimate, not a bound)" in err
    state = str(tmp_path / "a.state")
    code, other, err = run(tmp_path, capsys, answers, *flags, "--state", state)
    assert code == exit_codes.DONE, err
    assert other["plan"]["answers"] == summary["plan"]["answers"]
    for bad in (("--answer-budget", "-1"), ("--explore-share", "2")):
        code, _, err = run(tmp_path, capsys, answers, "--plan-out", str(again), *bad)
        assert code == exit_codes.USAGE, err
    assert main(["aggregate", "-", "--project", str(tmp_path), "--plan-out", str(again)]) == exit_codes.USAGE


def test_a_folder_of_ground_truth_output_is_read_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiles = [{"index": n, "source-ref": f"s3://b/p/{n}.jpg"} for n in (1, 2)]
    said = [{"labels-1": '["x"]', "labels-2": '["y"]'}, {"labels-1": '["x"]', "labels-2": '["y"]'}]
    batch = [
        {
            "datasetObjectId": "0",
            "dataObject": {"content": json.dumps(tiles)},
            "annotations": [
                {"workerId": f"w{n}", "annotationData": {"content": json.dumps(form)}} for n, form in enumerate(said)
            ],
        }
    ]
    place = tmp_path / "job" / "annotations" / "consolidated-annotation" / "consolidation-request" / "iteration-1"
    place.mkdir(parents=True)
    (place / "x.json").write_text(json.dumps(batch))
    code, summary, err = run(tmp_path, capsys, str(tmp_path / "job"))
    assert (code, summary["certain"]) == (exit_codes.DONE, 2), err
    assert [row["label"] for row in rows(tmp_path / "labels.csv")] == ["x", "y"]


def test_a_state_that_another_call_wrote_or_that_is_empty_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, _ = planted(40, 3)
    state, other = tmp_path / "a.state", write(tmp_path / "other.csv", *lines[:60])
    mine = write(tmp_path / "mine.csv", *lines[60:])
    kept = aggregate_calls._aggregated

    def meanwhile(args: argparse.Namespace, ctx: Context, spec: AggregateSpec) -> AggregateResult:
        result = kept(args, ctx, spec)
        state.write_bytes(kept(argparse.Namespace(**{**vars(args), "answers": other}), ctx, spec).summary.state)
        return result

    monkeypatch.setattr(aggregate_calls, "_aggregated", meanwhile)
    code, _, err = run(tmp_path, capsys, mine, "--state", str(state))
    assert code != exit_codes.DONE
    assert "STATE_CHANGED" in err
    assert "run the same command again" in err
    monkeypatch.setattr(aggregate_calls, "_aggregated", kept)
    code, summary, err = run(tmp_path, capsys, mine, "--state", str(state))
    assert (code, summary["answers"]) == (exit_codes.DONE, len(lines)), err
    for damaged, reason in ((b"", "is empty"), (state.read_bytes()[:400], f"{state}: the state is damaged")):
        state.write_bytes(damaged)
        code, _, err = run(tmp_path, capsys, mine, "--state", str(state))
        assert (code, reason in err) == (exit_codes.USAGE, True), err
        assert state.read_bytes() == damaged


def test_rows_that_the_expert_left_empty_are_not_judged_and_misspelled_ones_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, _ = planted(60, 5)
    answers, sample = write(tmp_path / "answers.csv", *lines), tmp_path / "sample.csv"
    code, _, err = run(tmp_path, capsys, answers, "--audit-out", str(sample), "--plan-out", str(tmp_path / "p.csv"))
    assert code == exit_codes.DONE, err
    assert err.count("an audit's price") == 1
    labels = {row["image"]: row["label"] for row in rows(tmp_path / "labels.csv")}
    drawn = [row["image"] for row in rows(sample)]
    filled = [f"{image},{labels[image] if n < 20 else ''}" for n, image in enumerate(drawn)]
    _, summary, err = run(
        tmp_path, capsys, answers, "--audit", write(tmp_path / "judged.csv", *filled, header="image,label")
    )
    assert (summary["audit"]["judged"], summary["audit"]["wrong"]) == (20, 0), err
    shouted = write(tmp_path / "judged.csv", f"{drawn[0]},C0", header="image,label")
    _, summary, err = run(tmp_path, capsys, answers, "--audit", shouted)
    assert "1 judgment with a label that no class has, the first 'C0'" in err
    assert summary["audit"]["wrong"] == 1


def test_gold_and_a_model_of_other_images_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, _ = planted(30, 3)
    answers = write(tmp_path / "answers.csv", *lines)
    gold = write(tmp_path / "gold.csv", "x/i0001,c0", "x/i0002,c1", header="image,label")
    model = write(tmp_path / "model.csv", "x/i0001,0,0,1", header=f"image,{CLASSES}")
    code, _, err = run(tmp_path, capsys, answers, "--gold", gold, "--model-probabilities", model)
    assert code == exit_codes.DONE
    assert "none of 2 gold images has an answer, the first x/i0001" in err
    assert "none of 1 image of the image model has an answer, the first x/i0001" in err
    gold = write(tmp_path / "gold.csv", "i0001,Hat", "i0002,Hat", header="image,label")
    code, _, err = run(tmp_path, capsys, answers, "--gold", gold, "--classes", CLASSES)
    assert code == exit_codes.PARTIAL
    assert err.count("not among the classes") == 1
    assert "and 1 more such gold image" in err
    for row, text in (("i0001,1,0,0", "of image i0001"), ("i0002,3,0,0", "(image i0002)")):
        model = write(tmp_path / "model.csv", "i0001,0,0,1", row, header=f"image,{CLASSES}")
        code, _, err = run(tmp_path, capsys, answers, "--model-probabilities", model)
        assert (code, text in err) == (exit_codes.USAGE, True), err


def test_a_plan_of_nothing_of_one_class_and_without_a_budget_is_plain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "again.csv"
    one = write(tmp_path / "one.csv", "i1,w1,a", "i1,w2,a", "i2,w1,a")
    code, summary, err = run(tmp_path, capsys, one, "--plan-out", str(again))
    assert (code, summary["plan"]["answers"]) == (exit_codes.DONE, 1), err
    assert [row["image"] for row in rows(again)] == ["i2"]
    code, summary, err = run(tmp_path, capsys, one, "--plan-out", str(again), "--answer-budget", "0")
    assert (code, summary["plan"]["answers"], rows(again)) == (exit_codes.DONE, 0, []), err
    code, summary, err = run(tmp_path, capsys, write(tmp_path / "none.csv"), "--plan-out", str(again))
    assert (code, summary["plan"]["accuracy_now"]) == (exit_codes.NOTHING, None), err
    assert "nan" not in err
    state = tmp_path / "a.state"
    code, _, err = run(tmp_path, capsys, one, "--plan-out", str(again), "--answer-budget", "-1", "--state", str(state))
    assert code == exit_codes.USAGE
    assert not state.exists()  # told before anything is done
