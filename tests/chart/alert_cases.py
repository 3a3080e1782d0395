# SPDX-License-Identifier: GPL-3.0-or-later
"""For each alert: series with which it fires, and series with which it stays silent, in promtool's notation."""

from __future__ import annotations

from dataclasses import dataclass

NS = 'namespace="v"'
_SEARCH = f'{NS},grpc_service="gandt.vectorsearch.v1.VectorSearchService",grpc_method="Search"'
_HANDLED = f'grpc_server_handled_total{{{NS},grpc_service="gandt.selection.v1.SelectionService",grpc_method="Select"'
_FAST = f'grpc_server_handling_seconds_bucket{{{_SEARCH},le="0.25"}}'
_ALL = f"grpc_server_handling_seconds_count{{{_SEARCH}}}"

Series = dict[str, str]


@dataclass(frozen=True)
class Case:
    """What happens to one alert.

    Args:
        fires: series that make it fire at `minutes`.
        silent: series that look alike and do not.
        minutes: when it is looked at.
    """

    fires: Series
    silent: Series
    minutes: int = 120


def calls(good: str, bad: str, code: str = "Internal") -> Series:
    """Calls of a service that went well and that did not."""
    return {f'{_HANDLED},grpc_code="OK"}}': good, f'{_HANDLED},grpc_code="{code}"}}': bad}


def searches(within: str, all_of_them: str) -> Series:
    """Searches within a quarter of a second, and all."""
    return {_FAST: within, _ALL: all_of_them}


def one(name: str, labels: str, values: str) -> Series:
    """One series."""
    return {f"{name}{{{NS}{labels}}}": values}


DAY = 24 * 60
CASES: dict[str, Case] = {
    "GandtRpcErrorBudgetBurn": Case(
        calls("0+90x180", "0+10x180"),
        {**calls("0+100x180", "0+0.1x180"), **calls("0+100x180", "0+40x180", "InvalidArgument")},
    ),
    "GandtRpcErrorBudgetLeak": Case(
        calls(f"0+98x{DAY}", f"0+2x{DAY}"), calls(f"0+999x{DAY}", f"0+1x{DAY}"), minutes=DAY - 60
    ),
    "GandtSearchLatencyBudgetBurn": Case(searches("0+10x180", "0+100x180"), searches("0+97x180", "0+100x180")),
    "GandtSearchLatencyBudgetLeak": Case(
        searches(f"0+80x{DAY}", f"0+100x{DAY}"), searches(f"0+97x{DAY}", f"0+100x{DAY}"), minutes=DAY - 60
    ),
    "GandtTargetDown": Case(
        one("up", ',job="gandt-selection"', "1x30 0x90"), one("up", ',job="gandt-selection"', "1x57 0x2 1x60")
    ),
    "GandtAbsent": Case(one("up", ',job="other"', "1x120"), one("up", ',job="gandt-selection"', "0x120")),
    "GandtProcessRestarts": Case(
        one("process_start_time_seconds", ',job="gandt-labeling"', "0+60x120"),
        one("process_start_time_seconds", ',job="gandt-labeling"', "0x60 60x60"),
    ),
    "GandtEmbeddingQueueLong": Case(
        {
            **one("gandt_embedding_queue_seconds_bucket", ',le="30"', "0+1x120"),
            **one("gandt_embedding_queue_seconds_bucket", ',le="60"', "0+10x120"),
            **one("gandt_embedding_queue_seconds_bucket", ',le="+Inf"', "0+10x120"),
        },
        {
            **one("gandt_embedding_queue_seconds_bucket", ',le="30"', "0+10x120"),
            **one("gandt_embedding_queue_seconds_bucket", ',le="60"', "0+10x120"),
            **one("gandt_embedding_queue_seconds_bucket", ',le="+Inf"', "0+10x120"),
        },
    ),
    "GandtEmbeddingStalled": Case(
        {
            **one("gandt_embedding_queue_items", "", "8x120"),
            **one("gandt_embedding_images_total", ',result="ok"', "5x120"),
        },
        {
            **one("gandt_embedding_queue_items", "", "8x120"),
            **one("gandt_embedding_images_total", ',result="ok"', "0+5x120"),
        },
    ),
    "GandtEmbeddingImagesFailing": Case(
        {
            **one("gandt_embedding_images_total", ',result="ok"', "0+90x120"),
            **one("gandt_embedding_images_total", ',result="error"', "0+10x120"),
        },
        {
            **one("gandt_embedding_images_total", ',result="ok"', "0+1x120"),
            **one("gandt_embedding_images_total", ',result="error"', "0+1x120"),
        },
    ),
    "GandtSearchRecallLow": Case(
        one("gandt_vectorsearch_recall_canary", "", "0.9x120"), one("gandt_vectorsearch_recall_canary", "", "0.99x120")
    ),
    "GandtJobStuck": Case(
        {
            **one("gandt_job_age_seconds", "", "0+60x600"),
            **one("gandt_labeling_answers_total", ',result="accepted"', "7x600"),
        },
        {
            **one("gandt_job_age_seconds", "", "0+60x600"),
            **one("gandt_labeling_answers_total", ',result="accepted"', "0+1x600"),
        },
        minutes=500,
    ),
    "GandtNoWorkers": Case(
        {
            **one("gandt_labeling_tasks", ',state="open"', "4x120"),
            **one("gandt_labeling_tasks", ',state="closed"', "9x120"),
            **one("gandt_labeling_active_workers", "", "0x120"),
        },
        {
            **one("gandt_labeling_tasks", ',state="open"', "0x120"),
            **one("gandt_labeling_tasks", ',state="closed"', "9x120"),
            **one("gandt_labeling_active_workers", "", "0x120"),
        },
    ),
    "GandtAnswersRefused": Case(
        {
            **one("gandt_labeling_answers_total", ',result="accepted"', "0+5x120"),
            **one("gandt_labeling_answers_total", ',result="lease_lost"', "0+5x120"),
        },
        {
            **one("gandt_labeling_answers_total", ',result="accepted"', "0+5x120"),
            **one("gandt_labeling_answers_total", ',result="repeated"', "0+5x120"),
        },
    ),
    "GandtBudgetNearlySpent": Case(
        {
            **one("gandt_budget_limit", "", "100x120"),
            **one("gandt_budget_spent", "", "80x120"),
            **one("gandt_budget_reserved", "", "15x120"),
        },
        {
            **one("gandt_budget_limit", "", "0x120"),
            **one("gandt_budget_spent", "", "0x120"),
            **one("gandt_budget_reserved", "", "0x120"),
        },
    ),
    "GandtBudgetExceeded": Case(
        {**one("gandt_budget_limit", "", "100x120"), **one("gandt_budget_spent", "", "101x120")},
        {**one("gandt_budget_limit", "", "100x120"), **one("gandt_budget_spent", "", "100x120")},
    ),
    "GandtAgreementLow": Case(
        one("gandt_aggregation_agreement", "", "0.4x120"), one("gandt_aggregation_agreement", "", "0x120")
    ),
}
