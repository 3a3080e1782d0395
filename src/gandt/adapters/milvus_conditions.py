# SPDX-License-Identifier: GPL-3.0-or-later
"""Conditions as a Milvus server takes them: with the partition they are in, and in parts where they name many ids."""

from __future__ import annotations

from dataclasses import replace

from gandt.adapters.milvus_client import PARTITION
from gandt.domain.filters import And, Filter, Ids, In, compile_milvus, quoted

EXPRESSION_BYTES = 1 << 20  # a longer one is parsed slowly by a server


def expression(condition: Filter | None, after_id: str = "", partition_field: str = "") -> str:
    """A condition as an expression, that of its partition beside it where the condition asks for some of them."""
    parts = [compile_milvus(condition)] if condition is not None else []
    if partition_field and condition is not None and (texts := _partitions(condition, partition_field)):
        parts.append(f"{PARTITION} in [{', '.join(quoted(text) for text in texts)}]")
    if after_id:
        parts.append(f"id > {quoted(after_id)}")
    return " and ".join(parts)


def in_parts(condition: Filter | None, most: int = EXPRESSION_BYTES) -> list[Filter | None]:
    """Conditions that together keep what one keeps, each a short expression; no item is in two of them.

    A list of ids, alone or in an And, is parted; ids come in order, so that the parts do too. A long condition without
    such a list stays whole: `filters.check` keeps it within what a server takes.
    """
    if condition is None or len(compile_milvus(condition)) <= most:
        return [condition]
    operands = condition.operands if isinstance(condition, And) else (condition,)
    longest = max((node for node in operands if isinstance(node, Ids)), key=lambda node: len(node.ids), default=None)
    rest = tuple(node for node in operands if node is not longest)
    room = most - len(compile_milvus(And(rest)))
    if longest is None or room < most // 4:
        return [condition]
    parts: list[Filter | None] = []
    ids: list[str] = []
    size = 0
    for image_id in sorted(set(longest.ids)):
        cost = len(quoted(image_id)) + 2
        if ids and size + cost > room:
            parts.append(And((*rest, replace(longest, ids=tuple(ids)))))
            ids, size = [], 0
        ids.append(image_id)
        size += cost
    parts.append(And((*rest, replace(longest, ids=tuple(ids)))))
    return parts


def _partitions(condition: Filter, field: str) -> tuple[str, ...]:
    """Texts of the partition field, one of which an item must have to be kept; () when others may be kept too."""
    if isinstance(condition, In) and condition.field == field:
        texts = tuple(value for value in condition.values if isinstance(value, str))
        return texts if len(texts) == len(condition.values) else ()
    if isinstance(condition, And):
        return next((texts for node in condition.operands if (texts := _partitions(node, field))), ())
    return ()
