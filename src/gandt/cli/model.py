# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes an embedding model for OpenVINO, to be used where torch is not installed.

gandt model export --model resnet50 --weights resnet50.pth -o resnet50.xml
gandt embed photos --weights resnet50.xml -o vectors.parquet

Its numbers go to resnet50.bin; keep both files together. Vectors, and so the fingerprint, are those of the original.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gandt.cli import exit_codes
from gandt.cli.context import Context
from gandt.domain.errors import InvalidInput


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("action", choices=["export"], help="write a file")
    parser.add_argument("--model", metavar="NAME", help="torchvision's name, timm:NAME or open_clip:NAME/PRETRAINED")
    parser.add_argument("--weights", metavar="FILE", help="its weights: a file, s3://bucket/key, or DEFAULT")
    parser.add_argument(
        "--weights-config", metavar="FILE", help="their description, if it is not FILE.toml beside them"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="the file to write; ends in .xml")


def run(args: argparse.Namespace, ctx: Context) -> int:
    """Exports the model of the flags, else of the configuration."""
    if not args.output:
        raise InvalidInput("no output file is named", field="output", reason="USAGE", fix="add -o MODEL.xml")
    from gandt_embedding.bootstrap import export_model
    from gandt_embedding.settings import Settings

    from gandt.runtime.settings import layered

    given = {"model": args.model, "weights": args.weights, "weights_config": args.weights_config}
    overrides = {key: value for key, value in given.items() if value is not None}
    settings = layered(Settings, arguments=overrides, section=ctx.config.services["embedding"])
    path = Path(args.output)
    architecture = export_model(settings, path)
    size = path.stat().st_size + path.with_suffix(".bin").stat().st_size
    values = {"output": str(path), "numbers": str(path.with_suffix(".bin")), "model": architecture, "bytes": size}
    ctx.out.summary(values, f"{architecture} is in {path} and {path.with_suffix('.bin').name} ({size / 1e6:.1f} MB)")
    return exit_codes.DONE
