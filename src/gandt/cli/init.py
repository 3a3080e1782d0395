# SPDX-License-Identifier: GPL-3.0-or-later
"""Creates a project: a gandt.toml that says what to label, and a .gandt folder for its state.

gandt init --classes owl,hawk --target owl --budget 20
"""

from __future__ import annotations

import argparse
import json
import os

from gandt.cli import exit_codes
from gandt.cli.campaign_flags import add_flags, ensure_project, spec_from
from gandt.cli.configuration import KEYS
from gandt.cli.context import Context
from gandt.domain.errors import AlreadyExists

HAS_DRY_RUN = True


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="*", metavar="DIR", help="folders of images, for gandt ingest")
    add_flags(parser)


def run(args: argparse.Namespace, ctx: Context) -> int:
    target = ctx.project_dir / "gandt.toml"
    if target.exists():
        raise AlreadyExists(
            f"{target} is there already",
            kind="project",
            id=str(ctx.project_dir),
            reason="PROJECT_EXISTS",
            fix="edit it, or choose another folder with --project DIR",
        )
    spec = spec_from(args, ctx)
    settings = ctx.config.section("project") | {
        "name": spec.name,
        "images": [image_folder(source, ctx) for source in args.images],
        "classes": list(spec.classes),
        "other_label": spec.other_label,
        "multi_label": spec.multi_label,
        "target_labels": list(spec.target_labels),
        "instructions": spec.instructions,
        "budget_usd": spec.budget_usd_micros / 1e6,
        "price_per_page_usd": spec.price_per_page_usd_micros / 1e6,
        "round_size": spec.round_size,
        "workers_per_image": spec.workers_per_image,
        "max_workers_per_image": spec.max_workers_per_image,
        "strategy": args.strategy or "",
        "method": args.method or "",
        "max_rounds": spec.stop.max_rounds,
        "max_labels": spec.stop.max_labels,
        "max_answers": spec.stop.max_answers,
        **({"prove_recall": spec.stop.prove_recall} if spec.stop.prove_recall else {}),
        **({"min_yield": args.min_yield} if args.min_yield is not None else {}),
        **({"confidence": args.confidence} if args.confidence is not None else {}),
        **({"part_size": spec.part_size} if spec.part_size else {}),
        "seed": ctx.seed,
    }
    if not args.dry_run:
        ensure_project(ctx.project_dir)
        target.write_text(toml_of(settings), encoding="utf-8")
    ctx.out.summary(
        {"project": str(ctx.project_dir), "config": str(target), "classes": list(spec.classes)},
        f"{target} is written; next: gandt ingest {' '.join(args.images) or 'DIR'}",
    )
    return exit_codes.DONE


def toml_of(settings: dict[str, object]) -> str:
    """A commented gandt.toml."""
    lines = [
        "# What to label, and how far. Every key is explained; `gandt config show` prints all in force.",
        "[project]",
    ]
    for key, value in settings.items():
        lines += [f"# {KEYS['project'][key][1]}", f"{key} = {json.dumps(value, ensure_ascii=False)}"]
    lines += ["", "[embedding]", '# model = "mobilenet_v2"', '# weights = "weights.safetensors"']
    return "\n".join(lines) + "\n"


def image_folder(source: str, ctx: Context) -> str:
    """A folder as gandt.toml names it: from the project's own folder."""
    if source.startswith("s3://"):
        return source
    return os.path.relpath(source, ctx.project_dir)
