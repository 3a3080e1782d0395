# SPDX-License-Identifier: GPL-3.0-or-later
"""Collects a campaign's records from the controller and writes report.html and report.json."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from gandt.cli.context import Context
from gandt.cli.paths import shown_path
from gandt.domain.datasets import Arm, LabelStatus
from gandt.domain.images import split_uri
from gandt.domain.report.figures import CampaignRecord, Figures, LabeledPick, RoundRecord, WorkerRecord, figures_of
from gandt.domain.report.html import HARDEST, report_html, verdict
from gandt.tables.files import replacing

if TYPE_CHECKING:
    from gandt.client.jobcontroller import JobControllerClient
    from gandt.domain.labeling.campaigns import Campaign

THUMBNAIL_SECONDS = 2.0


def write_report(
    ctx: Context,
    client: JobControllerClient,
    campaign_id: str,
    output: str,
    truth: Mapping[str, tuple[str, ...]] | None = None,
    stage_seconds: Mapping[str, float] | None = None,
) -> tuple[Figures, str]:
    """Writes both files.

    Args:
        truth: true labels by image id; figures against the truth are left out without it.
        stage_seconds: time by stage, where it was measured.
    Returns:
        The figures and the verdict in one sentence.
    """
    from gandt.cli.charts import extra_charts, guarantee
    from gandt.cli.pool_map import pool_map
    from gandt.cli.worker_charts import worker_charts

    record = collect(client, client.get_campaign(campaign_id), truth or {}, stage_seconds or {})
    figures = figures_of(record)
    charts = {**pool_map(ctx, client, campaign_id, record), **extra_charts(record)}
    charts.update(worker_charts(client, campaign_id, record))
    page = report_html(record, figures, guarantee(record), charts, thumbnails(ctx, client, record))
    with replacing(output) as scratch:
        scratch.write_text(page, encoding="utf-8")
    with replacing(str(Path(output).with_suffix(".json"))) as scratch:
        scratch.write_text(json.dumps(figures.to_json(), indent=1, default=str), encoding="utf-8")
    return figures, verdict(figures)


def collect(
    client: JobControllerClient,
    campaign: Campaign,
    truth: Mapping[str, tuple[str, ...]],
    stage_seconds: Mapping[str, float],
) -> CampaignRecord:
    """Everything that the figures are computed from."""
    spec, identity = campaign.spec, campaign.campaign_id
    labels = {label.image_id: label for label in client.list_labels(identity, include_seeds=True)}
    seeds = {image for image, label in labels.items() if label.source == "seed"}
    rounds, picks = [], []
    for listed in client.list_rounds(identity):
        full = client.get_round(listed.round_id)
        control = [p.pool_size for p in full.picks if p.arm == Arm.CONTROL]
        rounds.append(
            RoundRecord(
                full.number,
                full.strategy,
                full.explanation,
                full.images,
                full.answers,
                full.cost,
                max(control, default=0),
            )
        )
        for pick in full.picks:
            label = labels.get(pick.image_id)
            if label is None or label.source == "seed" or not (label.answers or label.source == "review"):
                continue
            picks.append(
                LabeledPick(
                    image_id=pick.image_id,
                    path=shown_path(pick.image_id, label.uris),
                    labels=label.labels,
                    confidence=label.confidence,
                    status=LabelStatus(label.status),
                    answers=label.answers,
                    agreeing=label.agreeing,
                    round=full.number,
                    rank=pick.rank,
                    arm=Arm(pick.arm),
                    reason=pick.reason,
                    truth=truth.get(pick.image_id),
                )
            )
    targets = set(spec.target_labels)
    pages = -(-(campaign.images - len(seeds)) // spec.group_size)
    workers = [
        WorkerRecord(w.worker_id, w.answers, w.reliability, w.low, w.high, w.gold_accuracy, w.verdict)
        for w in client.list_workers(identity)
    ]
    return CampaignRecord(
        name=spec.name,
        classes=spec.space.classes,
        target_labels=spec.target_labels,
        other_label=spec.other_label,
        state=str(campaign.state),
        message=campaign.message,
        images=campaign.images,
        seeds=len(seeds),
        seed_targets=sum(bool(targets.intersection(labels[i].labels)) for i in seeds),
        pool_truth=sum(bool(targets & set(t)) for i, t in truth.items() if i not in seeds)
        if truth and targets
        else None,
        picks=picks,
        rounds=rounds,
        workers=workers,
        budget_usd_micros=campaign.money.budget,
        spent_usd_micros=campaign.money.spent,
        workers_per_image=spec.workers_per_image,
        fixed_cost_usd_micros=pages
        * (spec.fee_per_page_usd_micros + spec.workers_per_image * spec.price_per_page_usd_micros),
        stage_seconds=stage_seconds,
        versions={
            "gandt": version("gandt"),
            "campaign": identity,
            "strategy": spec.strategy,
            "aggregation": spec.method,
            "seed": str(spec.seed),
            "images": f"{campaign.images:,}",
        },
        proof=client.get_proof(identity),
        prove_recall=spec.stop.prove_recall,
    )


def thumbnails(ctx: Context, client: JobControllerClient, record: CampaignRecord) -> dict[str, str]:
    """Data URIs of the hardest images, fetched as a browser would; the report does without where that fails."""
    base = ctx.labeling_url()
    if not base:
        return {}
    wanted = {p.image_id for p in sorted(record.picks, key=lambda p: (p.confidence, p.image_id))[:HARDEST]}
    found = {}
    for image in client.list_images():
        if image.image_id not in wanted or not image.thumbnail_uri:
            continue
        bucket, key = split_uri(image.thumbnail_uri)
        try:
            with urllib.request.urlopen(f"{base}/s3/{bucket}/{key}", timeout=THUMBNAIL_SECONDS) as answer:
                found[image.image_id] = "data:image/jpeg;base64," + base64.b64encode(answer.read()).decode()
        except (urllib.error.URLError, OSError):
            return found
    return found
