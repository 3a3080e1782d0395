# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns images into vectors: of files and folders (with PATH), or of the project's catalog (without).

gandt embed photos --model mobilenet_v2 --weights mobilenet_v2.safetensors -o vectors.parquet

An image is named by its path relative to the folder given. A run that was interrupted goes on when the same command
is given again. Images that cannot be used are listed and the exit status is 4.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gandt.cli import exit_codes
from gandt.cli.context import Context
from gandt.cli.image_files import ImageFile, Refuse, find_images, shard, short
from gandt.domain.errors import GandtError, InvalidInput, WrongState

if TYPE_CHECKING:
    from gandt.client.embedding import EmbeddingClient
    from gandt.domain.embedding import ImageInput, ModelInfo
    from gandt.tables.vector_parts import VectorParts

SUFFIX = ".parquet"
HOG = "hog"

HAS_DRY_RUN = True


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("paths", nargs="*", metavar="PATH", help="folders of images, or single ones")
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="a torchvision classification model, timm:NAME, open_clip:NAME/PRETRAINED, or hog (the default)",
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
    parser.add_argument("--shard", metavar="i/n", help="only every n-th image, from the i-th on (i from 0)")
    parser.add_argument("-o", "--output", metavar="FILE", help="vectors file to write, ends in .parquet")


def run(args: argparse.Namespace, ctx: Context) -> int:
    """Embeds files, or the project's catalog."""
    if not args.paths:
        _refuse_file_flags(args)
        from gandt.cli.project_verbs import run_project_embed

        return run_project_embed(args, ctx)
    return _run_files(args, ctx)


def _run_files(args: argparse.Namespace, ctx: Context) -> int:
    output = _output(args)
    errors: dict[str, GandtError] = {}
    skipped: dict[str, GandtError] = {}
    images = find_images(args.paths, _teller(ctx, skipped))
    if args.shard:
        images = shard(images, args.shard)
    if not images:
        raise GandtError(f"shard {args.shard} holds no images", reason="NOTHING_TO_DO")
    client = ctx.connect("embedding", overrides=_overrides(args, ctx))
    info = client.get_model()
    _check_model(args, info)
    _announce(ctx, info)
    if args.dry_run:
        ctx.out.summary({"images": len(images), "model_id": info.model_id}, f"{len(images):,} images would be embedded")
        return exit_codes.PARTIAL if skipped else exit_codes.DONE
    from gandt.tables.vector_parts import VectorParts

    started = time.monotonic()
    with VectorParts(output, info.model_id, info.dim) as parts:
        if parts.foreign:
            ctx.out.warn(f"{parts.foreign} parts in {parts.folder} were made by another model and are dropped")
        todo = [image for image in images if not parts.has(image.image, image.changed_at)]
        if len(todo) < len(images):
            ctx.out.note(f"going on: {len(images) - len(todo):,} of {len(images):,} images have their vector already")
        _embed(ctx, client, info, todo, parts, len(images), errors)
        if len(errors) == len(images):
            raise GandtError(
                f"none of the {len(images):,} images could be embedded; the warnings say why", reason="NOTHING_EMBEDDED"
            )
        parts.flush()
        ctx.out.progress("writing", 0, len(images))
        written = parts.finish(image.image for image in images if image.image not in errors)
    errors |= skipped
    ctx.out.summary(
        {
            "output": output,
            "images": len(images),
            "embedded": written,
            "resumed": len(images) - len(todo),
            "failed": len(errors),
            "errors": [
                {"image": image, "reason": error.reason, "message": str(error)} for image, error in errors.items()
            ],
            "model": info.name,
            "model_id": info.model_id,
            "dim": info.dim,
            "engine": info.engine,
            "device": info.device,
            "seconds": round(time.monotonic() - started, 3),
        },
        f"{written:,} vectors of {info.model_id} ({info.dim} numbers) are in {output}"
        + (f"; {len(errors):,} files or folders failed" if errors else ""),
    )
    return exit_codes.PARTIAL if errors else exit_codes.DONE


def _embed(
    ctx: Context,
    client: EmbeddingClient,
    info: ModelInfo,
    todo: list[ImageFile],
    parts: VectorParts,
    total: int,
    errors: dict[str, GandtError],
) -> None:
    """Sends the files and keeps the vectors; adds the error of each image that has none."""
    fail = _teller(ctx, errors)
    done = total - len(todo)
    for result in client.embed_stream(_inputs(todo, info.max_image_bytes, fail), info.model_id):
        if result.error is not None:
            fail(result.image_id, result.error)
        elif result.vector is not None:
            parts.add(result.image_id, result.vector)
            done += 1
        ctx.out.progress("embedding", done + len(errors), total)


def _teller(ctx: Context, errors: dict[str, GandtError]) -> Refuse:
    """Warns of an image that fails, and keeps its error."""

    def fail(image: str, error: GandtError) -> None:
        errors[image] = error
        ctx.out.warn(f"{short(image)}: {error.reason}: {error}")

    return fail


def _inputs(files: list[ImageFile], max_bytes: int, fail: Refuse) -> Iterator[ImageInput]:
    from gandt.domain.embedding import ImageInput
    from gandt.domain.vectors import check_id

    for file in files:
        try:
            check_id(file.image, "image")
            if file.size > max_bytes:
                raise InvalidInput(
                    f"the file has {file.size:,} bytes, at most {max_bytes:,} are taken", reason="IMAGE_TOO_LARGE"
                )
            yield ImageInput(file.image, file.path.read_bytes())
        except OSError as error:
            fail(
                file.image,
                GandtError(
                    f"the file cannot be read: {error.strerror}", reason="CANNOT_READ", fix="change its permissions"
                ),
            )
        except InvalidInput as error:
            fail(file.image, error)


def _overrides(args: argparse.Namespace, ctx: Context) -> dict[str, Any]:
    """Settings of a service that is started for this command."""
    given = {
        "model": args.model,
        "weights": args.weights,
        "weights_config": args.weights_config,
        "engine": args.engine,
        "precision": args.precision,
        "flip": args.flip,
        "scales": args.scales,
        "project_to": args.project_to,
        "max_batch": args.batch_size,
    }
    overrides = {key: value for key, value in given.items() if value is not None}
    remote = ctx.endpoint or ctx.config.get("endpoints", "embedding")
    if remote and set(overrides) - {"model"}:
        raise InvalidInput(
            f"the embedding service at {remote} has its own weights and engine",
            field="endpoint",
            reason="REMOTE_MODEL",
            fix="leave --weights, --engine and what else shapes the model away, or the endpoint",
        )
    return overrides


def _check_model(args: argparse.Namespace, info: ModelInfo) -> None:
    if args.model and args.model != info.name:
        raise WrongState(
            f"the embedding service has model {info.name}, not {args.model}",
            kind="model",
            id=args.model,
            state=info.name,
            reason="MODEL_MISMATCH",
            fix="start it with that model, or leave --model away",
        )


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
    if Path(args.output).suffix.lower() != SUFFIX:
        raise InvalidInput(
            f"vectors cannot be written to {args.output}",
            field="output",
            reason="UNKNOWN_FORMAT",
            fix="name a file that ends in .parquet",
        )
    return str(args.output)


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
