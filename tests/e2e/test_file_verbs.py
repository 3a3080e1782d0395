# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs on plain files, as a user's script runs them: every row that goes in comes out."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.e2e.under_fire import pictures
from tests.processes import gandt


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos, seeds and their vectors."""
    folder = tmp_path_factory.mktemp("files")
    _, known = pictures(folder / "photos", 40, 12, seed=1)
    lines = ["image,label", *(f"{name},{label}" for name, label in known.items())]
    (folder / "labeled.csv").write_text("\n".join(lines) + "\n")
    done = gandt("embed", str(folder / "photos"), "--model", "hog", "-o", str(folder / "vectors.parquet"), "--json")
    assert done.returncode == 0, done.stderr
    return folder


def test_select_dedupe_and_filter(work: Path) -> None:
    vectors, labeled = str(work / "vectors.parquet"), str(work / "labeled.csv")
    flags = ["--labeled", labeled, "--vectors", vectors]
    picks = gandt(
        "select", *flags, "--strategy", "find-more", "--target", "three", "--other-label", "other",
        "--count", "8", "--seed", "3", "-o", str(work / "picks.csv"), "--json",
    )  # fmt: skip
    assert picks.returncode == 0, picks.stderr
    assert json.loads(picks.stdout)["strategy"] == "find-more"
    picked = rows(work / "picks.csv")
    assert len(picked) == 8
    assert not {r["image"] for r in picked} & {r["image"] for r in rows(work / "labeled.csv")}
    groups = gandt("dedupe", "--vectors", vectors, "-o", str(work / "groups.csv"))
    assert groups.returncode == 0, groups.stderr
    assert len(rows(work / "groups.csv")) == 40
    for rule in (["--discard", "0.5"], ["--max-loss", "0.1"], ["--compat", "--min-discard", "0.1"]):
        done = gandt("filter", *flags, "--other-label", "other", *rule, "-o", str(work / "decisions.csv"))
        assert done.returncode in (0, 4), done.stderr
        decisions = rows(work / "decisions.csv")
        assert len(decisions) == 40 - 5
        assert {d["decision"] for d in decisions} <= {"keep", "discard", "undecided"}


def test_aggregate_both_ways(work: Path) -> None:
    (work / "answers.csv").write_text("image,worker,label\na,w1,x\na,w2,x\na,w3,y\nb,w1,y\nb,w2,\n")
    done = gandt(
        "aggregate", str(work / "answers.csv"), "--method", "majority", "-o", str(work / "labels.csv"),
        "--workers-out", str(work / "workers.csv"), "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 2
    labels = {r["image"]: r for r in rows(work / "labels.csv")}
    assert (labels["a"]["label"], labels["a"]["status"], labels["a"]["answers"]) == ("x", "certain", "3")
    assert labels["b"]["status"] == "uncertain"
    assert {r["worker"] for r in rows(work / "workers.csv")} == {"w1", "w2", "w3"}
    done = gandt("aggregate", str(work / "answers.csv"), "--compat", "-o", str(work / "compat.csv"))
    assert {r["image"] for r in rows(work / "compat.csv")} == {"a", "b"}
    done = gandt("plot", str(work / "labels.csv"), "-o", str(work / "majority.svg"))
    assert done.returncode == 0, done.stderr
    assert (work / "majority.svg").read_text().startswith("<svg")


def test_manifest_and_answers(work: Path) -> None:
    (work / "images.csv").write_text("uri\n" + "".join(f"s3://photos/{n}.jpg\n" for n in range(5)))
    manifest = work / "input.manifest"
    done = gandt(
        "manifest", "--images", str(work / "images.csv"), "--classes", "cat,dog", "--other-label", "Other",
        "--group-size", "3", "-o", str(manifest), "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert [len(json.loads(line["source"])) for line in lines] == [3, 2]
    content: dict[str, Any] = {"datasetObjectId": "0", "dataObject": {"content": lines[0]["source"]}, "annotations": []}
    tiles = json.loads(lines[0]["source"])
    answer = {f"labels-{tile['index']}": json.dumps(["cat"]) for tile in tiles}
    content["annotations"] = [
        {"workerId": "w1", "annotationData": {"content": json.dumps(answer)}},
        {"workerId": "w2", "annotationData": {"content": "not json"}},
    ]
    folder = work / "job-a/annotations/consolidated-annotation/consolidation-request/iteration-1"
    folder.mkdir(parents=True)
    (folder / "2026-01-01_00:00:00.json").write_text(json.dumps([content]))
    done = gandt("answers", str(work / "job-a"), "-o", str(work / "got.csv"), "--json")
    assert done.returncode == 4, done.stderr  # one answer is set aside, and said so
    assert [(r["worker"], r["label"]) for r in rows(work / "got.csv")] == [("w1", "cat")] * 3


def test_one_bad_image_does_not_stop_the_others(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    pictures(photos, 3, 1, seed=0)
    (photos / "empty.jpg").touch()
    (photos / "cut.png").write_bytes((photos / "picture-000.png").read_bytes()[:200])
    Image.new("CMYK", (40, 40), (10, 20, 30, 40)).save(photos / "print.jpg")
    Image.new("I;16", (40, 40), 30_000).save(photos / "deep.png")
    done = gandt("embed", str(photos), "--model", "hog", "-o", str(tmp_path / "v.parquet"), "--json")
    assert done.returncode == 4, done.stderr
    assert "empty.jpg" in done.stderr
    assert "cut.png" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["embed", "nowhere", "--model", "hog", "-o", "v.parquet"], 2, "nowhere"),
        (["embed", ".", "--model", "resnet5O", "-o", "v.parquet"], 2, "resnet50"),
        (
            ["embed", ".", "--model", "resnet18", "--weights", "none.safetensors", "-o", "v.parquet"],
            2,
            "none.safetensors",
        ),
        (["select", "--labeled", "l.csv", "--vectors", "no.parquet", "--count", "3", "-o", "p.csv"], 2, "no.parquet"),
        (["aggregate", "no.csv", "-o", "l.csv"], 2, "no.csv"),
        (["aggregate", "bad.csv", "-o", "l.csv"], 2, "did you mean"),
        (["manifest", "--images", "bad.csv", "--classes", "a", "-o", "m.manifest"], 2, "bad.csv"),
        (["status"], 1, "no gandt project"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, arguments: list[str], code: int, part: str) -> None:
    (tmp_path / "l.csv").write_text("image,label\na,x\n")
    (tmp_path / "bad.csv").write_text("imgae,worker,label\na,w,x\n")
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    here = [
        str(tmp_path / a)
        if (a.endswith((".csv", ".parquet", ".manifest", ".safetensors")) or a in (".", "nowhere"))
        else a
        for a in arguments
    ]
    done = gandt(*here, "--project", str(tmp_path))
    assert done.returncode == code, done.stderr
    assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 4, done.stderr
