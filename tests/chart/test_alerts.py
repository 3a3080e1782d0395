# SPDX-License-Identifier: GPL-3.0-or-later
"""Every alert fires when it should, is silent when it should, says what to do, and has a runbook."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.alert_cases import CASES, Series
from tests.chart.rendering import CHART, of_kind, render, tool
from tests.conftest import ROOT

FILES = sorted((CHART / "rules").glob("*.yaml"))
RULES: list[dict[str, Any]] = [
    rule
    for path in FILES
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
SECTIONS = ("## Meaning", "## Impact", "## Diagnose", "## Mitigate")


def test_promtool_accepts_the_rules() -> None:
    done = subprocess.run([tool("promtool"), "check", "rules", *FILES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case() -> None:
    assert set(CASES) == set(ALERTS)


@pytest.mark.parametrize("alert", CASES)
def test_alert_fires_and_stays_silent(alert: str, tmp_path: Path) -> None:
    case = CASES[alert]
    document = {
        "rule_files": [str(path) for path in FILES],
        "evaluation_interval": "1m" if case.minutes <= 120 else "10m",
        "tests": [
            scenario(f"{alert} fires", case.fires, alert, case.minutes, [{"labels": "{}", "value": 1}]),
            scenario(f"{alert} is silent", case.silent, alert, case.minutes, []),
        ],
    }
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    done = subprocess.run([tool("promtool"), "test", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def scenario(
    name: str, series: Series, alert: str, minutes: int, expected: list[dict[str, object]]
) -> dict[str, object]:
    """One of promtool's tests."""
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
                "eval_time": f"{minutes}m",
                "exp_samples": expected,
            }
        ],
    }


@pytest.mark.parametrize("alert", ALERTS)
def test_alert_says_what_to_do(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert {"summary", "description", "runbook_url"} == set(rule["annotations"])
    assert "$value" in rule["annotations"]["description"] or alert in ("GandtTargetDown", "GandtAbsent")
    runbook = ROOT / rule["annotations"]["runbook_url"]
    text = runbook.read_text(encoding="utf-8")
    assert runbook.stem == alert
    assert [section for section in SECTIONS if section not in text] == []
    assert text.count("```") >= 2, "diagnosis without a command to copy"


def test_every_runbook_has_an_alert() -> None:
    pages = {path.stem for path in (ROOT / "docs/runbooks").glob("Gandt*.md")}
    assert pages == set(ALERTS)


def test_the_chart_ships_these_rules_with_links_to_the_runbooks() -> None:
    shipped = of_kind(render("default", {"monitoring.runbooks": "https://wiki.example.org/r"}), "PrometheusRule")
    rules = [rule for each in shipped for group in each["spec"]["groups"] for rule in group["rules"]]
    assert {rule.get("alert") or rule["record"] for rule in rules} == {r.get("alert") or r["record"] for r in RULES}
    links = {rule["annotations"]["runbook_url"] for rule in rules if "alert" in rule}
    assert links == {f"https://wiki.example.org/r/{alert}.md" for alert in ALERTS}
