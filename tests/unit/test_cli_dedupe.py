# SPDX-License-Identifier: GPL-3.0-or-later
"""`gandt dedupe` on a vectors file: every image once, in groups."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from gandt.cli import exit_codes
from gandt.cli.main import main
from gandt.domain.vectors import VectorSet
from gandt.tables.vectors import write_vectors


def vectors_file(folder: Path, matrix: list[list[float]]) -> str:
    path = str(folder / "vectors.parquet")
    ids = [f"dir/{n}, a.jpg" for n in range(len(matrix))]
    write_vectors(path, VectorSet(ids, np.array(matrix, np.float32).reshape(len(ids), 2), "m"))
    return path


def table(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_groups_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = vectors_file(tmp_path, [[1, 0], [0, 1], [1, 0.1], [1, 0.2], [0, 2]])
    out = tmp_path / "groups.csv"
    assert main(["dedupe", "--vectors", path, "-o", str(out), "--json"]) == exit_codes.DONE
    summary = json.loads(capsys.readouterr().out)
    assert (summary["images"], summary["groups"], summary["near_duplicates"]) == (5, 2, 3)
    assert table(out) == [
        ["group", "image", "representative", "similarity"],
        ["1", "dir/0, a.jpg", "dir/2, a.jpg", "0.995037"],
        ["1", "dir/2, a.jpg", "dir/2, a.jpg", "1.0"],
        ["1", "dir/3, a.jpg", "dir/2, a.jpg", "0.995229"],
        ["2", "dir/1, a.jpg", "dir/1, a.jpg", "1.0"],
        ["2", "dir/4, a.jpg", "dir/1, a.jpg", "1.0"],
    ]
    main(["dedupe", "--vectors", path, "-o", str(out), "--keep", "order"])
    assert {row[2] for row in table(out)[1:]} == {"dir/0, a.jpg", "dir/1, a.jpg"}


def test_single_images_and_bad_vectors_come_out_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = vectors_file(tmp_path, [[1, 0], [0, 0], [0, 1], [float("nan"), 1]])
    out = tmp_path / "groups.csv"
    assert main(["dedupe", "--vectors", path, "-o", str(out)]) == exit_codes.PARTIAL
    assert "zero or not finite" in capsys.readouterr().err
    assert sorted(row[1] for row in table(out)[1:]) == [f"dir/{n}, a.jpg" for n in range(4)]
    assert len({row[0] for row in table(out)[1:]}) == 4


def test_the_threshold_decides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = vectors_file(tmp_path, [[1, 0], [1, 1]])
    assert main(["dedupe", "--vectors", path, "--threshold", "0.7", "--json"]) == exit_codes.DONE
    assert json.loads(capsys.readouterr().out)["groups"] == 1
    assert main(["dedupe", "--vectors", path, "--threshold", "1.5"]) == exit_codes.USAGE
    assert "threshold" in capsys.readouterr().err


def test_what_is_no_vectors_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dedupe", "--vectors", str(tmp_path / "absent.parquet")]) == exit_codes.USAGE
    assert main(["dedupe", "--vectors", vectors_file(tmp_path, [])]) == exit_codes.NOTHING
    capsys.readouterr()
