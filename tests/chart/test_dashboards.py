# SPDX-License-Identifier: GPL-3.0-or-later
"""Every query of a dashboard or rule is PromQL and names metrics that some service exports."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rendering import CHART, of_kind, render, tool
from tests.conftest import ROOT

DASHBOARDS = sorted((CHART / "dashboards").glob("*.json"))
OF_PROCESSES = {
    "up", "ALERTS", "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds",
    "process_start_time_seconds",
}  # fmt: skip
"""What Prometheus itself and its client library say of every process."""


def exported() -> set[str]:
    """Series that the services export, from the page that is generated from the code, and those that rules record."""
    known = set(OF_PROCESSES)
    kinds = dict(re.findall(r"^\| `(gandt_\w+)` \| (\w+) \|", (ROOT / "docs/metrics.md").read_text("utf-8"), re.M))
    kinds |= {"grpc_server_started_total": "counter", "grpc_server_handled_total": "counter"}
    kinds |= {"grpc_server_handling_seconds": "histogram"}
    for name, kind in kinds.items():
        known |= {f"{name}{end}" for end in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    return known | {rule["record"] for rule in rules() if "record" in rule}


def rules() -> list[dict[str, Any]]:
    files = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted((CHART / "rules").glob("*.yaml"))]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def named(query: str) -> set[str]:
    """The metrics that a query reads: identifiers that are no function, label, keyword or unit."""
    without = re.sub(r'"[^"]*"', '""', query)
    without = re.sub(r"\b(by|on|without|ignoring|group_left)\s*\([^)]*\)", "", without)
    without = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", without)
    without = re.sub(r"[a-zA-Z_]\w*\s*\(|\boffset\s+\w+", "(", without)  # functions
    words = set(re.findall(r"(?<![\w.])[a-zA-Z_:][\w:]*", without))
    return words - {"and", "or", "unless", "by", "on", "bool", "offset"}


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (panel for panel in dashboard["panels"] if panel["type"] != "row")


def queries(path: Path) -> list[str]:
    return [t["expr"] for panel in panels(json.loads(path.read_text(encoding="utf-8"))) for t in panel["targets"]]


def test_a_name_is_found_in_a_query() -> None:
    query = 'sum by (le) (rate(a_bucket{x="b"}[5m])) / on (job) c:d{e=~"f"} > 3 and (g * 2) unless h offset 5m'
    assert named(query) - {"m"} == {"a_bucket", "c:d", "g", "h"}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_read_exported_metrics(path: Path) -> None:
    assert {name for query in queries(path) for name in named(query)} - exported() == set()


def test_rules_read_exported_metrics() -> None:
    assert {name for rule in rules() for name in named(rule["expr"])} - exported() == set()


def test_an_unknown_metric_would_be_found() -> None:
    assert named("sum(rate(gandt_embedding_pictures_total[5m]))") - exported() == {"gandt_embedding_pictures_total"}


def test_every_metric_of_a_service_is_on_some_dashboard() -> None:
    pages = re.findall(r"^\| `(gandt_\w+)`", (ROOT / "docs/metrics.md").read_text("utf-8"), re.M)
    text = " ".join(query for path in DASHBOARDS for query in queries(path))
    assert [name for name in pages if name not in text] == []


def test_promtool_parses_every_query(tmp_path: Path) -> None:
    found = [
        {"record": f"p:{i}", "expr": query.replace("$__rate_interval", "5m").replace("$namespace", ".*")}
        for i, query in enumerate(query for path in DASHBOARDS for query in queries(path))
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": found}]}), encoding="utf-8")
    done = subprocess.run([tool("promtool"), "check", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_dashboards_are_five_and_bound_to_nothing() -> None:
    read = [json.loads(path.read_text(encoding="utf-8")) for path in DASHBOARDS]
    assert {each["uid"] for each in read} == {path.stem for path in DASHBOARDS}
    assert len(read) == 5
    for each in read:
        numbers = [panel["id"] for panel in each["panels"]]
        assert len(set(numbers)) == len(numbers)
        assert {panel["datasource"]["uid"] for panel in panels(each)} == {"${datasource}"}
        assert all('namespace=~"$namespace"' in t["expr"] for panel in panels(each) for t in panel["targets"])


def test_grafana_gets_them_by_config_map() -> None:
    maps = of_kind(render("default", {"monitoring.dashboards": True}), "ConfigMap")
    shipped = {name: text for each in maps for name, text in each["data"].items() if name.endswith(".json")}
    assert {name: json.loads(text) for name, text in shipped.items()} == {
        path.name: json.loads(path.read_text(encoding="utf-8")) for path in DASHBOARDS
    }
