# SPDX-License-Identifier: GPL-3.0-or-later
"""`gandt embed --text`: vectors of phrases, to be looked up among those of images of the same model."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import numpy as np

from gandt.cli import exit_codes
from gandt.cli.context import Context
from gandt.cli.embed_sources import check_model, refuse_model_flags, settings_of
from gandt.domain.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gandt.domain.embedding import ModelInfo


def run_texts(args: argparse.Namespace, ctx: Context) -> int:
    """Writes a vectors file with a row for each phrase, which stands in the column `image`."""
    if args.paths or args.manifest or args.shard:
        raise InvalidInput(
            "--text stands alone, without PATH, --manifest and --shard",
            field="text",
            reason="USAGE",
            fix="embed images and phrases with two commands and the same model",
        )
    if not args.output or args.output.startswith("s3://") or not args.output.lower().endswith(".parquet"):
        raise InvalidInput(
            "vectors of phrases go to a file that ends in .parquet",
            field="output",
            reason="UNKNOWN_FORMAT",
            fix="add -o phrases.parquet",
        )
    from gandt.tables.vectors import VectorsWriter

    phrases = list(dict.fromkeys(args.text))
    info, vectors = _embedded(args, ctx, phrases)
    ctx.out.note(f"model {info.model_id}: {info.dim} numbers")
    if not args.dry_run:
        with VectorsWriter(args.output, info.dim, info.model_id) as writer:
            writer.write(phrases, vectors)
    ctx.out.summary(
        {"output": args.output, "texts": len(phrases), "model": info.name, "model_id": info.model_id, "dim": info.dim},
        f"{len(phrases)} phrases {'would be' if args.dry_run else 'are'} in {args.output}",
    )
    return exit_codes.DONE


def _embedded(args: argparse.Namespace, ctx: Context, phrases: Sequence[str]) -> tuple[ModelInfo, NDArray[np.float32]]:
    remote = ctx.endpoint or ctx.config.get("endpoints", "embedding")
    if remote:
        refuse_model_flags(args, remote)
        client = ctx.connect("embedding")
        info = client.get_model()
        check_model(args, info)
        return info, client.embed_texts(phrases, info.model_id)
    from gandt_embedding.bootstrap import open_texts

    settings = ctx.embedded().settings("embedding", **settings_of(args))
    model = open_texts(settings)
    prepared = [model.prepare_text(phrase) for phrase in phrases]
    size = settings.max_batch
    parts = [model.embed_texts(prepared[start : start + size]) for start in range(0, len(prepared), size)]
    return model.info, np.concatenate(parts)
