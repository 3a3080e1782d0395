# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what a Ground Truth job left into a table of answers.

  gandt answers s3://bucket/out/my-job -o answers.csv
  gandt answers ./my-job -o answers.csv

The place is a job's output folder, one above several jobs, or one file: consolidation requests, worker responses and
output manifests are read. Of a worker who answered an image twice in a job the latest counts. What cannot be read is
listed, and the exit status is 4. --compat reads consolidation requests as the original project did.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gandt.cli import exit_codes
from gandt.cli.context import Context
from gandt.domain.datasets import AnswerState
from gandt.domain.errors import InvalidInput, NotFound, PermissionDenied
from gandt.domain.images import split_uri
from gandt.domain.labeling.compat import CompatRow, read_responses_compat
from gandt.domain.labeling.ground_truth import FileKind, file_kind, file_order
from gandt.domain.labeling.job_output import JobOutput, Quarantined, ReadsObjects, read_job
from gandt.tables.answers import ANSWER_COLUMNS, write_answers
from gandt.tables.files import write_rows

COMPAT_COLUMNS = (
    "labelling_job_name",
    "labels_fname",
    "image_filename",
    "image_index",
    "worker_id",
    "labels",
    "dataset_object_id",
)
_LOCAL = "s3://local"


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's flags."""
    parser.add_argument("place", metavar="PATH|s3://...", help="a job's output folder, or one file of it")
    parser.add_argument("--compat", action="store_true", help="the original project's rows, images by their file name")
    parser.add_argument("-o", "--output", default="-", metavar="FILE", help="table to write (default: stdout)")


def run(args: argparse.Namespace, ctx: Context) -> int:
    """Reads the answers and writes the table."""
    if ctx.out.as_json and args.output == "-":
        raise InvalidInput("--json and a table both want stdout", reason="USAGE", fix="name a file with -o")
    store, place = _store(args.place, ctx)
    if args.compat:
        return _run_compat(args, ctx, store, place)
    try:
        output = read_job(store, place)
    except NotFound as e:
        said = e.message.replace(place, args.place)
        raise NotFound(said, kind=e.kind, id=args.place, reason=e.reason, fix=e.fix) from None
    write_answers(args.output, output.answers)
    for part in output.quarantined:
        ctx.out.warn(_described(part).replace(place, args.place))
    for line in output.failed:
        ctx.out.warn(f"page {line.task or line.number} failed: {line.reason}")
    ctx.out.summary(_figures(output, args.output), _sentence(output, args.output))
    if output.quarantined:
        return exit_codes.PARTIAL
    return exit_codes.DONE if output.answers else exit_codes.NOTHING


def _figures(output: JobOutput, path: str) -> dict[str, Any]:
    return {
        "answers": len(output.answers),
        "images": len({answer.image_id for answer in output.answers}),
        "workers": len({answer.worker_id for answer in output.answers}),
        "blank": sum(answer.state == AnswerState.BLANK for answer in output.answers),
        "repeated": len(output.repeated),
        "quarantined": len(output.quarantined),
        "pages": len(output.lines),
        "failed_pages": len(output.failed),
        "unlabeled_pages": len(output.unlabeled),
        "files": output.files,
        "output": path,
    }


def _sentence(output: JobOutput, path: str) -> str:
    figures = _figures(output, path)
    extras = [
        f"{figures[name]:,} {name.replace('_', ' ')}"
        for name in ("blank", "repeated", "quarantined", "failed_pages", "unlabeled_pages")
        if figures[name]
    ]
    return ", ".join(
        [f"{figures['answers']:,} answers of {figures['workers']:,} workers on {figures['images']:,} images", *extras]
    )


def _described(part: Quarantined) -> str:
    where = ", ".join(
        f"{name} {value}"
        for name, value in (("job", part.job), ("object", part.object_id), ("worker", part.worker_id))
        if value
    )
    return f"quarantined, {part.rule}: {where or part.source}: {json.dumps(part.excerpt, ensure_ascii=False)}"


def _run_compat(args: argparse.Namespace, ctx: Context, store: ReadsObjects, place: str) -> int:
    rows: list[CompatRow] = []
    uris = [info.uri for info in store.list(place.rstrip("/") + "/")]
    uris = [uri for uri in uris if file_kind(split_uri(uri)[1]) == FileKind.REQUEST] if uris else [place]
    if not uris:
        raise NotFound(f"there are no consolidation requests at {args.place}", kind="file", id=args.place)
    for uri in sorted(uris, key=file_order):
        name = args.place if uri == place else f"{args.place.rstrip('/')}/{uri.removeprefix(place.rstrip('/') + '/')}"
        rows.extend(read_responses_compat(name, "/" + split_uri(uri)[1], store.get(uri)))
    write_rows(args.output, (*ANSWER_COLUMNS, *COMPAT_COLUMNS), map(_compat_row, rows))
    ctx.out.summary(
        {"answers": len(rows), "files": len(uris), "output": args.output}, f"{len(rows):,} rows of {len(uris):,} files"
    )
    return exit_codes.DONE if rows else exit_codes.NOTHING


def _compat_row(row: CompatRow) -> dict[str, Any]:
    """The public columns, then the original's. An empty answer stays an answer: the original counts it."""
    labels = row.labels if isinstance(row.labels, list) else [row.labels]
    return {
        "image": row.image_filename,
        "worker": row.worker_id,
        "label": [str(label) for label in labels],
        "job": row.labelling_job_name,
        "page": row.dataset_object_id,
        "state": str(AnswerState.ANSWERED),
        "labelling_job_name": row.labelling_job_name,
        "labels_fname": row.labels_fname,
        "image_filename": row.image_filename,
        "image_index": row.image_index,
        "worker_id": row.worker_id,
        "labels": json.dumps(row.labels, ensure_ascii=False),
        "dataset_object_id": row.dataset_object_id,
    }


def _store(place: str, ctx: Context) -> tuple[ReadsObjects, str]:
    """Where to read from, and the place as a URI there."""
    if place.startswith("s3://"):
        try:
            from gandt_standalone.bootstrap import objects_of
        except ImportError as e:
            raise InvalidInput(
                f"reading {place} needs boto3", reason="EXTRA_MISSING", fix="pip install 'gandt[standalone]'"
            ) from e
        return objects_of(ctx.project_dir, place), place
    path = Path(os.path.abspath(place))  # noqa: PTH100  resolve() follows links and may lose the job's name
    if not path.exists():
        raise NotFound(f"there is no file or folder {place}", kind="file", id=place, reason="FILE_NOT_FOUND")
    return Folder(path), local_uri(path)


def local_uri(path: Path) -> str:
    """The URI of an absolute path in a `Folder`."""
    return _LOCAL + path.as_posix()


class Folder:
    """A local copy of a job's output, read as if it were a bucket.

    Args:
        root: folder or file; URIs are `s3://local/<absolute path>`.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def list(self, prefix_uri: str) -> Iterator[Any]:
        """Every file below a folder, by path."""
        folder = Path(prefix_uri.removeprefix(_LOCAL))
        paths = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
        return iter([SimpleNamespace(uri=_LOCAL + path.as_posix()) for path in paths])

    def get(self, uri: str) -> bytes:
        """A file's bytes. A URI of the real bucket is looked for below the folder, by the end of its key."""
        try:
            return self._find(uri).read_bytes()
        except PermissionError as e:
            raise PermissionDenied(f"no permission to read {uri.removeprefix(_LOCAL)}") from e
        except OSError as e:
            raise NotFound(f"{uri.removeprefix(_LOCAL)} cannot be read", kind="file", id=uri) from e

    def _find(self, uri: str) -> Path:
        if uri.startswith(_LOCAL + "/"):
            return Path(uri.removeprefix(_LOCAL))
        parts = [part for part in split_uri(uri)[1].split("/") if part not in ("", ".", "..")]
        for start in range(len(parts)):
            path = self._root.joinpath(*parts[start:])
            if path.is_file():
                return path
        raise NotFound(f"{uri} is not below {self._root}", kind="object", id=uri)
