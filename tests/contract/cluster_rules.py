# SPDX-License-Identifier: GPL-3.0-or-later
"""Milvus Lite under the rules of a Milvus cluster, so that code that is wrong there fails here.

A client around MilvusClient. It refuses what a cluster refuses and Lite takes; answers a search without output fields
with ids and distances only; hides fresh rows from searches that are not Strong; pins iterators to one moment. It knows
only the methods that our adapters may call, and asks each call for a deadline.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import grpc

MAX_DIM, MAX_TOPK, MAX_QUERIES, MAX_JSON = 32_768, 16_384, 16_384, 65_536
LEVELS = ("Strong", "Bounded", "Session", "Eventually")
WITHOUT_DEADLINE = ("create_schema", "prepare_index_params", "close")
AS_THEY_ARE = (
    *WITHOUT_DEADLINE,
    "alter_alias",
    "alter_collection_properties",
    "create_alias",
    "describe_alias",
    "describe_collection",
    "drop_alias",
    "drop_collection",
    "get_collection_stats",
    "has_collection",
    "list_aliases",
    "list_collections",
    "load_collection",
    "release_collection",
)


class TooLarge(grpc.RpcError):
    """What gRPC itself says of a message over the limit; pymilvus lets it through raw."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.RESOURCE_EXHAUSTED

    def details(self) -> str:
        return "message larger than max"


class Page(list[dict[str, Any]]):
    """Rows of a query, with what pymilvus puts beside them."""

    extra: dict[str, Any]


class ClusterRules:
    """A client of a cluster.

    Args:
        client: MilvusClient on Lite.
        message_bytes: of the largest message; 64 MB on a cluster, less in tests.
        output_bytes: of the largest answer of a query; 100 MB on a cluster.
    """

    def __init__(self, client: Any, message_bytes: int = 64 << 20, output_bytes: int = 100 << 20) -> None:
        self._client = client
        self._message_bytes = message_bytes
        self._output_bytes = output_bytes
        self._fresh: dict[str, set[str]] = {}
        self._moments = itertools.count(1)
        self._pinned: dict[tuple[int, str], list[dict[str, Any]]] = {}
        self.calls: list[str] = []

    def settle(self) -> None:
        """Time passes: all rows show to all readers."""
        self._fresh.clear()

    def __getattr__(self, method: str) -> Callable[..., Any]:
        assert method in AS_THEY_ARE, f"{method} is not what our adapters may call on a cluster"
        call: Callable[..., Any] = getattr(self._client, method)

        def noted(*args: Any, **options: Any) -> Any:
            self.calls.append(method)
            assert method in WITHOUT_DEADLINE or options.get("timeout"), f"{method} without a deadline"
            return call(*args, **options)

        return noted

    def create_collection(self, name: str, *, schema: Any, index_params: Any, **options: Any) -> None:
        self._noted("create_collection", options)
        dim = next(field.params["dim"] for field in schema.fields if "dim" in field.params)
        _allowed(dim <= MAX_DIM, f"invalid dimension: {dim}")
        _allowed(len(index_params) == 1, "no vector may be without an index")
        assert options["consistency_level"] == "Strong"  # iterators take the collection's own level
        self._client.create_collection(name, schema=schema, index_params=index_params, **options)

    def describe_index(self, name: str, index_name: str, **options: Any) -> dict[str, Any] | None:
        """A cluster gives parameters side by side, as text."""
        self._noted("describe_index", options)
        found: dict[str, Any] | None = self._client.describe_index(name, index_name, **options)
        if found is None:
            return None
        inner = found.pop("params", {})
        return {**found, **{key: str(value) for key, value in inner.items()}}

    def upsert(self, name: str, rows: list[dict[str, Any]], **options: Any) -> dict[str, int]:
        self._noted("upsert", options)
        ids = [row["id"] for row in rows]
        _allowed(len(set(ids)) == len(ids), "duplicate primary keys are not allowed in the same batch")
        size = 0
        for row in rows:
            fields = len(json.dumps(row["fields"], ensure_ascii=False).encode())
            _allowed(fields <= MAX_JSON, f"the length of json field {fields} exceeds max length {MAX_JSON}")
            _allowed(all(math.isfinite(number) for number in row["vector"]), "value is not a number or infinity")
            size += fields + 4 * len(row["vector"]) + len(row["id"].encode())
        if size > self._message_bytes:
            raise TooLarge
        self._fresh.setdefault(name, set()).update(ids)
        self._client.upsert(name, rows, **options)
        return {"upsert_count": len(rows)}

    def delete(self, name: str, *, filter: str, **options: Any) -> dict[str, int]:
        self._noted("delete", options)
        _allowed(bool(filter), "delete needs an expression")
        self._client.delete(name, filter=filter, **options)
        return {"delete_count": 0}  # a cluster does not look whether they were there

    def search(
        self, name: str, *, data: list[Any], limit: int, filter: str, search_params: dict[str, Any], **options: Any
    ) -> list[list[Any]]:
        self._noted("search", options)
        level = options["consistency_level"]
        assert level in LEVELS
        _allowed(1 <= limit <= MAX_TOPK, f"topk {limit} is out of [1, {MAX_TOPK}]")
        _allowed(1 <= len(data) <= MAX_QUERIES, f"nq {len(data)} is out of [1, {MAX_QUERIES}]")
        index = self._client.describe_index(name, "vector")
        _allowed(search_params["metric_type"] == index["metric_type"], "metric type not match")
        lists = [value for key, value in search_params["params"].items() if key in ("ef", "search_list")]
        shortest = min(lists, default=limit)
        _allowed(shortest >= limit, f"ef({shortest}) should be larger than k({limit})")
        if len(filter.encode()) + sum(4 * len(row) for row in data) > self._message_bytes:
            raise TooLarge
        found = self._client.search(name, data=data, limit=limit, filter=filter, search_params=search_params, **options)
        hidden = set() if level == "Strong" else self._fresh.get(name, set())
        asked = options.get("output_fields") or []
        return [
            [
                {"id": row["id"], "distance": row["distance"], "entity": {key: row["entity"][key] for key in asked}}
                for row in rows
                if row["id"] not in hidden
            ]
            for rows in found
        ]

    def query(self, name: str, *, filter: str, output_fields: list[str], **options: Any) -> list[dict[str, Any]]:
        self._noted("query", options)
        assert options["consistency_level"] in LEVELS
        if output_fields == ["count(*)"]:
            _allowed("limit" not in options, "count entities with pagination is not allowed")
            return list(self._client.query(name, filter=filter, output_fields=output_fields, **options))
        assert options["consistency_level"] == "Strong", "reads of items see every acknowledged write"
        limit = options.pop("limit", None)
        _allowed(bool(filter) or limit is not None, "empty expression should be used with limit")
        _allowed(limit is None or 1 <= limit <= MAX_TOPK, f"limit {limit} is out of [1, {MAX_TOPK}]")
        if options.pop("iterator", None):
            options.pop("reduce_stop_for_best")
            return self._page(name, filter, output_fields, limit or MAX_TOPK, options)
        rows = self._client.query(name, filter=filter, output_fields=output_fields, **options)
        return self._fitting(list(rows)[:limit])

    def _page(
        self, name: str, filter: str, columns: list[str], limit: int, options: dict[str, Any]
    ) -> list[dict[str, Any]]:
        after, end = json.JSONDecoder().raw_decode(filter, len("id > "))
        moment = options.pop("guarantee_timestamp", 0) or next(self._moments)
        key = (moment, name + filter[end:])
        if key not in self._pinned:
            options.pop("consistency_level")
            rows = self._client.query(name, filter=filter, output_fields=columns, limit=MAX_TOPK, **options)
            self._pinned[key] = sorted(rows, key=lambda row: str(row["id"]))
        page = Page([row for row in self._pinned[key] if row["id"] > after][:limit])
        page.extra = {"iterator_session_ts": moment}
        self._fitting(page)
        return page

    def _fitting(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if sum(4 * len(row.get("vector", ())) + len(json.dumps(row.get("fields", {}))) for row in rows) > (
            self._output_bytes
        ):
            raise _refusal(f"query results exceed the maxOutputSize Limit,{self._output_bytes}")
        return rows

    def _noted(self, method: str, options: dict[str, Any]) -> None:
        self.calls.append(method)
        assert options.get("timeout"), f"{method} without a deadline"


def _allowed(is_allowed: bool, problem: str) -> None:
    if not is_allowed:
        raise _refusal(problem)


def _refusal(problem: str) -> Exception:
    from pymilvus.exceptions import MilvusException

    refusal: Exception = MilvusException(code=1100, message=problem)
    return refusal
