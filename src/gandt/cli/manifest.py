# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a Ground Truth input manifest: images grouped into pages, one line a page.

  gandt manifest --images images.csv --classes cat,dog --other-label Other -o input.manifest

Images are dealt onto the pages in turn, so neighbors in the list come apart. --compat writes the original project's
bytes: without ids, checks or removal of repeated images.
"""

from __future__ import annotations

import argparse
import hashlib
import sys

from gandt.cli import exit_codes
from gandt.cli.context import Context
from gandt.domain.errors import InvalidInput
from gandt.domain.labeling.manifest import (
    GROUP_SIZE,
    Tile,
    prepare_manifest,
    prepare_manifest_compat,
    question,
    unique_tiles,
)
from gandt.tables.files import check_columns, read_rows, replacing


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's flags."""
    parser.add_argument("--images", required=True, metavar="FILE", help="table with a column uri or image (s3://...)")
    parser.add_argument(
        "--classes", required=True, metavar="A,B,C", help="labels to choose from, without the other one"
    )
    parser.add_argument("--other-label", default="Other", metavar="LABEL", help="none of these (default: Other)")
    parser.add_argument("--group-size", type=int, default=GROUP_SIZE, metavar="N", help="images a page (default: 20)")
    parser.add_argument(
        "--positive-examples", action="append", default=[], metavar="URI", help="picture that fits; may repeat"
    )
    parser.add_argument(
        "--negative-examples", action="append", default=[], metavar="URI", help="picture that does not fit; may repeat"
    )
    parser.add_argument("--compat", action="store_true", help="the original project's bytes exactly")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="manifest to write; - is stdout")


def run(args: argparse.Namespace, ctx: Context) -> int:
    """Writes the manifest."""
    if ctx.out.as_json and args.output == "-":
        raise InvalidInput("--json and -o - both want stdout", reason="USAGE", fix="name a file with -o")
    tiles = _read_tiles(args.images, check=not args.compat)
    classes = args.classes.split(",")
    repeated = 0
    if args.compat:
        lines = prepare_manifest_compat(
            [tile.uri for tile in tiles],
            args.positive_examples,
            args.negative_examples,
            classes,
            args.other_label,
            args.group_size,
        )
        data = "".join(line + "\n" for line in lines).encode()
    else:
        asked = question(classes, args.other_label, args.positive_examples, args.negative_examples)
        tiles, repeated = unique_tiles(tiles)
        if repeated:
            ctx.out.warn(f"{repeated:,} repeated images are left out")
        data = prepare_manifest(tiles, asked, args.group_size).data
    if not tiles and not args.compat:
        raise InvalidInput(f"{args.images} names no image", field="images", reason="NOTHING_TO_DO")
    _write(args.output, data)
    pages = data.count(b"\n")
    ctx.out.summary(
        {
            "images": len(tiles),
            "pages": pages,
            "repeated": repeated,
            "output": args.output,
            "sha256": hashlib.sha256(data).hexdigest(),
        },
        f"{len(tiles):,} images on {pages:,} pages -> {args.output}",
    )
    return exit_codes.DONE


def _read_tiles(path: str, check: bool) -> list[Tile]:
    """The images of the table; where it has both columns, `image` becomes the tile's id."""
    tiles = []
    for row in read_rows(path, ()):
        uri, image = row.text("uri").strip(), row.text("image").strip()
        if not uri and not image:
            check_columns(list(row.values), path, ("image",))
            raise InvalidInput(f"{row.where}: column 'image' is empty", field="image", reason="EMPTY_CELL")
        if check and not (uri or image).startswith("s3://"):
            raise InvalidInput(
                f"{row.where}: {uri or image!r} is not an S3 URI",
                field="uri",
                reason="NOT_AN_S3_URI",
                fix="give s3://bucket/key in a column uri; workers' browsers read pictures from there",
            )
        tiles.append(Tile(uri or image, image if uri else "", row.text("thumbnail").strip()))
    return tiles


def _write(path: str, data: bytes) -> None:
    if path == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return
    with replacing(path) as scratch:
        scratch.write_bytes(data)
