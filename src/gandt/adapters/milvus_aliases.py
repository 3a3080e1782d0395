# SPDX-License-Identifier: GPL-3.0-or-later
"""Aliases of collections in Milvus, which switches them in one moment."""

from __future__ import annotations

from typing import Any


def point_alias(client: Any, alias: str, name: str) -> None:
    """Makes a new or known alias lead to a collection, in one moment."""
    from pymilvus.exceptions import MilvusException

    try:
        client.describe_alias(alias)
    except MilvusException:
        client.create_alias(name, alias)
    else:
        client.alter_alias(name, alias)


def aliases_of(client: Any, name: str) -> tuple[str, ...]:
    """The aliases of a collection, in order."""
    return tuple(sorted(client.list_aliases(name)["aliases"]))
