# SPDX-License-Identifier: GPL-3.0-or-later
"""The specs of gandt.selection.v1, to and from the domain's records; `gandt.wire.selection` re-exports them."""

from __future__ import annotations

from gandt.api.selection.v1 import selection_pb2 as pb
from gandt.domain.errors import InvalidInput
from gandt.domain.selection.records import (
    DEFAULT_CONTROL_FRACTION,
    EvaluateSpec,
    FilterSpec,
    PoolSource,
    SelectSpec,
)
from gandt.wire import types


def select_spec(message: pb.SelectSpec) -> SelectSpec:
    """What to select, absent numbers at their defaults."""
    return SelectSpec(
        pool=pool_source(message.pool),
        strategy=message.strategy,
        target_labels=tuple(message.target_labels),
        other_label=message.other_label,
        count=message.count,
        control_fraction=message.control_fraction if message.HasField("control_fraction") else DEFAULT_CONTROL_FRACTION,
        seed=message.seed,
        round=message.round or 1,
        max_per_group=message.max_per_group or 1,
        per_class_count=dict(message.per_class_count),
        request_id=message.request_id,
        found_before=message.found_before,
    )


def select_spec_message(spec: SelectSpec) -> pb.SelectSpec:
    """What to select, as a message."""
    return pb.SelectSpec(
        pool=pool_message(spec.pool),
        strategy=spec.strategy,
        target_labels=spec.target_labels,
        other_label=spec.other_label,
        count=spec.count,
        control_fraction=spec.control_fraction,
        seed=spec.seed,
        round=spec.round,
        max_per_group=spec.max_per_group,
        per_class_count=dict(spec.per_class_count),
        request_id=spec.request_id,
        found_before=spec.found_before,
    )


def filter_spec(message: pb.FilterSpec) -> FilterSpec:
    """What to discard."""
    rule = message.WhichOneof("rule")
    return FilterSpec(
        pool=pool_source(message.pool),
        other_label=message.other_label,
        discard_share=message.discard_share if rule == "discard_share" else None,
        max_loss_share=message.max_loss_share if rule == "max_loss_share" else None,
        min_proportion=message.compat.min_proportion_to_discard if rule == "compat" else None,
        target_labels=tuple(message.target_labels),
        audit=message.audit,
        seed=message.seed,
    )


def filter_spec_message(spec: FilterSpec) -> pb.FilterSpec:
    """What to discard, as a message; of several rules the last one would win, so the caller gives one."""
    message = pb.FilterSpec(
        pool=pool_message(spec.pool),
        other_label=spec.other_label,
        target_labels=spec.target_labels,
        audit=spec.audit,
        seed=spec.seed,
    )
    if spec.discard_share is not None:
        message.discard_share = spec.discard_share
    if spec.max_loss_share is not None:
        message.max_loss_share = spec.max_loss_share
    if spec.min_proportion is not None:
        message.compat.min_proportion_to_discard = spec.min_proportion
    return message


def evaluate_spec(message: pb.EvaluateSpec) -> EvaluateSpec:
    """What to replay, absent numbers at their defaults."""
    default = EvaluateSpec()
    return EvaluateSpec(
        pool=pool_source(message.pool),
        strategies=tuple(message.strategies),
        target_labels=tuple(message.target_labels),
        other_label=message.other_label,
        batch_size=message.batch_size or default.batch_size,
        initial_positives=message.initial_positives or default.initial_positives,
        initial_others=message.initial_others or default.initial_others,
        recall_target=message.recall_target or default.recall_target,
        repetitions=message.repetitions or default.repetitions,
        seed=message.seed,
    )


def evaluate_spec_message(spec: EvaluateSpec) -> pb.EvaluateSpec:
    """What to replay, as a message."""
    return pb.EvaluateSpec(
        pool=pool_message(spec.pool),
        strategies=spec.strategies,
        target_labels=spec.target_labels,
        other_label=spec.other_label,
        batch_size=spec.batch_size,
        initial_positives=spec.initial_positives,
        initial_others=spec.initial_others,
        recall_target=spec.recall_target,
        repetitions=spec.repetitions,
        seed=spec.seed,
    )


def pool_source(message: pb.Pool) -> PoolSource:
    """Where the vectors are.

    Raises:
        InvalidInput: no source, or a condition that cannot be read.
    """
    source = message.WhichOneof("source")
    if source is None or (source != "inline" and not getattr(message, source)):
        raise InvalidInput(
            "the request names no vectors",
            field="pool",
            reason="NO_POOL",
            fix="name a collection or an s3:// URI, or send the vectors inline",
        )
    condition = types.filter_of(message.filter) if message.HasField("filter") else None
    if condition is not None and source != "collection":
        raise InvalidInput("only a collection can be filtered", field="pool.filter", reason="NO_FIELDS")
    if source == "inline" and not message.inline.dim:
        raise InvalidInput("inline vectors need their size", field="pool.inline.dim", reason="BAD_DIM")
    return PoolSource(message.collection, message.vectors_uri, message.inline.dim, condition, message.model_id)


def pool_message(pool: PoolSource) -> pb.Pool:
    """Where the vectors are, as a message."""
    message = pb.Pool(model_id=pool.model_id)
    if pool.collection:
        message.collection = pool.collection
    elif pool.vectors_uri:
        message.vectors_uri = pool.vectors_uri
    elif pool.inline_dim:
        message.inline.dim = pool.inline_dim
    condition = types.filter_message(pool.condition)
    if condition is not None:
        message.filter.CopyFrom(condition)
    return message
