# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds near-duplicates: images whose vectors point in almost the same direction, as groups.

  gandt dedupe                                             the project's images
  gandt dedupe --vectors vectors.parquet -o groups.csv     a vectors file, compared in this process

Every image comes out once, alone in its group when nothing is like it. `representative` is the most central image
of its group (with --keep order the first by id), `similarity` the cosine to it. A file needs no store, so it is
compared right here, by the same function that the vector search service runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gandt.cli import exit_codes
from gandt.cli.context import Context
from gandt.cli.paths import shown_path
from gandt.domain.errors import GandtError, InvalidInput

if TYPE_CHECKING:
    from gandt.domain.search_records import DuplicateGroup
    from gandt.domain.vectors import VectorSet

THRESHOLD = 0.95


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--vectors", metavar="FILE", help="vectors.parquet, as gandt embed writes; else the project")
    parser.add_argument(
        "--threshold", type=float, default=THRESHOLD, metavar="S", help="smallest cosine similarity (default: 0.95)"
    )
    parser.add_argument(
        "--keep",
        choices=["central", "order"],
        default="central",
        help="which image represents a group: the most central one, or the first by id (default: central)",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="table of groups; default stdout")


def run(args: argparse.Namespace, ctx: Context) -> int:
    from gandt.domain.near_duplicates import check_threshold

    check_threshold(args.threshold)
    if ctx.out.as_json and args.output == "-":
        raise InvalidInput("--json and -o - both want stdout", reason="USAGE", fix="name a file with -o")
    if args.vectors is None:
        groups, name_of = _of_project(args, ctx)
        return _finish(args, ctx, groups, name_of)
    from gandt.tables.vectors import read_vectors

    vectors = read_vectors(args.vectors)
    if not len(vectors):
        raise GandtError(f"{args.vectors} holds no vectors", reason="NOTHING_TO_DO")
    good, bad = _comparable(vectors)
    for image_id in bad:
        ctx.out.warn(f"{args.vectors}: the vector of {image_id} is zero or not finite; the image stays alone")
    code = _finish(args, ctx, [*_of_file(good, args, ctx), *_alone(bad)], str)
    return exit_codes.PARTIAL if bad else code


def _of_file(vectors: VectorSet, args: argparse.Namespace, ctx: Context) -> list[DuplicateGroup]:
    from gandt.domain.near_duplicates import DuplicateSpec, find_near_duplicates, matrix_view

    groups: list[DuplicateGroup] = []
    for report in find_near_duplicates(matrix_view(vectors), DuplicateSpec(args.threshold, keep=args.keep)):
        ctx.out.progress(report.progress.stage, report.progress.done, report.progress.total)
        groups += report.groups
    return groups


def _of_project(args: argparse.Namespace, ctx: Context) -> tuple[list[DuplicateGroup], Callable[[str], str]]:
    """Groups of the project's collection, and the name that people know an image by: its first path."""
    from gandt.cli import steps

    ctx.require_project()
    ctx.hold_project()
    controller, client = ctx.connect("jobcontroller"), ctx.connect("vectorsearch")
    job = steps.embed(ctx, controller)
    report = client.find_near_duplicates(
        job.collection,
        args.threshold,
        on_progress=lambda p: ctx.out.progress(p.stage, p.done, p.total),
        keep=args.keep,
    )
    if not report.exact:
        ctx.out.warn("so many images are compared by a graph of nearest neighbors, which may miss some near-duplicates")
    if not report.groups:
        raise GandtError("the project has no embedded images", reason="NOTHING_TO_DO", fix="run gandt ingest DIR first")
    paths = {image.image_id: shown_path(image.image_id, image.uris) for image in controller.list_images()}
    return list(report.groups), lambda image_id: paths.get(image_id, image_id)


def _comparable(vectors: VectorSet) -> tuple[VectorSet, list[str]]:
    """The vectors that can be compared, and the ids of the others."""
    from gandt.domain.upserts import vector_problems
    from gandt.domain.vectors import VectorSet

    problems = vector_problems(vectors.matrix, vectors.dim)
    if not any(problems):
        return vectors, []
    rows = [row for row, problem in enumerate(problems) if not problem]
    kept = VectorSet([vectors.ids[row] for row in rows], vectors.matrix[rows], vectors.model_id)
    return kept, [vectors.ids[row] for row, problem in enumerate(problems) if problem]


def _alone(ids: Iterable[str]) -> Iterator[DuplicateGroup]:
    from gandt.domain.search_records import DuplicateGroup, DuplicateMember

    for image_id in ids:
        yield DuplicateGroup(image_id, (DuplicateMember(image_id, 1.0),))


def _finish(args: argparse.Namespace, ctx: Context, groups: list[DuplicateGroup], name_of: Callable[[str], str]) -> int:
    from gandt.tables.files import write_rows
    from gandt.tables.formats import GROUP_COLUMNS

    if args.output or not ctx.out.as_json:
        write_rows(args.output or "-", GROUP_COLUMNS, _rows(groups, name_of))
    images = sum(len(group.members) for group in groups)
    several = sum(len(group.members) > 1 for group in groups)
    values = {
        "images": images,
        "groups": len(groups),
        "groups_of_several": several,
        "near_duplicates": images - len(groups),
        "threshold": args.threshold,
        "output": args.output,
    }
    ctx.out.summary(
        values,
        f"{images:,} images in {len(groups):,} groups; {images - len(groups):,} are near-duplicates of another "
        f"(cosine {args.threshold:g} or more)",
    )
    return exit_codes.DONE


def _rows(groups: Iterable[DuplicateGroup], name_of: Callable[[str], str]) -> Iterator[Mapping[str, Any]]:
    for number, group in enumerate(groups, start=1):
        for member in group.members:
            yield {
                "group": number,
                "image": name_of(member.image_id),
                "representative": name_of(group.representative_id),
                "similarity": round(member.similarity, 6),
            }
