# SPDX-License-Identifier: GPL-3.0-or-later
"""Columns of the tables that gandt only writes; more may follow, these come first and in this order."""

from __future__ import annotations

PICK_COLUMNS = ("image", "rank", "score", "reason", "arm", "inclusion_probability", "pool_size", "round")
DECISION_COLUMNS = ("image", "decision", "farther_than_other")  # then one distance column a label
GROUP_COLUMNS = ("group", "image", "representative", "similarity")
WORKER_COLUMNS = ("worker", "answers", "reliability", "low", "high", "gold_accuracy", "verdict")
WORKER_ESTIMATES = (  # what the method's model and the times say of a worker
    "estimated_accuracy",
    "estimated_low",
    "estimated_high",
    "one_label_share",
    "spammer_score",
    "too_fast_share",
)
