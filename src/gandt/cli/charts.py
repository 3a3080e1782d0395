# SPDX-License-Identifier: GPL-3.0-or-later
"""What the report takes from the cores of selection and aggregation: the guarantee, and the original's plot."""

from __future__ import annotations

from collections.abc import Mapping

from gandt.domain.datasets import Arm, LabelEstimate
from gandt.domain.report.figures import CampaignRecord, Figures

ALPHA = 0.1


def extra_charts(record: CampaignRecord) -> Mapping[str, str]:
    """Further charts by title."""
    from gandt.domain.aggregation.majority_plot import majority_plot, majority_proportions

    estimates = [
        LabelEstimate(p.image_id, p.labels, p.confidence, p.status, p.answers, p.agreeing) for p in record.picks
    ]
    if not estimates:
        return {}
    return {"How many workers agree": majority_plot(majority_proportions(estimates))}


def guarantee(record: CampaignRecord, figures: Figures) -> str:
    """What the control draws prove of recall, in words; "consensus" because nobody checked the labels themselves."""
    if not record.target_labels:
        return "No label was wanted, so there is no share of wanted images to prove."
    if not figures.control_labels:
        return "There were no control draws, so nothing can be said of the images that were not labeled."
    from gandt.domain.selection.prevalence import ControlDraw, prevalence
    from gandt.domain.selection.recall_bound import recall_bound

    targets = set(record.target_labels)
    found, draws = record.seed_targets, []
    for number, pool in ((r.number, r.control_pool) for r in record.rounds):
        picks = [p for p in record.picks if p.round == number]
        control = [bool(targets & set(p.labels)) for p in picks if p.arm == Arm.CONTROL]
        if control:
            draws.append(ControlDraw(pool, len(control), sum(control), found))
        found += sum(bool(targets & set(p.labels)) for p in picks)
    estimate = prevalence(draws, record.images)
    bound = recall_bound(draws, found, record.images, ALPHA)
    text = (
        f"With {1 - ALPHA:.0%} confidence, at every look, at least {bound:.1%} of all wanted images "
        f"(of consensus labels) are found; this rests on {figures.control_labels} images drawn uniformly."
    )
    if estimate is not None:
        text += (
            f" They estimate {estimate.total:.0f} wanted images in all (standard error {estimate.standard_error:.0f}), "
            f"of which {found} are known."
        )
    return text + " Proving more takes more control draws: finding is cheap, proving is not."
