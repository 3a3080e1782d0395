# SPDX-License-Identifier: GPL-3.0-or-later
"""What the report says of the proof, and the original's plot."""

from __future__ import annotations

from collections.abc import Mapping

from gandt.domain.datasets import LabelEstimate
from gandt.domain.report.figures import CampaignRecord


def extra_charts(record: CampaignRecord) -> Mapping[str, str]:
    """Further charts by title."""
    from gandt.domain.aggregation.majority_plot import majority_plot, majority_proportions

    estimates = [
        LabelEstimate(p.image_id, p.labels, p.confidence, p.status, p.answers, p.agreeing) for p in record.picks
    ]
    if not estimates:
        return {}
    return {"How many workers agree": majority_plot(majority_proportions(estimates))}


def guarantee(record: CampaignRecord) -> str:
    """What the control draws prove of recall, in words."""
    proof = record.proof
    if proof is None:
        return "No label was wanted, so there is no share of wanted images to prove."
    text = f"{proof.sentence[0].upper()}{proof.sentence[1:]}."
    if record.prove_recall:
        return text
    return f"{text} No proof was asked for: finding takes few labels, proving takes many."
