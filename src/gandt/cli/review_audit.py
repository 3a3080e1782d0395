# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit of a project's certain labels: draws what an expert is to judge, and tells what judgments prove."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from gandt.cli import exit_codes
from gandt.cli.aggregate_tables import audit_told
from gandt.cli.context import Context
from gandt.cli.paths import shown_path
from gandt.domain.aggregation.audit_sample import ALPHA, audited, draw_order, price, spoken, uncounted, unheard
from gandt.domain.aggregation.trust import price_text
from gandt.domain.datasets import LabelStatus
from gandt.domain.errors import InvalidInput
from gandt.tables.files import write_rows
from gandt.tables.labels import read_gold


def run(args: argparse.Namespace, ctx: Context) -> int:
    """Draws, or counts, or both; labels stay as they are."""
    seed = args.seed or 0
    if not 0 <= seed < 1 << 64 or (args.audit_size or 0) < 0:
        raise InvalidInput("neither --seed nor --audit-size may be negative", field="audit_size", reason="BAD_NUMBER")
    none_wrong, some_wrong, share = price(args.audit_target)
    if args.audit_out:
        ctx.out.note(f"an audit's price: {price_text(args.audit_target, 1 - ALPHA, none_wrong, some_wrong, share)}")
    certain = [
        label
        for label in ctx.connect("jobcontroller").list_labels(args.campaign, LabelStatus.CERTAIN)
        if label.source == "workers"
    ]
    images = [shown_path(label.image_id, label.uris) for label in certain]
    order = draw_order([label.image_id for label in certain], seed)
    size = some_wrong if args.audit_size is None else args.audit_size
    if args.audit_out:
        drawn = order[:size].tolist()
        write_rows(
            args.audit_out, ("image", "place"), ({"image": images[i], "place": n} for n, i in enumerate(drawn, 1))
        )
    several = any(len(label.labels) != 1 for label in certain)
    judged = spoken(read_gold(args.audit) if args.audit else {}, several)
    classes = {name for label in certain for name in label.labels}
    for text in (*uncounted(images, order, judged), *unheard(judged, classes)):
        ctx.out.warn(text)
    audit = audited(images, [label.labels for label in certain], order, judged, args.audit_target)
    for text in audit_told(audit):
        ctx.out.note(text)
    ctx.out.summary({"audit": asdict(audit), "output": args.audit_out}, f"{len(certain)} labels are certain")
    return exit_codes.DONE if certain else exit_codes.NOTHING
