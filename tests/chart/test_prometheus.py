# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Prometheus reads the real services during a campaign: panels have data, rules work, nothing fires."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.chart.prometheus import Prometheus, prometheus
from tests.chart.rendering import CHART
from tests.chart.test_dashboards import DASHBOARDS, panels
from tests.e2e.under_fire import pictures
from tests.processes import gandt, serving


@dataclass(frozen=True)
class Watched:
    """A campaign that has run under the eyes of a Prometheus.

    Args:
        prometheus: it.
        pages: what it scrapes.
        endpoints: of the services.
        fired: alerts that fired at any time during the campaign.
    """

    prometheus: Prometheus
    pages: dict[str, str]
    endpoints: dict[str, str]
    fired: set[str]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    project = tmp_path_factory.mktemp("campaign")
    truth, known = pictures(project / "photos", 100, 20, seed=5)
    for name, labels in (("truth.csv", truth), ("labeled.csv", known)):
        (project / name).write_text("image,label\n" + "".join(f"{i},{label}\n" for i, label in labels.items()))
    with serving(project) as serve_json:
        served = json.loads(serve_json.read_text(encoding="utf-8"))
        pages = {f"gandt-{name}": re.sub(r"^http://|/metrics$", "", url) for name, url in served["metrics"].items()}
        with prometheus(tmp_path_factory.mktemp("prometheus"), pages) as running:
            running.wait(lambda: len(running.query("up == 1")) == len(pages), "all pages")
            running.wait(lambda: not running.firing(), "silence")  # before the first scrape nobody is there
            since = time.monotonic()
            given = {"--seed-labels": "labeled.csv", "--truth": "truth.csv"}
            files = [part for flag, name in given.items() for part in (flag, str(project / name))]
            done = gandt(
                "run", str(project / "photos"), "--project", str(project), *files, "--classes", "three,other",
                "--target", "three", "--other-label", "other", "--budget", "30", "--price-per-page", "0.036",
                "--round-size", "20", "--max-rounds", "3", "--json",
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            round_trip(serve_json)
            for query in (
                "gandt:rpc_errors:ratio_rate5m",
                "gandt:search_slow:ratio_rate5m",
            ):  # after the last call
                running.wait(partial(has_data, running, query), query)
            window = int(time.monotonic() - since)
            ever = running.query(f'count by (alertname) (count_over_time(ALERTS{{alertstate="firing"}}[{window}s]))')
            yield Watched(running, pages, served["endpoints"], {each["metric"]["alertname"] for each in ever})


def round_trip(serve_json: Path) -> None:
    """A search by client, which a campaign does not need."""
    endpoints = json.loads(serve_json.read_text(encoding="utf-8"))["endpoints"]
    variables = {f"GANDT_ENDPOINTS__{name.upper()}": address for name, address in endpoints.items()}
    command = [sys.executable, str(CHART / "files/round_trip.py")]
    subprocess.run(command, env={**os.environ, **variables}, check=True, capture_output=True)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_has_data(watched: Watched, path: Path) -> None:
    empty = []
    for panel in panels(json.loads(path.read_text(encoding="utf-8"))):
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "5m").replace("$namespace", ".*")
            if not watched.prometheus.query(query):
                empty.append(f"{panel['title']}: {query}")
    assert empty == []


def test_every_rule_is_evaluated(watched: Watched) -> None:
    rules = watched.prometheus.rules()
    assert len(rules) > 30
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []


def test_a_campaign_that_goes_well_alarms_nobody(watched: Watched) -> None:
    assert watched.fired == set()
    assert watched.prometheus.firing() == set()


def has_data(running: Prometheus, query: str) -> bool:
    """Whether a query has a result."""
    return bool(running.query(query))
