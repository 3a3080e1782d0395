# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 (a panel is a line)
"""The Grafana dashboards of the chart, as code. `make reference` writes them to charts/gandt/dashboards.

A dashboard is a list of rows, a row a list of panels, a panel a title, a unit and queries. Data source, namespace and
service are variables; nothing of an installation stands in a dashboard.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "charts/gandt/dashboards"
NS = 'namespace=~"$namespace"'
BAD = "Unknown|DeadlineExceeded|Internal|Unavailable|DataLoss"
VECTORS = f'{NS},grpc_service="gandt.vectorsearch.v1.VectorSearchService",grpc_method="Search"'
RATE = "$__rate_interval"


@dataclass(frozen=True)
class Panel:
    """One panel.

    Args:
        title: what it answers.
        unit: Grafana's name of the unit.
        queries: legend to PromQL.
        kind: timeseries, stat, gauge or heatmap.
        note: shown when one points at the title.
    """

    title: str
    unit: str
    queries: dict[str, str]
    kind: str = "timeseries"
    note: str = ""


Rows = list[tuple[str, list[Panel]]]


def rate(metric: str, labels: str = "", by: str = "") -> str:
    """Events a second."""
    chosen = f"{NS},{labels}" if labels else NS
    return f"sum {f'by ({by}) ' if by else ''}(rate({metric}{{{chosen}}}[{RATE}]))"


def quantile(q: float, metric: str, labels: str = "", by: str = "") -> str:
    """A quantile of a histogram."""
    return (
        f"histogram_quantile({q}, {rate(f'{metric}_bucket', labels, ', '.join(part for part in ('le', by) if part))})"
    )


def total(metric: str, labels: str = "", by: str = "", how: str = "sum") -> str:
    """A gauge over all pods."""
    chosen = f"{NS},{labels}" if labels else NS
    return f"{how} {f'by ({by}) ' if by else ''}({metric}{{{chosen}}})"


def share(part: str, whole: str) -> str:
    """A ratio that is 0, not missing, where nothing of the part was counted."""
    return f"(({part}) or ({whole}) * 0) / ({whole})"


CALLS = rate("grpc_server_handled_total")
FAILED = rate("grpc_server_handled_total", f'grpc_code=~"{BAD}"')

OVERVIEW: Rows = [
    (
        "Is it well",
        [
            Panel("Targets up", "short", {"up": f'count(up{{{NS},job=~"gandt-.+"}} == 1)'}, "stat"),
            Panel("Calls that failed by our fault, 1 h", "percentunit", {
                "": share(FAILED.replace(RATE, "1h"), CALLS.replace(RATE, "1h"))}, "stat", "the objective is 0.5 %"),
            Panel("Searches above 0.25 s, 1 h", "percentunit", {
                "": "1 - " + rate("grpc_server_handling_seconds_bucket", f'{VECTORS.removeprefix(NS + ",")},le="0.25"').replace(RATE, "1h")
                + " / " + rate("grpc_server_handling_seconds_count", VECTORS.removeprefix(NS + ",")).replace(RATE, "1h")},
                "stat", "the objective is 5 %"),
            Panel("Alerts firing", "short", {"": f'count(ALERTS{{{NS},alertname=~"Gandt.+",alertstate="firing"}}) or vector(0)'}, "stat"),
        ],
    ),
    (
        "How far is the work",
        [
            Panel("Labeling jobs by state", "short", {"{{state}}": total("gandt_jobs", by="state")}),
            Panel("Oldest open labeling job", "s", {"age": total("gandt_job_age_seconds", how="max")}),
            Panel("Budget, US dollars", "currencyUSD", {
                "limit": total("gandt_budget_limit", how="max"), "reserved": total("gandt_budget_reserved", how="max"),
                "spent": total("gandt_budget_spent", how="max")}),
            Panel("Vectors stored", "short", {"rows": total("gandt_vectorsearch_rows", how="max")}),
        ],
    ),
    (
        "Calls",
        [
            Panel("Calls a second by service", "reqps", {"{{grpc_service}}": rate("grpc_server_handled_total", by="grpc_service")}),
            Panel("Results", "reqps", {"{{grpc_code}}": rate("grpc_server_handled_total", by="grpc_code")}),
            Panel("95th percentile by method", "s", {
                "{{grpc_method}}": quantile(0.95, "grpc_server_handling_seconds", 'grpc_type="unary"', "grpc_method")}),
            Panel("Calls under way", "short", {
                "{{grpc_service}}": f"sum by (grpc_service) (grpc_server_started_total{{{NS}}})"
                f" - sum by (grpc_service) (grpc_server_handled_total{{{NS}}})"}),
        ],
    ),
    (
        "Processes",
        [
            Panel("Processors used", "short", {"{{job}}": f'sum by (job) (rate(process_cpu_seconds_total{{{NS},job=~"gandt-.+"}}[{RATE}]))'}),
            Panel("Memory", "bytes", {"{{job}}": f'sum by (job) (process_resident_memory_bytes{{{NS},job=~"gandt-.+"}})'}),
            Panel("Open files", "short", {"{{job}}": f'sum by (job) (process_open_fds{{{NS},job=~"gandt-.+"}})'}),
            Panel("Started", "dateTimeFromNow", {"{{job}}": f'max by (job) (process_start_time_seconds{{{NS},job=~"gandt-.+"}}) * 1000'}, "stat"),
        ],
    ),
]  # fmt: skip

EMBEDDING: Rows = [
    (
        "Images",
        [
            Panel("Images a second by result", "ops", {"{{result}}": rate("gandt_embedding_images_total", by="result")}),
            Panel("Images under way", "short", {"": total("gandt_embedding_queue_items")}),
            Panel("Wait for the device", "s", {
                "median": quantile(0.5, "gandt_embedding_queue_seconds"), "95 %": quantile(0.95, "gandt_embedding_queue_seconds")}),
            Panel("Answered from the cache", "percentunit", {
                "": share(rate("gandt_embedding_cache_hits_total"), rate("gandt_embedding_images_total"))}),
        ],
    ),
    (
        "The way of an image",
        [
            Panel("Seconds a stage, 95th percentile", "s", {"{{stage}}": quantile(0.95, "gandt_embedding_stage_seconds", by="stage")}),
            Panel("Seconds spent in each stage, a second", "short", {"{{stage}}": rate("gandt_embedding_stage_seconds_sum", by="stage")}),
            Panel("Images in one run of the device", "short", {
                "mean": rate("gandt_embedding_batch_size_sum") + " / " + rate("gandt_embedding_batch_size_count")}),
            Panel("Batch sizes", "short", {"{{le}}": rate("gandt_embedding_batch_size_bucket", by="le")}, "heatmap"),
        ],
    ),
]  # fmt: skip

SEARCH: Rows = [
    (
        "Searches",
        [
            Panel("Searches a second", "reqps", {"{{query}} {{index}}": rate("gandt_vectorsearch_search_seconds_count", by="query, index")}),
            Panel("Seconds a search", "s", {
                "median": quantile(0.5, "gandt_vectorsearch_search_seconds"), "95 %": quantile(0.95, "gandt_vectorsearch_search_seconds"),
                "99 %": quantile(0.99, "gandt_vectorsearch_search_seconds")}),
            Panel("Recall of approximate searches", "percentunit", {"": total("gandt_vectorsearch_recall_canary", how="min")}, "gauge"),
            Panel("How long searches take", "s", {"{{le}}": rate("gandt_vectorsearch_search_seconds_bucket", by="le")}, "heatmap"),
        ],
    ),
    (
        "Vectors and selection",
        [
            Panel("Vectors stored", "short", {"": total("gandt_vectorsearch_rows", how="max")}),
            Panel("Calls of the vector store", "reqps", {
                "{{grpc_method}}": rate("grpc_server_handled_total", 'grpc_service="gandt.vectorsearch.v1.VectorSearchService"', "grpc_method")}),
            Panel("Pool images looked at, a second", "ops", {"{{strategy}}": rate("gandt_selection_candidates_total", by="strategy")}),
            Panel("Seconds a selection, 95th percentile", "s", {"{{strategy}}": quantile(0.95, "gandt_selection_select_seconds", by="strategy")}),
        ],
    ),
]  # fmt: skip

LABELING: Rows = [
    (
        "Work",
        [
            Panel("Tasks by state", "short", {"{{state}}": total("gandt_labeling_tasks", by="state")}),
            Panel("Tasks held by workers", "short", {"": total("gandt_labeling_leases")}),
            Panel("Workers seen in ten minutes", "short", {"": total("gandt_labeling_active_workers")}),
            Panel("Submits a second", "ops", {"{{result}}": rate("gandt_labeling_answers_total", by="result")}),
        ],
    ),
    (
        "Money",
        [
            Panel("Budget used", "percentunit", {
                "": f"({total('gandt_budget_spent', how='max')} + {total('gandt_budget_reserved', how='max')})"
                f" / {total('gandt_budget_limit', how='max')}"}, "gauge"),
            Panel("US dollars", "currencyUSD", {
                "limit": total("gandt_budget_limit", how="max"), "reserved": total("gandt_budget_reserved", how="max"),
                "spent": total("gandt_budget_spent", how="max")}),
            Panel("US dollars an hour", "currencyUSD", {"": f"max(deriv(gandt_budget_spent{{{NS}}}[1h])) * 3600"}),
            Panel("Jobs by state", "short", {"{{state}}": total("gandt_jobs", by="state")}),
        ],
    ),
]  # fmt: skip

QUALITY: Rows = [
    (
        "Agreement",
        [
            Panel("Pairs of answers that agree", "percentunit", {"": total("gandt_aggregation_agreement", how="min")}),
            Panel("Answers aggregated, a second", "ops", {"{{method}}": rate("gandt_aggregation_answers_total", by="method")}),
            Panel("Iterations of the model, mean", "short", {
                "{{method}}": rate("gandt_aggregation_iterations_sum", by="method") + " / " + rate("gandt_aggregation_iterations_count", by="method")}),
            Panel("Submits refused", "percentunit", {
                "": share(rate("gandt_labeling_answers_total", 'result!~"accepted|repeated"'), rate("gandt_labeling_answers_total"))}),
        ],
    ),
    (
        "Care",
        [
            Panel("Active seconds a task", "s", {
                "fastest 5 %": quantile(0.05, "gandt_labeling_answer_seconds"), "median": quantile(0.5, "gandt_labeling_answer_seconds"),
                "95 %": quantile(0.95, "gandt_labeling_answer_seconds")}, note="very short ones point at workers who click through"),
            Panel("How long tasks take", "s", {"{{le}}": rate("gandt_labeling_answer_seconds_bucket", by="le")}, "heatmap"),
        ],
    ),
]  # fmt: skip

DASHBOARDS: dict[str, tuple[str, Rows]] = {
    "gandt-overview": ("G&T overview", OVERVIEW),
    "gandt-embedding": ("G&T embedding", EMBEDDING),
    "gandt-search": ("G&T vector search and selection", SEARCH),
    "gandt-labeling": ("G&T labeling and money", LABELING),
    "gandt-quality": ("G&T labeling quality", QUALITY),
}


def files() -> dict[Path, str]:
    """Every dashboard's file with its content."""
    return {
        FOLDER / f"{uid}.json": json.dumps(dashboard(uid, *what), indent=1) + "\n" for uid, what in DASHBOARDS.items()
    }


def dashboard(uid: str, title: str, rows: Rows) -> dict[str, Any]:
    """A dashboard in Grafana's JSON."""
    panels: list[dict[str, Any]] = []
    top = 0
    for name, row in rows:
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": name, "gridPos": {"h": 1, "w": 24, "x": 0, "y": top}}
        )
        width = 24 // len(row)
        for i, panel in enumerate(row):
            panels.append(drawn(panel, len(panels) + 1, {"h": 8, "w": width, "x": i * width, "y": top + 1}))
        top += 9
    return {
        "uid": uid,
        "title": title,
        "tags": ["gandt"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "links": [{"type": "dashboards", "title": "G&T", "tags": ["gandt"], "asDropdown": True, "keepTime": True}],
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
                {
                    "name": "namespace",
                    "type": "query",
                    "label": "Namespace",
                    "datasource": {"type": "prometheus", "uid": "${datasource}"},
                    "query": 'label_values(up{job=~"gandt-.+"}, namespace)',
                    "refresh": 2,
                    "includeAll": True,
                    "allValue": ".*",
                    "current": {"text": "All", "value": "$__all"},
                },
            ]
        },
        "panels": panels,
    }


def drawn(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    """A panel in Grafana's JSON."""
    targets = [
        {
            "refId": chr(ord("A") + i),
            "expr": query,
            "legendFormat": legend or panel.title,
            "format": "heatmap" if panel.kind == "heatmap" else "time_series",
        }
        for i, (legend, query) in enumerate(panel.queries.items())
    ]
    defaults: dict[str, Any] = {"unit": panel.unit}
    if panel.unit == "percentunit":
        defaults |= {"min": 0, "max": 1}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.note,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": targets,
    }
