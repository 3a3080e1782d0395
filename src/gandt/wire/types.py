# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages that several services share, to and from the domain's records (gandt.type.v1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gandt.api.type.v1 import type_pb2 as pb
from gandt.domain import filters
from gandt.domain.datasets import LabeledImage
from gandt.domain.errors import GandtError, InvalidInput
from gandt.domain.fields import FieldValue
from gandt.domain.images import ImageRef
from gandt.domain.progress import Progress
from gandt.domain.vectors import MAX_DIM, VectorSet
from gandt.wire import errors

MAX_BLOCK_BYTES = 2**20  # sweet spot of the transport, far below gRPC's 4 MiB default
_CLASSES = {code.value[0]: cls for cls, code in errors.CODES.items()}
_SIZES = {pb.DTYPE_UNSPECIFIED: 4, pb.DTYPE_FLOAT32: 4, pb.DTYPE_FLOAT16: 2}


def vector_set(
    block: pb.VectorBlock, *, model_id: str = "", dim: int | None = None, named: bool = True, field: str = "vectors"
) -> VectorSet:
    """The block as a VectorSet that reads the message's bytes without copying.

    Args:
        dim: the size that the vectors must have; None takes the block's.
        named: whether every row needs an id; False is for search queries, whose ids are dropped.
        field: how errors call it.
    Returns:
        f32[N, D] or f16[N, D] as sent, read-only; f32[N, 0] for a block of ids alone. Numbers are not checked here.
    Raises:
        InvalidInput: an unknown dtype, a size out of range or other than `dim`, or a length that does not fit.
    """
    if block.dtype not in _SIZES:
        raise InvalidInput(f"{field} have the unknown dtype {block.dtype}", field=field, reason="BAD_DTYPE")
    if named and not block.data and block.dim == 0:
        return VectorSet(list(block.ids), np.zeros((len(block.ids), 0), np.float32), model_id)
    if not named and not block.data and block.dim <= MAX_DIM:
        return VectorSet([], np.zeros((0, block.dim), np.float32), model_id)
    if not 1 <= block.dim <= MAX_DIM:
        raise InvalidInput(f"{field} have dim {block.dim}, allowed are 1 to {MAX_DIM}", field=field, reason="BAD_DIM")
    if dim is not None and block.dim != dim:
        raise InvalidInput(
            f"{field} have {block.dim} numbers each, here it must be {dim}", field=field, reason="WRONG_DIM"
        )
    row_bytes = block.dim * _SIZES[block.dtype]
    rows = len(block.ids) if named else len(block.data) // row_bytes
    if len(block.data) != rows * row_bytes:
        raise InvalidInput(
            f"{field} hold {len(block.data)} bytes, {rows} rows of {block.dim} numbers need {rows * row_bytes}",
            field=field,
            reason="WRONG_LENGTH",
        )
    matrix = np.frombuffer(block.data, "<f2" if _SIZES[block.dtype] == 2 else "<f4").reshape(rows, block.dim)
    return VectorSet(list(block.ids) if named else [""] * rows, matrix, model_id)


def vector_block(vectors: VectorSet, dtype: np.dtype[np.floating] | None = None) -> pb.VectorBlock:
    """The set as one message; in its own number format, or in float16 or float32 as asked."""
    matrix = _wire_matrix(vectors.matrix, dtype)
    return pb.VectorBlock(
        ids=vectors.ids,
        data=matrix.tobytes(),
        dim=vectors.dim,
        dtype=pb.DTYPE_FLOAT16 if matrix.dtype == np.float16 else pb.DTYPE_FLOAT32,
    )


def query_block(matrix: NDArray[np.floating]) -> pb.VectorBlock:
    """f32[N, D] or f16[N, D] without ids, as search queries travel."""
    return vector_block(VectorSet([], np.atleast_2d(matrix)))


def chunked(vectors: VectorSet, max_bytes: int = MAX_BLOCK_BYTES) -> Iterator[VectorSet]:
    """The set in pieces whose blocks stay within `max_bytes` (at least one row each), without copying."""
    for start, stop in chunk_bounds(vectors.ids, vectors.dim * vectors.matrix.dtype.itemsize, max_bytes):
        yield VectorSet(vectors.ids[start:stop], vectors.matrix[start:stop], vectors.model_id)


def chunk_bounds(
    ids: Sequence[str], row_bytes: int | Sequence[int], max_bytes: int = MAX_BLOCK_BYTES
) -> Iterator[tuple[int, int]]:
    """(start, stop) of pieces within `max_bytes`: ids at their UTF-8 length and `row_bytes` (of each row) beside."""
    start = size = 0
    for row, image_id in enumerate(ids):
        # 4 bytes frame an id; a block has a few dozen bytes of its own.
        cost = row_bytes if isinstance(row_bytes, int) else row_bytes[row]
        cost += len(image_id.encode("utf-8", "surrogatepass")) + 4
        if row > start and size + cost > max_bytes - 64:
            yield start, row
            start, size = row, 0
        size += cost
    if start < len(ids):
        yield start, len(ids)


def dtype_of(value: pb.Dtype.ValueType) -> np.dtype[np.floating]:
    """NumPy's name of a wire dtype; unspecified is float32.

    Raises:
        InvalidInput: a number that is not in the enum.
    """
    if value not in _SIZES:
        raise InvalidInput(f"dtype {value} is unknown", field="dtype", reason="BAD_DTYPE")
    return np.dtype(np.float16 if value == pb.DTYPE_FLOAT16 else np.float32)


def dtype_message(dtype: np.dtype[np.floating] | None) -> pb.Dtype.ValueType:
    """The wire dtype of NumPy's float16 or float32; None is unspecified."""
    if dtype is None:
        return pb.DTYPE_UNSPECIFIED
    return pb.DTYPE_FLOAT16 if dtype == np.float16 else pb.DTYPE_FLOAT32


def field_value(message: pb.FieldValue) -> FieldValue:
    """A field's value.

    Raises:
        InvalidInput: the message holds none.
    """
    kind = message.WhichOneof("kind")
    if kind is None:
        raise InvalidInput("a field value holds nothing", field="fields", reason="BAD_FIELD")
    value: FieldValue = getattr(message, kind)
    return value


def field_value_message(value: FieldValue) -> pb.FieldValue:
    """A field's value as a message; True and False are truth values, never numbers."""
    if isinstance(value, bool):
        return pb.FieldValue(bool_value=value)
    if isinstance(value, int):
        return pb.FieldValue(int_value=value)
    return pb.FieldValue(double_value=value) if isinstance(value, float) else pb.FieldValue(string_value=value)


def fields_of(values: Mapping[str, pb.FieldValue]) -> dict[str, FieldValue]:
    """The fields of one item."""
    return {name: field_value(value) for name, value in values.items()}


def filter_of(message: pb.Filter | None, depth: int = 0) -> filters.Filter | None:
    """The filter tree, checked; None when there is none (an absent message or one without a condition at the root).

    Raises:
        InvalidInput: an empty condition inside the tree, or what `filters.check` refuses.
    """
    if message is None or (depth == 0 and message.WhichOneof("condition") is None):
        return None
    tree = _tree(message, 0)
    filters.check(tree)
    return tree


def filter_message(condition: filters.Filter | None) -> pb.Filter | None:
    """The filter tree as a message; None stays None. Raises InvalidInput on what `filters.check` refuses."""
    if condition is None:
        return None
    filters.check(condition)
    return _filter_message(condition)


def _filter_message(condition: filters.Filter) -> pb.Filter:
    # Four conditions are Python keywords: their members are reached by getattr.
    message = pb.Filter()
    if isinstance(condition, filters.And | filters.Or):
        member = getattr(message, "and" if isinstance(condition, filters.And) else "or")
        member.SetInParent()
        member.operands.extend(_filter_message(operand) for operand in condition.operands)
        return message
    if isinstance(condition, filters.Not):
        getattr(message, "not").operand.CopyFrom(_filter_message(condition.operand))
        return message
    if isinstance(condition, filters.In):
        values = [field_value_message(value) for value in condition.values]
        getattr(message, "in").CopyFrom(pb.Filter.In(field=condition.field, values=values))
        return message
    if isinstance(condition, filters.Range):
        bounds = pb.Filter.Range(
            field=condition.field, gte=condition.gte, gt=condition.gt, lte=condition.lte, lt=condition.lt
        )
        return pb.Filter(range=bounds)
    if isinstance(condition, filters.Exists):
        return pb.Filter(exists=pb.Filter.Exists(field=condition.field))
    return pb.Filter(ids=pb.Filter.Ids(ids=condition.ids))


def image_ref(message: pb.ImageRef) -> ImageRef:
    """One picture and one place of its bytes."""
    return ImageRef(message.image_id, message.uri)


def image_ref_message(image: ImageRef) -> pb.ImageRef:
    """One picture and one place of its bytes, as a message."""
    return pb.ImageRef(image_id=image.image_id, uri=image.uri)


def labeled_image(message: pb.LabeledImage) -> LabeledImage:
    """An image with known labels; probability 0 on the wire means 1.

    Raises:
        InvalidInput: no label, or a probability outside [0, 1].
    """
    if not message.labels:
        raise InvalidInput(f"image {message.image_id!r} has no label", field="labels", reason="NO_LABEL")
    for name in ("probability", "inclusion_probability"):
        if not 0 <= getattr(message, name) <= 1:
            raise InvalidInput(
                f"image {message.image_id!r} has {name} {getattr(message, name)}, it must lie in [0, 1]",
                field=name,
                reason="BAD_PROBABILITY",
            )
    return LabeledImage(
        image_id=message.image_id,
        labels=tuple(message.labels),
        probability=message.probability or 1.0,
        arm=message.arm,
        round=message.round,
        inclusion_probability=message.inclusion_probability,
    )


def labeled_image_message(image: LabeledImage) -> pb.LabeledImage:
    """An image with known labels as a message."""
    return pb.LabeledImage(
        image_id=image.image_id,
        labels=image.labels,
        probability=image.probability,
        arm=image.arm,
        round=image.round,
        inclusion_probability=image.inclusion_probability,
    )


def progress(message: pb.Progress) -> Progress:
    """How far long work has come."""
    return Progress(message.stage, message.done, message.total)


def progress_message(report: Progress) -> pb.Progress:
    """How far long work has come, as a message."""
    return pb.Progress(stage=report.stage, done=report.done, total=report.total)


def item_error(message: pb.ItemError) -> GandtError:
    """The error of one item, as the domain error that its code and reason name."""
    return _CLASSES.get(message.code, GandtError)(message.message, reason=message.reason)


def item_error_message(error: GandtError) -> pb.ItemError:
    """The error of one item as a message, with the code of the one error table."""
    return pb.ItemError(code=errors.code_of(error).value[0], reason=error.reason, message=str(error))


def _wire_matrix(matrix: NDArray[np.floating], dtype: np.dtype[np.floating] | None) -> NDArray[np.floating]:
    target = np.dtype("<f2" if (dtype if dtype is not None else matrix.dtype) == np.float16 else "<f4")
    return np.ascontiguousarray(matrix, dtype=target)


def _tree(message: pb.Filter, depth: int) -> filters.Filter:
    if depth > filters.MAX_FILTER_DEPTH:
        raise InvalidInput(
            f"the filter has more than {filters.MAX_FILTER_DEPTH} levels", field="filter", reason="BAD_FILTER"
        )
    kind = message.WhichOneof("condition")
    if kind is None:
        raise InvalidInput("the filter holds an empty condition", field="filter", reason="BAD_FILTER")
    node = getattr(message, kind)
    if kind in ("and", "or"):
        operands = tuple(_tree(operand, depth + 1) for operand in node.operands)
        return filters.And(operands) if kind == "and" else filters.Or(operands)
    if kind == "not":
        return filters.Not(_tree(node.operand, depth + 1))
    if kind == "in":
        return filters.In(node.field, tuple(field_value(value) for value in node.values))
    if kind == "range":
        bounds = {name: getattr(node, name) for name in ("gte", "gt", "lte", "lt") if node.HasField(name)}
        return filters.Range(node.field, **bounds)
    if kind == "exists":
        return filters.Exists(node.field)
    return filters.Ids(tuple(node.ids))
