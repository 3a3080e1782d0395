# SPDX-License-Identifier: GPL-3.0-or-later
"""`gandt manifest` and `gandt answers` on plain files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from gandt.adapters.local_files import LocalFiles
from gandt.cli.main import main
from gandt.domain.labeling.manifest import prepare_manifest_compat

TILES = [
    {"id": "a", "event_names": ["x", "y"], "other_category_label": "Other", "source-ref": "s3://b/p/1.jpg", "index": 0},
    {"id": "b", "source-ref": "s3://b/q/1.jpg", "index": 1},
]
TREE = "job-a/annotations/consolidated-annotation/consolidation-request/iteration-1"


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def images(folder: Path, count: int, columns: str = "image") -> str:
    path = folder / "images.csv"
    rows = [f"s3://b/{i}.jpg" + (f",img-{i}" if "," in columns else "") for i in range(count)]
    path.write_text("\n".join([columns, *rows]) + "\n")
    return str(path)


def batch(*annotations: tuple[str, Any], tiles: Any = None) -> str:
    listed = [
        {
            "workerId": worker,
            "annotationData": {"content": content if isinstance(content, str) else json.dumps(content)},
        }
        for worker, content in annotations
    ]
    content = json.dumps(TILES if tiles is None else tiles)
    return json.dumps([{"datasetObjectId": "0", "dataObject": {"content": content}, "annotations": listed}])


@pytest.fixture
def job(tmp_path: Path) -> Path:
    folder = tmp_path / TREE
    folder.mkdir(parents=True)
    good = {"labels-0": '["x"]', "labels-1": "[]"}
    (folder / "2026-11-23_16_40_12.json").write_text(batch(("w1", good), ("w2", {"labels-0": '["x", "y"]'})))
    return tmp_path


def test_manifest_in_both_forms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed, output = images(tmp_path, 45), tmp_path / "input.manifest"
    common = ["manifest", "--images", listed, "--classes", "cat,dog", "--positive-examples", "s3://b/yes.jpg"]
    assert main([*common, "-o", str(output), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["images"], summary["pages"]) == (45, 3)
    first = json.loads(json.loads(output.read_text().splitlines()[0])["source"])
    assert first[0]["positive_examples"] == ["s3://b/yes.jpg"]
    assert [tile["index"] for tile in first] == list(range(0, 45, 3))
    assert main([*common, "--compat", "--group-size", "10", "--other-label", "None", "-o", str(output)]) == 0
    expected = prepare_manifest_compat(
        [f"s3://b/{i}.jpg" for i in range(45)], ["s3://b/yes.jpg"], [], ["cat", "dog"], "None", 10
    )
    assert output.read_text() == "".join(line + "\n" for line in expected)


def test_manifest_ids_repeats_and_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.manifest"

    def run(listed: str, *more: str) -> int:
        return main(["manifest", "--images", listed, "--classes", "cat,dog", "-o", str(output), *more])

    assert run(images(tmp_path, 3, "uri,image")) == 0
    assert json.loads(json.loads(output.read_text())["source"])[2]["id"] == "img-2"
    table_path = tmp_path / "twice.csv"
    table_path.write_text("image\ns3://b/1.jpg\ns3://b/1.jpg\n")
    assert run(str(table_path)) == 0
    assert "1 repeated images are left out" in capsys.readouterr().err
    table_path.write_text("image\n")
    assert run(str(table_path)) == 3
    assert run(str(table_path), "--compat") == 0
    assert output.read_bytes() == b""
    table_path.write_text("image\nphotos/1.jpg\n")
    assert run(str(table_path)) == 2
    assert "line 2" in capsys.readouterr().err
    assert run(images(tmp_path, 900), "--group-size", "900") == 2
    assert "group size of at most" in capsys.readouterr().err
    assert run(images(tmp_path, 1), "--classes", "cat,Cat") == 2


def test_answers_of_a_folder(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = job / "answers.csv"
    assert main(["answers", str(job / "job-a"), "-o", str(output), "--json"]) == 0
    assert [(row["image"], row["worker"], row["label"], row["job"], row["state"]) for row in table(output)] == [
        ("a", "w1", "x", "job-a", "answered"),
        ("b", "w1", "", "job-a", "blank"),
        ("a", "w2", "x|y", "job-a", "answered"),
    ]
    summary = json.loads(capsys.readouterr().out)
    assert (summary["answers"], summary["images"], summary["workers"], summary["blank"]) == (3, 2, 2, 1)
    assert main(["answers", str(job / TREE / "2026-11-23_16_40_12.json")]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("image,worker,label,job,page,time,seconds,state")


def test_quarantined_answers_are_listed(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (job / TREE / "b.json").write_text(batch(("w3", "{bad\x1b[31m"), ("w4", {"labels-1": '["y"]'})))
    output = job / "answers.csv"
    assert main(["answers", str(job), "-o", str(output)]) == 4
    said = capsys.readouterr().err
    assert "quarantined, not_json: job job-a, object 0, worker w3" in said
    assert "\x1b" not in said
    assert ("b", "w4") in [(row["image"], row["worker"]) for row in table(output)]


def test_a_form_beside_the_batch_is_found_by_the_end_of_its_key(job: Path) -> None:
    folder = job / "job-a/annotations/worker-data"
    folder.mkdir()
    (folder / "w5.json").write_text('{"labels-0": "[\\"y\\"]"}')
    annotation = {"workerId": "w5", "annotationData": {"s3Uri": "s3://out/x/job-a/annotations/worker-data/w5.json"}}
    item = {"datasetObjectId": "0", "dataObject": {"content": json.dumps(TILES)}, "annotations": [annotation]}
    (job / TREE / "c.json").write_text(json.dumps([item]))
    output = job / "answers.csv"
    assert main(["answers", str(job), "-o", str(output)]) == 0
    assert ("a", "w5", "y") in [(row["image"], row["worker"], row["label"]) for row in table(output)]


def test_compat_rows_are_the_originals(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = job / "answers.csv"
    assert main(["answers", str(job), "--compat", "-o", str(output)]) == 0
    rows = table(output)
    assert [(row["image"], row["worker"], row["label"], row["state"]) for row in rows] == [
        ("1.jpg", "w1", "x", "answered"),
        ("1.jpg", "w1", "", "answered"),
        ("1.jpg", "w2", "x|y", "answered"),
    ]
    assert rows[0]["labels_fname"] == f"{job}/{TREE}/2026-11-23_16_40_12.json"
    assert (rows[0]["labelling_job_name"], rows[2]["labels"], rows[1]["image_index"]) == ("job-a", '["x", "y"]', "1")
    (job / TREE / "b.json").write_text(batch(("w3", {"comment": "hi"})))
    assert main(["answers", str(job), "--compat", "-o", str(output)]) == 1
    assert "COMPAT_FAILED" in capsys.readouterr().err


def test_answers_in_the_projects_own_store(tmp_path: Path, job: Path) -> None:
    store = LocalFiles(tmp_path / ".gandt" / "objects")
    store.put(f"s3://gandt/out/{TREE}/2026-11-23_16:40:12.json", batch(("w1", {"labels-0": '["x"]'})).encode())
    output = tmp_path / "answers.csv"
    assert main(["answers", "s3://gandt/out/job-a", "--project", str(tmp_path), "-o", str(output)]) == 0
    assert len(table(output)) == 1


def test_answers_that_are_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert main(["answers", "none"]) == 2
    assert main(["answers", "empty"]) == 2
    error = capsys.readouterr().err
    assert "no Ground Truth answers at empty\n" in error
    assert "annotations/" in error  # the next step
    assert main(["answers", str(tmp_path), "--compat"]) == 2
    empty = tmp_path / "empty.json"
    empty.write_text("[]")
    assert main(["answers", str(empty), "-o", str(tmp_path / "a.csv")]) == 3
    assert main(["answers", str(empty), "--json"]) == 2
