# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's plots on people: confusions of workers, and whether confidence can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gandt.domain.datasets import LabelStatus
from gandt.domain.report.figures import CampaignRecord
from gandt.domain.report.worker_plots import calibration_bins, calibration_plot, confusion_plot, confusions

if TYPE_CHECKING:
    from gandt.client.jobcontroller import JobControllerClient


def worker_charts(client: JobControllerClient, campaign_id: str, record: CampaignRecord) -> Mapping[str, str]:
    """Charts by title; what is right is the truth where it is known, else the final labels."""
    known = [pick for pick in record.picks if pick.truth is not None]
    labeled = [pick for pick in record.picks if pick.status is not LabelStatus.UNLABELED]
    right = {p.image_id: p.truth for p in known if p.truth is not None} or {p.image_id: p.labels for p in labeled}
    against = "the truth" if known else "the final labels"
    found = confusions(client.list_answers(campaign_id), right, record.classes, against)
    charts = {}
    if found.counts:
        charts["Who takes what for what"] = confusion_plot(found)
    judged = [p for p in known if p.status is not LabelStatus.UNLABELED]
    bins = calibration_bins((p.confidence, set(p.labels) == set(p.truth or ())) for p in judged)
    if bins:
        charts["How far confidence can be trusted"] = calibration_plot(bins)
    return charts
