# SPDX-License-Identifier: GPL-3.0-or-later
"""Dockerfile, skaffold.yaml and chart name the same images, and the Dockerfile holds hadolint's rules."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

from tests.chart.checks import containers, pods
from tests.chart.rendering import CHART, PROFILES, render
from tests.conftest import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^FROM runtime AS (\w+)", DOCKERFILE, re.M))


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_chart_runs_images_that_are_built() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert set(values["images"]) == TARGETS
    assert {image["repository"] for image in values["images"].values()} == {f"gandt/{target}" for target in TARGETS}
    used = {
        c["image"].rpartition("gandt/")[2].partition(":")[0]
        for profile in PROFILES
        for _, pod in pods(render(profile))
        for c in containers(pod)
    }
    assert used == TARGETS


def test_skaffold_builds_them_and_gives_them_to_the_chart() -> None:
    config = yaml.safe_load((ROOT / "skaffold.yaml").read_text(encoding="utf-8"))
    for part in (config, *config["profiles"]):
        artifacts = {each["image"]: each["docker"]["target"] for each in part["build"]["artifacts"]}
        assert all(image == f"gandt/{target}" and target in TARGETS for image, target in artifacts.items())
        release = part["deploy"]["helm"]["releases"][0]
        templates = " ".join(release["setValueTemplates"].values())
        assert set(re.findall(r"IMAGE_REPO_gandt_(\w+)}}", templates)) == set(artifacts.values())
        for path in (release["chartPath"], *release["valuesFiles"]):
            assert (ROOT / path).exists()
    assert {each["name"] for each in config["profiles"]} == {"gpu", "prod"}
    assert len(config["profiles"][1]["build"]["artifacts"]) == len(TARGETS)


def test_every_run_of_python_is_the_images_user() -> None:
    stages = DOCKERFILE.split("\nFROM ")
    runtime = next(stage for stage in stages if stage.startswith("${BASE} AS runtime"))
    assert "USER 65532:65532" in runtime
    for stage in stages:
        if stage.startswith("runtime AS"):
            assert re.search(r'^ENTRYPOINT \["python", "-m", "gandt_\w+"\]$', stage, re.M), (
                "exec form: python gets SIGTERM"
            )
            assert "RUN" not in stage


def test_the_context_is_an_allow_list() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert lines[1] == "*"
    copied = set(re.findall(r"^COPY (?!--)(.+?)$", DOCKERFILE, re.M))
    sources = {word for line in copied for word in line.split()[:-1]}
    assert sources == {line[1:] for line in lines if line.startswith("!")}
