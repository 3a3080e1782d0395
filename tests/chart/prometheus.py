# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Prometheus with the chart's rules, scraping every second; alerts fire at once, as `for` is taken out."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.chart.rendering import CHART, tool
from tests.conftest import free_port

NAMESPACE = "v"


class Prometheus:
    """A running Prometheus.

    Args:
        home: folder of its data and configuration.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._url = f"http://127.0.0.1:{free_port()}"
        self.process: subprocess.Popen[bytes] | None = None

    def scrape(self, pages: Mapping[str, str]) -> None:
        """From now on exactly these pages are read; job to `host:port`."""
        groups = [
            {"targets": [target], "labels": {"job": job, "namespace": NAMESPACE}}
            for job, target in sorted(pages.items())
        ]
        path = self._home / "targets.json"
        path.with_suffix(".tmp").write_text(json.dumps(groups), encoding="utf-8")
        path.with_suffix(".tmp").replace(path)

    def start(self) -> None:
        """Starts it; returns when it answers."""
        rules = []
        for source in sorted((CHART / "rules").glob("*.yaml")):
            content = yaml.safe_load(source.read_text(encoding="utf-8"))
            for rule in (rule for group in content["groups"] for rule in group["rules"]):
                rule.pop("for", None)
            target = self._home / source.name
            target.write_text(yaml.safe_dump(content), encoding="utf-8")
            rules.append(str(target))
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": rules,
            "scrape_configs": [
                {
                    "job_name": "gandt",
                    "file_sd_configs": [{"files": [str(self._home / "targets.json")], "refresh_interval": "1s"}],
                }
            ],
        }
        (self._home / "prometheus.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        with (self._home / "prometheus.log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    tool("prometheus"), f"--config.file={self._home / 'prometheus.yaml'}",
                    f"--storage.tsdb.path={self._home / 'data'}", f"--web.listen-address={self._url.removeprefix('http://')}",
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
        self.wait(self._ready, "Prometheus")

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of an instant query."""
        found: list[dict[str, Any]] = self._get(f"query?{urllib.parse.urlencode({'query': expression})}")["result"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """All rules with their health."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def firing(self) -> set[str]:
        """Names of the alerts that fire."""
        return {each["labels"]["alertname"] for each in self._get("alerts")["alerts"] if each["state"] == "firing"}

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        """Polls until the condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not come within {seconds} s"
            time.sleep(0.25)

    def close(self) -> None:
        """Ends it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self._url}/api/v1/{path}", timeout=10) as response:
            return json.load(response)["data"]


@contextmanager
def prometheus(home: Path, pages: Mapping[str, str]) -> Iterator[Prometheus]:
    """A Prometheus that scrapes some pages."""
    running = Prometheus(home)
    running.scrape(pages)
    try:
        running.start()
        yield running
    finally:
        running.close()
