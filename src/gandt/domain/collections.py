# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of collections and of the aliases that lead to them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container

from gandt.domain.errors import AlreadyExists, InvalidInput, WrongState
from gandt.domain.search_records import Collection

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}\Z")
_DIGITS = 12


def check_name(name: str, field: str = "collection.name") -> None:
    """Raise InvalidInput unless a name is 1 to 255 of [A-Za-z0-9_] and starts with a letter or underscore."""
    if not _NAME.match(name):
        what = "alias" if field == "alias" else "collection name"
        raise InvalidInput(
            f"{what} {name[:40]!r} is not 1 to 255 of [A-Za-z0-9_] starting with a letter or underscore",
            field=field,
            reason="BAD_COLLECTION_NAME",
        )


def collection_name(dataset: str, model_id: str) -> str:
    """The collection of a dataset's vectors of one model: `<dataset>_<12 hex digits of the model's fingerprint>`.

    Example:
        >>> collection_name("default", "hog-0123456789ab")
        'default_0123456789ab'
    """
    own = re.search(rf"-([0-9a-f]{{{_DIGITS}}})\Z", model_id)  # our fingerprints end in their digest
    return f"{dataset}_{own[1] if own else hashlib.sha256(model_id.encode()).hexdigest()[:_DIGITS]}"


def live_alias(dataset: str) -> str:
    """The alias of the collection that a dataset uses now."""
    return f"{dataset}_live"


def check_new_name(name: str, alias: str, collections: Container[str], aliases: Container[str]) -> None:
    """Raise AlreadyExists when a collection would be named as an alias, or an alias as a collection."""
    if name in aliases:
        raise AlreadyExists(
            f"{name} is an alias of a collection",
            kind="alias",
            id=name,
            fix="choose another name, or name the collection itself",
        )
    if alias and (alias in collections or alias == name):
        raise AlreadyExists(
            f"{alias} is a collection, so it cannot be an alias of {name}",
            kind="collection",
            id=alias,
            fix="choose another alias",
        )


def check_same(known: Collection, dim: int, model_id: str) -> None:
    """Raise AlreadyExists unless a collection has this dim and model."""
    if (known.dim, known.model_id) != (dim, model_id):
        raise AlreadyExists(
            f"collection {known.name} exists with dim {known.dim} and model {known.model_id!r}, "
            f"not with dim {dim} and model {model_id!r}",
            kind="collection",
            id=known.name,
            fix="choose another name, one a model",
        )


def check_no_alias(name: str, aliases: Container[str]) -> None:
    """Raise WrongState when what shall be deleted is an alias."""
    if name in aliases:
        raise WrongState(
            f"{name} is an alias of a collection and is not deleted with all that the collection holds",
            kind="collection",
            id=name,
            state="alias",
            reason="IS_ALIAS",
            fix="name the collection itself (GetCollection says which); its aliases go with it",
        )
