# SPDX-License-Identifier: GPL-3.0-or-later
"""`gandt migrate`: answers of other tools become a table that `gandt aggregate` takes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from gandt.cli.main import main


def migrated(path: Path, *flags: str, status: int = 0) -> list[dict[str, str]]:
    output = path.parent / "answers.csv"
    assert main(["migrate", str(path), "-o", str(output), *flags]) == status
    with output.open(newline="") as stream:
        return list(csv.DictReader(stream))


def choice(*labels: str, control: str = "kind") -> dict[str, Any]:
    return {"from_name": control, "to_name": "img", "type": "choices", "value": {"choices": list(labels)}}


def label_studio(tmp_path: Path, *annotations: dict[str, Any], image: str = "s3://b/1.jpg") -> Path:
    path = tmp_path / "export.json"
    path.write_text(json.dumps([{"id": 7, "project": 3, "data": {"image": image}, "annotations": list(annotations)}]))
    return path


def test_label_studio(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = label_studio(
        tmp_path,
        {"completed_by": 10, "result": [choice("cat")], "lead_time": 4.3, "created_at": "2026-03-09T22:16:08.7Z"},
        {"completed_by": {"id": 2, "email": "ann@example.org"}, "result": [choice("cat", "dog")]},
        {"completed_by": 11, "result": [], "was_cancelled": True},
        {"completed_by": 1, "result": [choice("cat")], "ground_truth": True},
        {"completed_by": 12, "result": [choice("dog"), {"type": "rectanglelabels", "value": {"x": 1}}]},
        image="/data/local-files/?d=photos/a%20b.jpg",
    )
    rows = migrated(path, "--gold-out", str(tmp_path / "gold.csv"))
    assert {row["image"] for row in rows} == {"photos/a b.jpg"}
    assert [(row["worker"], row["label"], row["state"]) for row in rows] == [
        ("10", "cat", "answered"),
        ("ann@example.org", "cat|dog", "answered"),
        ("11", "", "unsure"),
        ("12", "dog", "answered"),
    ]
    assert (rows[0]["seconds"], rows[0]["page"], rows[0]["job"]) == ("4.3", "7", "3")
    assert (tmp_path / "gold.csv").read_text().splitlines() == ["image,label", "photos/a b.jpg,cat"]
    assert "1 results that are no choices" in capsys.readouterr().err
    assert main(["aggregate", str(tmp_path / "answers.csv"), "-o", str(tmp_path / "labels.csv"), "--multilabel"]) == 0


def test_label_studios_short_form(tmp_path: Path) -> None:
    path = tmp_path / "min.json"
    task = {"id": 1, "image": "/data/upload/1/x.jpg", "annotator": 5, "annotation_id": 9, "lead_time": 2.0}
    path.write_text(json.dumps([task | {"kind": "cat"}, task | {"kind": {"choices": ["cat", "dog"]}, "annotator": 6}]))
    rows = migrated(path)
    assert [(row["worker"], row["label"]) for row in rows] == [("5", "cat"), ("6", "cat|dog")]


def test_two_controls_have_to_be_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = label_studio(tmp_path, {"completed_by": 1, "result": [choice("cat"), choice("sharp", control="quality")]})
    assert main(["migrate", str(path), "-o", str(tmp_path / "a.csv")]) == 2
    error = capsys.readouterr().err
    assert "task 1" in error
    assert "kind, quality" in error
    assert migrated(path, "--label-field", "quality")[0]["label"] == "sharp"


def test_cvat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "annotations.xml"
    path.write_text(
        '<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>'
        '<image id="0" name="a/1.jpg" width="6" height="4"><tag label="cat" source="manual"></tag></image>'
        '<image id="1" name="a/2.jpg" width="6" height="4"><box label="dog" xtl="1"/></image></annotations>'
    )
    rows = migrated(path, "--worker-field", "ann")
    assert [(row["image"], row["worker"], row["label"], row["state"]) for row in rows] == [
        ("a/1.jpg", "ann", "cat", "answered"),
        ("a/2.jpg", "ann", "", "blank"),
    ]
    assert "1 shapes are left out" in capsys.readouterr().err


def test_an_xml_bomb_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bomb.xml"
    path.write_text('<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotations>&b;</annotations>')
    assert main(["migrate", str(path), "-o", str(tmp_path / "a.csv")]) == 2
    assert "document type" in capsys.readouterr().err


def test_toloka(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "assignments.tsv"
    path.write_text(
        "INPUT:image\tOUTPUT:result\tGOLDEN:result\tASSIGNMENT:assignment_id\tASSIGNMENT:worker_id\tASSIGNMENT:status\n"
        "https://x/1.jpg\tcat\t\tp1\tw1\tAPPROVED\n"
        'https://x/1.jpg\t["cat", "dog"]\t\tp2\tw2\tAPPROVED\n'.replace('"', '""')
        .replace('[""', '"[""')
        .replace('""]', '""]"')
        + "https://x/2.jpg\tdog\tcat\tp1\tw1\tAPPROVED\n"
        "https://x/2.jpg\tdog\tcat\tp3\tw3\tREJECTED\n"
    )
    rows = migrated(path, "--gold-out", str(tmp_path / "gold.csv"))
    assert [(row["image"], row["worker"], row["label"], row["page"]) for row in rows] == [
        ("https://x/1.jpg", "w1", "cat", "p1"),
        ("https://x/1.jpg", "w2", "cat|dog", "p2"),
        ("https://x/2.jpg", "w1", "dog", "p1"),
    ]
    assert "https://x/2.jpg,cat" in (tmp_path / "gold.csv").read_text()
    assert "1 rejected assignments are left out" in capsys.readouterr().err


def test_any_table(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("url,annotator,class\n1.jpg,ann,cat\n2.jpg,bob,\n")
    flags = ["--image-field", "url", "--worker-field", "annotator", "--label-field", "class"]
    rows = migrated(path, *flags)
    assert [(r["image"], r["worker"], r["label"], r["state"]) for r in rows] == [
        ("1.jpg", "ann", "cat", "answered"),
        ("2.jpg", "bob", "", "blank"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.json", "{", "no JSON"),
        ("x.json", "{}", "no list of tasks"),
        ("x.json", '[{"data": {"text": "hi"}, "annotations": [{"result": []}]}]', "task 1"),
        (
            "x.json",
            '[{"data": {"image": "1.jpg"}, "annotations": [{"result": [{"value": {"choices": ["a|b"]}}]}]}]',
            "a|b",
        ),
        ("x.xml", "<annotations><image", "no XML"),
        ("x.tsv", "a\tb\n1\t2\n", "ASSIGNMENT:worker_id"),
        ("x.csv", "url,who\n1,2\n", "image"),
    ],
)
def test_what_is_no_export_is_one_error(
    name: str, content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(content)
    assert main(["migrate", str(tmp_path / name), "-o", str(tmp_path / "a.csv")]) == 2
    error = capsys.readouterr().err
    assert name in error
    assert said in error
    assert not (tmp_path / "a.csv").exists()


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", str(tmp_path / "none.json"), "-o", str(tmp_path / "a.csv")]) == 2
    assert "none.json" in capsys.readouterr().err
