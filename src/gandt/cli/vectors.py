# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies a collection of vectors to a Parquet file, or back into a vector store.

  gandt vectors export -o vectors.parquet      the vectors in use, with ids and fields, bit for bit
  gandt vectors import vectors.parquet         into this project's store, or the one at --endpoint

A file is a vectors file as gandt embed writes it, with a column for each field; any such file (.npz too) can be
imported. An import that was cut off is given again: what is there already stays as it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gandt.cli import exit_codes
from gandt.cli.context import Context
from gandt.domain.errors import GandtError, InvalidInput, NotFound, WrongState

if TYPE_CHECKING:
    from gandt.client.vectorsearch import VectorSearchClient
    from gandt.domain.search_records import Collection, ItemSet, UpsertAck
    from gandt.tables.items import ItemsFile

SHOWN_REJECTS = 20
LIVE = "_live"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["export", "import"], help="write a file, or read one")
    parser.add_argument("file", nargs="?", metavar="FILE", help="the file to import")
    parser.add_argument("-o", "--output", metavar="FILE", help="the file to export to; ends in .parquet")
    parser.add_argument(
        "--collection", default="", metavar="NAME", help="collection or alias (default: the one in use; the file's own)"
    )
    parser.add_argument("--model", default="", metavar="ID", help="fingerprint that the vectors must have")


def run(args: argparse.Namespace, ctx: Context) -> int:
    if not ctx.config.get("endpoints", "vectorsearch"):
        ctx.require_project()
    if args.action == "export":
        if args.file or not args.output:
            raise InvalidInput("no output was named", reason="USAGE", fix="gandt vectors export -o vectors.parquet")
        return _export(args, ctx)
    if not args.file or args.output:
        raise InvalidInput("no file was named", reason="USAGE", fix="gandt vectors import vectors.parquet")
    return _import(args, ctx)


def _export(args: argparse.Namespace, ctx: Context) -> int:
    from gandt.tables.items import ItemsWriter, kinds_of

    client = ctx.connect("vectorsearch")
    collection = _in_use(client, args.collection)
    _check_model(f"collection {collection.name}", collection.model_id, args.model)
    if not collection.items:
        raise GandtError(f"collection {collection.name} is empty", reason="NOTHING_TO_DO", fix="embed the images first")
    kinds = kinds_of(client.scan_items(collection.name, with_vectors=False))
    scan = client.scan_items(
        collection.name, on_progress=lambda p: ctx.out.progress("exporting", p.done, p.total), with_fields=bool(kinds)
    )
    with ItemsWriter(args.output, collection, kinds) as writer:
        for block in scan:
            writer.write(block)
    values = {
        "collection": collection.name,
        "model_id": collection.model_id,
        "dim": collection.dim,
        "images": writer.rows,
        "fields": sorted(kinds),
        "output": args.output,
    }
    ctx.out.summary(values, f"{writer.rows:,} vectors of collection {collection.name} are in {args.output}")
    return exit_codes.DONE


def _import(args: argparse.Namespace, ctx: Context) -> int:
    from gandt.tables.items import describe_items

    file = describe_items(args.file)
    if not file.dim:
        raise GandtError(f"{args.file} holds no vectors", reason="NOTHING_TO_DO")
    if file.model_id:
        _check_model(args.file, file.model_id, args.model)
    model_id = file.model_id or args.model
    client = ctx.connect("vectorsearch")
    collection = _target(client, args, file, model_id)

    def on_ack(ack: UpsertAck) -> None:
        ctx.out.progress("importing", ack.acknowledged, file.rows)

    report = client.upsert(collection.name, _blocks(args.file, file), model_id, on_ack)
    stored, rejected = report.stored, report.rejected
    alias = _restored_alias(client, collection, file) if not args.collection else ""
    for item in rejected[:SHOWN_REJECTS]:
        ctx.out.warn(f"row {item.sequence + 1}: {item.error.message}")
    if len(rejected) > SHOWN_REJECTS:
        ctx.out.warn(f"{len(rejected) - SHOWN_REJECTS} more rows were refused")
    values = {
        "collection": collection.name,
        "alias": alias or None,
        "model_id": model_id,
        "dim": file.dim,
        "images": stored,
        "refused": len(rejected),
        "input": args.file,
    }
    refused = f"; {len(rejected):,} were refused" if rejected else ""
    ctx.out.summary(values, f"{stored:,} vectors of {args.file} are in collection {collection.name}{refused}")
    if not ctx.config.get("endpoints", "vectorsearch"):
        ctx.out.note("gandt embed takes them over for the project's images without computing them again")
    return exit_codes.PARTIAL if rejected else exit_codes.DONE


def _blocks(path: str, file: ItemsFile) -> Iterator[ItemSet]:
    from gandt.domain.search_records import ItemSet
    from gandt.domain.vectors import VectorSet
    from gandt.tables.items import iter_items

    for block in iter_items(path, file):
        vectors = block.vectors
        yield ItemSet(VectorSet(vectors.ids, vectors.matrix), block.fields)


def _in_use(client: VectorSearchClient, name: str) -> Collection:
    """The collection that is named, or else the one in use."""
    if name:
        return client.get_collection(name)
    found = client.list_collections()
    live = [collection for collection in found if any(alias.endswith(LIVE) for alias in collection.aliases)]
    choice = live or found
    if not choice:
        raise NotFound("there is no collection yet", kind="collection", id="", fix="embed the images first")
    if len(choice) > 1:
        raise InvalidInput(
            f"there are several collections: {', '.join(collection.name for collection in choice)}",
            field="collection",
            reason="SEVERAL_COLLECTIONS",
            fix="name one with --collection",
        )
    return choice[0]


def _target(client: VectorSearchClient, args: argparse.Namespace, file: ItemsFile, model_id: str) -> Collection:
    """The collection to import into; made when it is missing."""
    name = args.collection or file.collection
    if not name:
        raise InvalidInput(
            f"{args.file} does not say which collection it is of",
            field="collection",
            reason="NO_COLLECTION",
            fix="name one with --collection; it is made when it is missing",
        )
    try:
        known = client.get_collection(name)
    except NotFound:
        if not model_id:
            raise InvalidInput(
                f"{args.file} does not say which model its vectors are of, and collection {name} is new",
                field="model",
                reason="NO_MODEL",
                fix="name the model with --model, as gandt embed shows it",
            ) from None
        return client.create_collection(name, file.dim, model_id)
    _check_model(args.file, model_id or known.model_id, known.model_id)
    if known.dim != file.dim:
        raise WrongState(
            f"the vectors of {args.file} have {file.dim} numbers, those of collection {known.name} have {known.dim}",
            kind="collection",
            id=known.name,
            reason="WRONG_DIM",
            fix="import into another collection",
        )
    return known


def _restored_alias(client: VectorSearchClient, collection: Collection, file: ItemsFile) -> str:
    """Give the collection its alias back, unless the store uses another collection under it by now."""
    restored = []
    for alias in file.aliases:
        try:
            client.get_collection(alias)
        except NotFound:
            client.create_collection(collection.name, collection.dim, collection.model_id, alias)
            restored.append(alias)
    return ", ".join(restored)


def _check_model(what: str, model_id: str, wanted: str) -> None:
    if wanted and model_id != wanted:
        raise WrongState(
            f"{what} holds vectors of model {model_id!r}, not of {wanted!r}",
            kind="model",
            id=model_id,
            state=model_id,
            reason="MODEL_MISMATCH",
            fix="use the vectors of that model",
        )
