# SPDX-License-Identifier: GPL-3.0-or-later
"""`gandt simulate`: ranges of cost, time and accuracy, and a project in which no campaign has begun."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.under_fire import pictures
from tests.processes import gandt


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    truth, known = pictures(tmp_path / "photos", 80, 16, seed=5)
    for name, labels in (("truth.csv", truth), ("labeled.csv", known)):
        (tmp_path / name).write_text("image,label\n" + "".join(f"{i},{label}\n" for i, label in labels.items()))
    return tmp_path


def command(folder: Path, *flags: str) -> list[str]:
    return [
        "simulate", str(folder / "photos"), "--project", str(folder), "--classes", "three,other", "--target", "three",
        "--other-label", "other", "--seed-labels", str(folder / "labeled.csv"), "--budget", "30",
        "--price-per-page", "0.036", "--round-size", "20", "--max-rounds", "2", "--json", *flags,
    ]  # fmt: skip


def test_a_rehearsal_gives_ranges_and_leaves_no_campaign(folder: Path) -> None:
    flags = ["--truth", str(folder / "truth.csv"), "--repeats", "2", "--workers", "4", "--seconds-per-image", "3"]
    done = gandt(*command(folder, *flags))
    assert done.returncode == 0, done.stderr
    ranges = json.loads(done.stdout)["ranges"]
    for found in ranges.values():
        assert found["least"] <= found["median"] <= found["most"]
    assert ranges["labels"]["most"] == 40
    assert ranges["answers"]["least"] >= 120
    assert 0 < ranges["cost_usd_micros"]["most"] <= 30_000_000
    assert ranges["label_accuracy"]["least"] > 0.8
    # four workers at about three seconds a tile
    assert ranges["work_seconds"]["median"] == pytest.approx(3 * ranges["answers"]["median"], rel=0.3)
    assert ranges["elapsed_seconds"]["most"] < ranges["work_seconds"]["least"]
    status = gandt("status", "--project", str(folder), "--json")
    assert json.loads(status.stdout)["campaign"] is None


def test_without_the_truth_one_is_supposed(folder: Path) -> None:
    done = gandt(*command(folder, "--repeats", "1", "--share", "0.2"))
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["supposed_share"] == 0.2
    assert summary["ranges"]["labels"]["most"] == 40


def test_a_project_whose_state_is_elsewhere_is_refused(folder: Path) -> None:
    (folder / "gandt.toml").write_text('[jobcontroller]\ndatabase_url = "postgresql://db/gandt"\n')
    done = gandt(*command(folder))
    assert done.returncode != 0
    assert "jobcontroller.database_url" in done.stderr
    assert not (folder / ".gandt").exists()


def test_images_that_cannot_be_embedded_are_one_error(folder: Path) -> None:
    for picture in (folder / "photos").iterdir():
        picture.write_bytes(picture.read_bytes()[:60])
    done = gandt(*command(folder))
    assert done.returncode == 3
    assert "NOTHING_TO_DO" in done.stderr
    assert "Traceback" not in done.stderr
