# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes of Milvus: which a backend has, how parameters reach it, and whether it took them.

pymilvus 3 sends build parameters as keys of their own; Milvus Lite 3.2 reads only a JSON key `params` and drops the
rest without a word. A server reads both (internal/proxy/task_index.go). So both are sent, and what was built is read
back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gandt.domain.errors import InvalidInput, WrongState

Parameter = int | float | str | bool
METRIC = "COSINE"  # scores are cosine similarities by contract
EXACT = "FLAT"
LITE_INDEXES = ("FLAT", "HNSW", "HNSW_SQ", "IVF_FLAT", "IVF_SQ8", "AUTOINDEX")
SERVER_INDEXES = (*LITE_INDEXES, "IVF_RABITQ", "IVF_PQ", "HNSW_PQ", "SCANN", "DISKANN")
# A server refuses a search whose list of candidates is shorter than the hits asked for.
LISTS = {"HNSW": ("ef", 64), "HNSW_SQ": ("ef", 64), "HNSW_PQ": ("ef", 64), "DISKANN": ("search_list", 100)}
OWN_KEYS = ("index_type", "metric_type")


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """How a server indexes new collections and searches them.

    Attributes:
        type: FLAT is exact, all others are approximate.
        build, search: parameters of the index, by Milvus' names (M, efConstruction, nlist, refine; ef, nprobe).
    """

    type: str = EXACT
    build: Mapping[str, Parameter] = field(default_factory=dict)
    search: Mapping[str, Parameter] = field(default_factory=dict)

    def check(self, lite: bool) -> None:
        """Refuse what the backend would take without a word and fail on later.

        Raises:
            InvalidInput: the type is unknown, or Milvus Lite does not have it.
        """
        allowed = LITE_INDEXES if lite else SERVER_INDEXES
        if self.type not in allowed:
            raise InvalidInput(
                f"index type {self.type!r} is not one of {', '.join(allowed)}"
                + (", which are those of Milvus Lite" if lite else ""),
                field="milvus_index",
                reason="INDEX_NOT_SUPPORTED",
                fix="choose one of them" + (", or a Milvus server" if lite else ""),
            )

    def search_parameters(self, index_type: str, limit: int) -> dict[str, Any]:
        """Parameters of one search for `limit` hits on an index of this type."""
        chosen: dict[str, Any] = dict(self.search) if index_type == self.type else {}
        if index_type in LISTS:
            name, default = LISTS[index_type]
            chosen[name] = max(int(chosen.get(name, default)), limit)
        return {"metric_type": METRIC, "params": chosen}


@dataclass(frozen=True, slots=True)
class BuiltIndex:
    """An index as a server describes it; parameters as text, as servers keep them."""

    type: str
    metric: str
    parameters: Mapping[str, str]


def add_index(params: Any, column: str, spec: IndexSpec) -> None:
    """The index of a new collection, in pymilvus' list of index parameters."""
    both = {**spec.build, "params": dict(spec.build)} if spec.build else {}
    params.add_index(column, index_type=spec.type, index_name=column, metric_type=METRIC, params=both)


def built(client: Any, name: str, column: str) -> BuiltIndex:
    """What a collection is indexed by.

    Raises:
        WrongState: it has no index.
    """
    described = client.describe_index(name, column)
    if described is None:
        raise WrongState(
            f"collection {name} has no index on its vectors",
            kind="collection",
            id=name,
            state="no index",
            reason="INDEX_MISSING",
            fix="delete the collection and make it again, or create an index with metric COSINE on the server",
        )
    inner = described.get("params") or {}
    found = {key: str(value) for key, value in {**described, **(inner if isinstance(inner, dict) else {})}.items()}
    return BuiltIndex(found.pop("index_type", ""), found.pop("metric_type", ""), found)


def check_built(name: str, index: BuiltIndex, spec: IndexSpec) -> None:
    """Refuse an index that is not the one asked for.

    Raises:
        WrongState: type, metric or a build parameter differs.
    """
    wanted = {"index_type": spec.type, "metric_type": METRIC} | {k: _text(v) for k, v in spec.build.items()}
    got = {"index_type": index.type, "metric_type": index.metric, **index.parameters}
    wrong = [f"{k} {got.get(k, 'nothing')} instead of {v}" for k, v in wanted.items() if _text(got.get(k)) != v]
    if wrong:
        raise WrongState(
            f"the server indexed collection {name} otherwise than asked: {', '.join(wrong)}",
            kind="collection",
            id=name,
            state="other index",
            reason="INDEX_DIFFERS",
            fix="leave out the parameters that this server does not know, or use another server version",
        )


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) or str(value) in ("True", "False") else str(value)
