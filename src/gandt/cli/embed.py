# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns images into vectors: of files and folders (with PATH or --manifest), or of the project's catalog (without).

  gandt embed photos --model mobilenet_v2 --weights mobilenet_v2.safetensors -o vectors.parquet
  gandt embed --manifest photos.txt --shard 3/16 -o vectors        (any number of images, a folder of parts)
  gandt embed --text "a red dress" --model open_clip:ViT-B-32/openai --weights DEFAULT -o phrases.parquet

An image is named by its path relative to the folder given, in a manifest as it stands there. A run that was
interrupted goes on when the same command is given again, also after kill -9. Images that cannot be used are listed in
a file beside the output and the exit status is 4.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gandt.cli import exit_codes
from gandt.cli.context import Context
from gandt.domain.errors import GandtError, InvalidInput

if TYPE_CHECKING:
    from gandt.cli.embed_sources import Source
    from gandt.cli.failures import Failures
    from gandt.cli.image_files import Shard
    from gandt.cli.image_list import ImageFile, ImageList
    from gandt.domain.embedding import ModelInfo
    from gandt.tables.vector_parts import VectorParts

SUFFIX = ".parquet"
HOG = "hog"
TELL_SECONDS = 60.0  # between two lines where progress cannot be drawn, as in a job's log

HAS_DRY_RUN = True


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("paths", nargs="*", metavar="PATH", help="folders of images or single ones, also s3://...")
    parser.add_argument(
        "--manifest",
        metavar="FILE",
        help="a list of images: a path or s3:// URI a line (- is stdin), or a table with a column image or uri",
    )
    parser.add_argument(
        "--text", action="append", metavar="PHRASE", help="a phrase in place of images (repeatable); open_clip models"
    )
    parser.add_argument(
        "--model", metavar="NAME", help="a torchvision model, timm:NAME, open_clip:NAME/PRETRAINED or hog (default)"
    )
    parser.add_argument(
        "--weights", metavar="FILE", help="its weights: a file, s3://bucket/key, or DEFAULT for torchvision's download"
    )
    parser.add_argument(
        "--weights-config", metavar="FILE", help="their description, if it is not FILE.toml beside them"
    )
    parser.add_argument(
        "--engine", metavar="NAME", help="what runs the model: auto (default), eager, openvino, compile or cuda"
    )
    parser.add_argument("--precision", metavar="NAME", help="number format: auto (default), float32 or bfloat16")
    parser.add_argument("--flip", action="store_true", default=None, help="average with the mirrored image")
    parser.add_argument("--scales", metavar="N,N", help="average over sizes of the image, as in 1,0.7 (default: 1)")
    parser.add_argument("--project-to", type=int, metavar="N", help="numbers in a vector (default: all of the model's)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="images in one run of the device (default: 8)")
    parser.add_argument("--shard", metavar="i/n", help="only the i-th of n parts of the images (i from 0)")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="vectors file to write, ends in .parquet; any other name is a folder of parts, also s3://bucket/folder",
    )


def run(args: argparse.Namespace, ctx: Context) -> int:
    """Embeds files, phrases, or the project's catalog."""
    if args.text:
        from gandt.cli.embed_texts import run_texts

        return run_texts(args, ctx)
    if not args.paths and not args.manifest:
        _refuse_file_flags(args)
        from gandt.cli.project_verbs import run_project_embed

        return run_project_embed(args, ctx)
    return _run_files(args, ctx)


def _run_files(args: argparse.Namespace, ctx: Context) -> int:
    from gandt.cli.embed_sources import Stores, check_model, open_source, settings_of
    from gandt.cli.failures import Failures
    from gandt.cli.image_files import find_images, parse_shard
    from gandt.cli.image_list import S3
    from gandt.tables.vector_parts import VectorParts

    output, shard = _output(args), parse_shard(args.shard)
    stores = Stores(lambda: ctx.embedded().settings("embedding", **settings_of(args)))
    store = stores(output) if output.startswith(S3) and not args.dry_run else None
    listed = None if args.dry_run else _list_of_failures(output, shard)
    with closing(Failures(ctx.out, listed, store)) as failures:
        ctx.out.progress("listing", 0)
        with closing(find_images(args.paths, failures.tell, args.manifest, shard, stores)) as images:
            if not len(images):
                failures.begin()
                ctx.out.summary({"images": 0, "embedded": 0}, f"shard {args.shard} holds no images")
                return exit_codes.PARTIAL if failures.count else exit_codes.DONE
            source = open_source(args, ctx, stores, next(iter(images)).place.startswith(S3))
            check_model(args, source[0])
            _announce(ctx, source[0])
            if args.dry_run:
                ctx.out.summary(
                    {"images": len(images), "model_id": source[0].model_id}, f"{len(images):,} images would be embedded"
                )
                return exit_codes.PARTIAL if failures.count else exit_codes.DONE
            with VectorParts(output, source[0].model_id, source[0].dim, shard, store) as parts:
                failures.begin()
                written = _embed(ctx, source, images, parts, failures)
            failures.close()
            ctx.out.summary(*_summary(output, len(images), written, failures))
            return exit_codes.PARTIAL if failures.count else exit_codes.DONE


def _embed(ctx: Context, source: Source, images: ImageList, parts: VectorParts, failures: Failures) -> dict[str, Any]:
    """Embeds what has no vector yet, then makes the output; what a summary says of it."""
    info, started = source[0], time.monotonic()
    if parts.foreign:
        ctx.out.warn(f"{parts.foreign} parts in {parts.folder} were made by another model and are dropped")
    resumed = sum(parts.has(image.image, image.version) for image in images) if len(parts) else 0
    if resumed:
        ctx.out.note(f"going on: {resumed:,} of {len(images):,} images have their vector already")
    done = _add_vectors(ctx, source, images, parts, resumed, failures)
    if not resumed + done:
        raise GandtError(
            f"none of the {len(images):,} images could be embedded; the warnings say why", reason="NOTHING_EMBEDDED"
        )
    seconds = time.monotonic() - started
    ctx.out.progress("writing", 0, len(images))
    return {
        "embedded": parts.finish((image.image, image.version) for image in images),
        "resumed": resumed,
        "model": info.name,
        "model_id": info.model_id,
        "dim": info.dim,
        "engine": info.engine,
        "device": info.device,
        "seconds": round(time.monotonic() - started, 3),
        "images_per_second": round(done / seconds, 1) if done else None,
    }


def _summary(output: str, images: int, made: dict[str, Any], failures: Failures) -> tuple[dict[str, Any], str]:
    """The summary as values, and in words."""
    failed = {
        "failed": failures.count,
        "failures": str(failures.path) if failures.count else None,
        "errors": failures.first,
    }
    words = f"{made['embedded']:,} vectors of {made['model_id']} ({made['dim']} numbers) are in {output}"
    if failures.count:
        words += f"; {failures.count:,} files or folders failed, they are listed in {failures.path}"
    return {"output": output, "images": images, **made, **failed}, words


def _add_vectors(
    ctx: Context, source: Source, images: ImageList, parts: VectorParts, resumed: int, failures: Failures
) -> int:
    """Embeds the images without a vector; how many got theirs. Those that fail are told."""
    versions: dict[str, int] = {}  # of images under way

    def todo() -> Iterator[ImageFile]:
        for image in images:
            if not resumed or not parts.has(image.image, image.version):
                versions[image.image] = image.version
                yield image

    pace, done, failed = Pace(ctx, resumed, len(images)), 0, 0
    for image, outcome in source[1](todo()):
        version = versions.pop(image)
        if isinstance(outcome, GandtError):
            failures.tell(image, outcome)
            failed += 1
        else:
            parts.add(image, version, outcome)
            done += 1
        pace.show(resumed + done + failed)
    return done


class Pace:
    """Shows how far a run is, how fast, and when it will end; in a log as a line now and then."""

    def __init__(self, ctx: Context, before: int, total: int) -> None:
        self._out, self._before, self._total = ctx.out, before, total
        self._started = self._told = time.monotonic()

    def show(self, done: int) -> None:
        """So many of all are done."""
        now = time.monotonic()
        rate = (done - self._before) / max(now - self._started, 1e-3)
        more = f", {rate:,.{0 if rate >= 10 else 1}f} images/s, {duration((self._total - done) / rate)} left"
        if self._out.draws:
            self._out.progress("embedding", done, self._total, more)
        elif now - self._told > TELL_SECONDS:
            self._told = now
            self._out.note(f"embedding {done:,} of {self._total:,}{more}")


def duration(seconds: float) -> str:
    """For people: `41 s`, `12 min`, `3 h 05 min`, `2 d 4 h`."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def _list_of_failures(output: str, shard: Shard) -> Path | str:
    if output.startswith("s3://"):
        return f"{output}/{'failed.jsonl' if shard[1] == 1 else 'failed-{}of{}.jsonl'.format(*shard)}"
    if Path(output).suffix.lower() == SUFFIX:
        return Path(f"{output}.failed.jsonl")
    return Path(output, "failed.jsonl" if shard[1] == 1 else "failed-{}of{}.jsonl".format(*shard))


def _announce(ctx: Context, info: ModelInfo) -> None:
    if info.name == HOG:
        ctx.out.note(
            "model hog: built in, without weights, sees outlines only; for photos name a network: "
            "--model mobilenet_v2 --weights FILE"
        )
    ctx.out.note(f"model {info.model_id}: {info.dim} numbers, engine {info.engine} on {info.device}")


def _output(args: argparse.Namespace) -> str:
    if not args.output:
        raise InvalidInput("no output file is named", field="output", reason="USAGE", fix="add -o vectors.parquet")
    output = Path(args.output)
    is_parquet = output.suffix.lower() == SUFFIX
    if args.output.startswith("s3://") and not is_parquet and args.output[5:].strip("/").count("/"):
        return str(args.output).rstrip("/")
    is_folder = not output.suffix or args.output.endswith("/") or output.is_dir()
    if args.output.startswith("s3://") or not (is_folder or is_parquet):
        raise InvalidInput(
            f"vectors cannot be written to {args.output}",
            field="output",
            reason="UNKNOWN_FORMAT",
            fix="name a file that ends in .parquet, a folder, or s3://bucket/folder",
        )
    return str(output)


def _refuse_file_flags(args: argparse.Namespace) -> None:
    views = ("flip", "scales", "project_to")
    for flag in ("model", "weights", "weights_config", "engine", "precision", *views, "batch_size", "shard", "output"):
        if getattr(args, flag) is not None:
            raise InvalidInput(
                f"--{flag.replace('_', '-')} is for files, and no PATH is given",
                field=flag,
                reason="USAGE",
                fix="name a folder of images, or set the project's model under [embedding] in gandt.toml",
            )
