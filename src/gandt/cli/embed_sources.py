# SPDX-License-Identifier: GPL-3.0-or-later
"""What turns image files into vectors for `gandt embed`: a model in this process, or a service elsewhere."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gandt.cli.context import Context
from gandt.cli.image_list import S3, ImageFile
from gandt.domain.errors import GandtError, InvalidInput, WrongState
from gandt.domain.vectors import check_id

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gandt.client.embedding import EmbeddingClient
    from gandt.domain.embedding import ImageInput, ModelInfo
    from gandt.ports.object_store import ObjectStore

Outcomes = Iterator[tuple[str, "NDArray[np.float32] | GandtError"]]
Source = tuple["ModelInfo", Callable[[Iterable[ImageFile]], Outcomes]]
"""The model, and what gives the outcome of each image: f32[D] or the reason why there is none."""


class Stores:
    """Finds the object store in which a URI lies; each bucket's is opened once."""

    def __init__(self, settings: Callable[[], Any]) -> None:
        self._settings = settings
        self._known: dict[str, ObjectStore] = {}

    def __call__(self, uri: str) -> ObjectStore:
        """The store of a URI."""
        bucket = uri.removeprefix(S3).partition("/")[0]
        if bucket not in self._known:
            from gandt_embedding.bootstrap import open_images

            self._known[bucket] = open_images(self._settings(), uri)
        return self._known[bucket]


def open_source(args: argparse.Namespace, ctx: Context, stores: Stores, from_store: bool) -> Source:
    """The service at the endpoint that is named; without one the model in this process, past gRPC.

    Args:
        from_store: whether the images lie in an object store.
    """
    overrides = settings_of(args)
    remote = ctx.endpoint or ctx.config.get("endpoints", "embedding")
    if remote:
        refuse_model_flags(args, remote)
        client = ctx.connect("embedding")
        info = client.get_model()
        return info, lambda files: _from_service(client, info, files, stores)
    from gandt_embedding.bootstrap import open_bulk
    from gandt_embedding.bulk import BulkImage

    embedder = open_bulk(ctx.embedded().settings("embedding", **overrides), from_store)
    limit = embedder.info.max_image_bytes

    def bulk(file: ImageFile) -> BulkImage:
        return BulkImage(file.image, lambda: read_image(file, limit, stores))

    return embedder.info, lambda files: embedder.embed(map(bulk, files))


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of the embedding service that flags name."""
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
    return {name: value for name, value in given.items() if value is not None}


def refuse_model_flags(args: argparse.Namespace, remote: str) -> None:
    """Raise InvalidInput for flags that shape a model, which a service has already."""
    if set(settings_of(args)) - {"model"}:
        raise InvalidInput(
            f"the embedding service at {remote} has its own weights and engine",
            field="endpoint",
            reason="REMOTE_MODEL",
            fix="leave --weights, --engine and what else shapes the model away, or the endpoint",
        )


def check_model(args: argparse.Namespace, info: ModelInfo) -> None:
    """Raise WrongState when --model names another one than a service has."""
    if args.model and args.model != info.name:
        raise WrongState(
            f"the embedding service has model {info.name}, not {args.model}",
            kind="model",
            id=args.model,
            state=info.name,
            reason="MODEL_MISMATCH",
            fix="start it with that model, or leave --model away",
        )


def read_image(file: ImageFile, max_bytes: int, stores: Callable[[str], ObjectStore]) -> bytes:
    """The bytes of an image.

    Raises:
        InvalidInput: its name cannot stand in a table, or it is too large.
        GandtError: CANNOT_READ.
        NotFound, PermissionDenied, BackendUnavailable: of its store.
    """
    check_id(file.image, "image")
    size = file.size
    if not size and file.place.startswith(S3):
        info = stores(file.place).head(file.place)
        size = info.size if info is not None else 0
    if size > max_bytes:
        raise InvalidInput(f"the file has {size:,} bytes, at most {max_bytes:,} are taken", reason="IMAGE_TOO_LARGE")
    if file.place.startswith(S3):
        return stores(file.place).get(file.place)
    try:
        return Path(file.place).read_bytes()
    except OSError as error:
        raise GandtError(
            f"the file cannot be read: {error.strerror}", reason="CANNOT_READ", fix="change its permissions"
        ) from error


def _from_service(
    client: EmbeddingClient, info: ModelInfo, files: Iterable[ImageFile], stores: Callable[[str], ObjectStore]
) -> Outcomes:
    from gandt.domain.embedding import ImageInput

    unread: list[tuple[str, GandtError]] = []

    def inputs() -> Iterator[ImageInput]:
        for file in files:
            try:
                yield ImageInput(file.image, read_image(file, info.max_image_bytes, stores))
            except GandtError as error:
                unread.append((file.image, error))

    for result in client.embed_stream(inputs(), info.model_id):
        while unread:
            yield unread.pop()
        if result.error is not None:
            yield result.image_id, result.error
        elif result.vector is not None:
            yield result.image_id, result.vector
    yield from unread
