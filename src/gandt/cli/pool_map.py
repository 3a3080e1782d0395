# SPDX-License-Identifier: GPL-3.0-or-later
"""Gathers what the map of the pool shows: vectors from vector search, picks and labels, and what a filter discards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gandt.cli.context import Context
from gandt.domain.datasets import Arm, LabeledImage, LabelStatus
from gandt.domain.errors import GandtError
from gandt.domain.report.figures import CampaignRecord

if TYPE_CHECKING:
    from gandt.client.jobcontroller import JobControllerClient
    from gandt.client.vectorsearch import VectorSearchClient
    from gandt.domain.search_records import Collection

LIVE = "_live"
MOST_IMAGES = 50_000  # a dot each; more would make a page of many megabytes
DISCARD_SHARE = 0.5
TITLE = "The pool in two dimensions"


def pool_map(ctx: Context, client: JobControllerClient, campaign_id: str, record: CampaignRecord) -> Mapping[str, str]:
    """The map as SVG by its title; nothing where the vectors cannot be read."""
    import numpy as np

    from gandt.domain.report.pool_map import map_svg, series_of, two_dimensions

    try:
        found = collection_in_use(ctx.connect("vectorsearch"))
        if found is None or not 3 <= found.items <= MOST_IMAGES:
            return {}
        blocks = list(ctx.connect("vectorsearch").scan(found.name))
    except GandtError as error:
        ctx.out.warn(f"the report has no map of the pool: {error}")
        return {}
    ids = [image for block in blocks for image in block.ids]
    labeled = _labeled(client, campaign_id, record)
    picked = {
        pick.image_id: pick.arm for r in client.list_rounds(campaign_id) for pick in client.get_round(r.round_id).picks
    }
    discarded = _discarded(ctx, found, labeled, record)
    wanted = {image: bool(set(record.target_labels).intersection(one.labels)) for image, one in labeled.items()}
    places = two_dimensions(np.concatenate([np.asarray(block.matrix, np.float32) for block in blocks]))
    control = [picked.get(image) == Arm.CONTROL for image in ids]
    return {TITLE: map_svg(places, series_of(ids, wanted, picked, discarded), control)}


def collection_in_use(client: VectorSearchClient) -> Collection | None:
    """The project's collection: the one under the live alias, or else the only one."""
    found = client.list_collections()
    live = [one for one in found if any(alias.endswith(LIVE) for alias in one.aliases)]
    choice = live or found
    return choice[0] if len(choice) == 1 else None


def _labeled(client: JobControllerClient, campaign_id: str, record: CampaignRecord) -> dict[str, LabeledImage]:
    trusted = (LabelStatus.CERTAIN, LabelStatus.UNCERTAIN)
    other = (record.other_label,) if record.other_label else ()
    known = {}
    for label in client.list_labels(campaign_id, include_seeds=True):
        labels = label.labels or other
        if label.status in trusted and labels and label.confidence > 0:
            known[label.image_id] = LabeledImage(label.image_id, labels, min(1.0, label.confidence))
    return known


def _discarded(
    ctx: Context, found: Collection, labeled: Mapping[str, LabeledImage], record: CampaignRecord
) -> set[str]:
    """What the filter leaves out at one half of the unlabeled images; nothing where it cannot judge."""
    from gandt.domain.selection.records import Decision, FilterSpec, PoolSource

    if not record.other_label or not record.target_labels:
        return set()
    spec = FilterSpec(
        pool=PoolSource(collection=found.name, model_id=found.model_id),
        other_label=record.other_label,
        discard_share=DISCARD_SHARE,
        target_labels=record.target_labels,
    )
    try:
        blocks = list(ctx.connect("selection").filter(spec, labeled.values()))
    except GandtError:  # too few labels for it; the map says none were discarded
        return set()
    return {
        image
        for block in blocks
        for image, decision in zip(block.image_ids, block.decisions, strict=True)
        if decision is Decision.DISCARD
    }
