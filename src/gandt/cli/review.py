# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists the labels that are in doubt, or records an expert's decisions.

gandt review                          uncertain, tied and unlabeled images
gandt review --decide decisions.csv   a table with image,label
gandt review --audit-out sample.csv   certain labels for an expert to judge, drawn uniformly; then
gandt review --audit judged.csv       bound the wrong ones among the certain labels
"""

from __future__ import annotations

import argparse

from gandt.cli import exit_codes
from gandt.cli.audit_flags import add_audit_flags
from gandt.cli.context import Context
from gandt.cli.paths import shown_path
from gandt.domain.datasets import join_labels


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--decide", metavar="FILE", help="table image,label of decisions")
    parser.add_argument("--reviewer", default="reviewer", metavar="NAME", help="who decides, as a pseudonym")
    parser.add_argument("--campaign", default="", metavar="ID", help="campaign (default: the newest)")
    add_audit_flags(parser)


def run(args: argparse.Namespace, ctx: Context) -> int:
    from gandt.domain.labeling.outcomes import GivenLabel
    from gandt.tables.labels import read_gold

    ctx.require_project()
    if args.audit_out or args.audit:
        from gandt.cli.review_audit import run as run_audit

        return run_audit(args, ctx)
    client = ctx.connect("jobcontroller")
    if args.decide:
        reviews = [GivenLabel(image, labels) for image, labels in read_gold(args.decide).items()]
        report = client.review_labels(reviews, args.reviewer, args.campaign)
        for rejected in report.rejected:
            ctx.out.warn(f"{args.decide}: {rejected.error}")
        values = {"reviewed": report.imported, "rejected": len(report.rejected)}
        ctx.out.summary(values, f"{report.imported} decisions are recorded")
        return exit_codes.PARTIAL if report.rejected else exit_codes.DONE
    doubtful = [label for label in client.list_labels(args.campaign) if label.status != "certain"]
    doubtful.sort(key=lambda label: (label.confidence, label.image_id))
    rows = [
        [
            shown_path(label.image_id, label.uris),
            join_labels(label.labels),
            label.status,
            label.confidence,
            f"{label.agreeing} of {label.answers}",
        ]
        for label in doubtful
    ]
    ctx.out.table(("image", "label", "status", "confidence", "agree"), rows)
    found = [
        {
            "image": shown_path(x.image_id, x.uris),
            "image_id": x.image_id,
            "label": join_labels(x.labels),
            "status": x.status,
        }
        for x in doubtful
    ]
    ctx.out.summary({"doubtful": found}, f"{len(doubtful)} labels are in doubt")
    return exit_codes.DONE if doubtful else exit_codes.NOTHING
