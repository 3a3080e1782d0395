# SPDX-License-Identifier: GPL-3.0-or-later
"""The VectorStore on a Milvus server: it keeps the vectors and answers the searches.

Reads ask for strong consistency, so that they see every acknowledged write. An index other than FLAT makes answers
approximate, and they say so; a filter makes graph indexes worse, so `exact` reads the items that match and compares
them here. The contract suite runs against any server named by GANDT_TEST_MILVUS_URI, and against Milvus Lite, which
speaks the same API.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gandt.adapters import milvus_aliases
from gandt.adapters import milvus_client as milvus
from gandt.adapters.resident_table import ResidentTable
from gandt.domain.collections import check_new_name, check_no_alias, check_same
from gandt.domain.errors import NotFound, WrongState
from gandt.domain.filters import And, Filter, Ids, compile_milvus, quoted
from gandt.domain.near_duplicates import MatrixView, content_numbers
from gandt.domain.search import average_direction
from gandt.domain.search_records import (
    MAX_RESULTS,
    Collection,
    Deleted,
    ExampleStrategy,
    ExampleVectors,
    Found,
    Hit,
    Hits,
    ItemSet,
    NearestQuery,
    Scan,
    SearchAnswer,
)
from gandt.domain.vectors import VectorSet

STRONG = "Strong"
RESERVED = 1000  # generations noted at once: a note is a schema change on a server
CONNECT_SECONDS = 5.0
EXAMPLE_CANDIDATES = 4  # times k, for each example
MIN_CANDIDATES = 100


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """How a server indexes new collections and searches them.

    Attributes:
        type: FLAT is exact; HNSW, HNSW_SQ, IVF_FLAT, IVF_SQ8, IVF_RABITQ, DISKANN, AUTOINDEX are approximate.
        build, search: parameters of the index, by Milvus' names (M, efConstruction; ef).
    """

    type: str = "FLAT"
    build: dict[str, int] = field(default_factory=dict)
    search: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Known:
    name: str
    dim: int
    model_id: str
    generation: int
    reserved: int
    writer: threading.Lock = field(default_factory=threading.Lock)


class MilvusServer:
    """Collections on a server.

    Args:
        uri: as pymilvus takes it: http://host:19530, https://..., or the path of a Milvus Lite database.
        token: `user:password` or an API key; "" for none.
        index: of new collections, and how to search.
        max_resident_bytes: most bytes of vectors to read for exact searches and near-duplicates.
        options: more arguments of MilvusClient, such as server_pem_path or db_name.
    """

    def __init__(
        self,
        uri: str,
        token: str = "",
        index: IndexSpec | None = None,
        max_resident_bytes: int = 4 << 30,
        options: dict[str, Any] | None = None,
    ) -> None:
        self._uri = uri
        self._token = token
        self._index = index or IndexSpec()
        self._limit = max_resident_bytes
        self._options = {"timeout": CONNECT_SECONDS, **(options or {})}
        self._client: Any = None
        self._known: dict[str, _Known] = {}
        self._aliases: dict[str, str] = {}  # those seen or made here; this service is the only one that switches them
        self._lock = threading.RLock()

    def open(self) -> None:
        """See the port."""
        with self._lock:
            if self._client is None:
                client_class = milvus.client_class()
                with self._translated("connect"):
                    self._client = client_class(self._uri, token=self._token, **self._options)

    def close(self) -> None:
        """See the port."""
        with self._lock:
            client, self._client = self._client, None
            self._known.clear()
            self._aliases.clear()
        if client is not None:
            client.close()

    def create_collection(self, name: str, dim: int, model_id: str, alias: str = "") -> Collection:
        """See the port."""
        self.open()
        with self._lock, self._translated(f"create collection {name}"):
            collections = self._client.list_collections()
            aliases = [
                found for collection in collections for found in milvus_aliases.aliases_of(self._client, collection)
            ]
            check_new_name(name, alias, collections, aliases)
            if name not in collections:
                index = self._index
                milvus.create_collection(
                    self._client, name, dim, model_id, index.type, index.build, consistency_level=STRONG
                )
        known = self._of(name)
        check_same(Collection(known.name, known.dim, known.model_id), dim, model_id)
        if alias:
            with self._translated(f"switch alias {alias}"):
                milvus_aliases.point_alias(self._client, alias, name)
            with self._lock:
                self._aliases[alias] = name
        return self._described(known)

    def get_collection(self, name: str) -> Collection:
        """See the port."""
        return self._described(self._of(name))

    def list_collections(self) -> list[Collection]:
        """See the port."""
        self.open()
        with self._translated("list collections"):
            names = sorted(self._client.list_collections())
            ours = [name for name in names if milvus.describe(self._client, name) is not None]
        return [self.get_collection(name) for name in ours]

    def delete_collection(self, name: str) -> int:
        """See the port."""
        known = self._of(name)
        with self._lock:
            check_no_alias(name, self._aliases)
        with known.writer, self._translated(f"delete collection {name}"):
            items = milvus.count(self._client, name, consistency_level=STRONG)
            for alias in milvus_aliases.aliases_of(self._client, name):  # a server drops no collection that has some
                self._client.drop_alias(alias)
            self._client.drop_collection(name)
            with self._lock:
                self._known.pop(name, None)
                self._aliases = {alias: target for alias, target in self._aliases.items() if target != name}
        return items

    def upsert(self, name: str, items: ItemSet) -> int:
        """See the port."""
        known = self._of(name)
        with known.writer, self._translated(f"write to collection {known.name}"):
            generation = self._next_generation(known)
            milvus.upsert(self._client, known.name, items, generation)
            known.generation = generation
        return generation

    def delete(self, name: str, ids: Sequence[str]) -> Deleted:
        """See the port."""
        known = self._of(name)
        with known.writer, self._translated(f"delete items of collection {known.name}"):
            present = {row[milvus.ID] for row in self._rows(known.name, ids, [milvus.ID])}
            existing = tuple(image_id for image_id in dict.fromkeys(ids) if image_id in present)
            if existing:
                generation = self._next_generation(known)
                milvus.delete(self._client, known.name, existing)
                known.generation = generation
            return Deleted(existing, known.generation)

    def fetch(self, name: str, ids: Sequence[str], with_fields: bool = False) -> Found:
        """See the port."""
        known = self._of(name)
        columns = [milvus.ID, milvus.VECTOR, *([milvus.FIELDS] if with_fields else [])]
        with self._translated(f"read collection {known.name}"):
            rows = {row[milvus.ID]: row for row in self._rows(known.name, ids, columns)}
        page = [rows[image_id] for image_id in ids if image_id in rows]
        items = milvus.items_of(page, known.dim, known.model_id, True, with_fields)
        return Found(items, tuple(image_id for image_id in ids if image_id not in rows))

    def scan(
        self,
        name: str,
        condition: Filter | None = None,
        after_id: str = "",
        block_rows: int = 1000,
        with_vectors: bool = True,
        with_fields: bool = False,
    ) -> Scan:
        """See the port."""
        known = self._of(name)
        with self._translated(f"read collection {known.name}"):
            total = milvus.count(self._client, known.name, _expression(condition, after_id), consistency_level=STRONG)
        blocks = self._blocks(known, condition, after_id, block_rows, with_vectors, with_fields)
        return Scan(known.dim, known.generation, total, blocks)

    def nearest(self, name: str, query: NearestQuery) -> SearchAnswer:
        """See the port."""
        known = self._of(name)
        if query.exact and self._index.type != "FLAT":
            return self._compared_here(known, query, query.condition, exact=True)
        if isinstance(query.queries, ExampleVectors):
            if query.queries.strategy is ExampleStrategy.AVERAGE:
                direction = average_direction(query.queries)[None, :].astype(np.float32)
                return self._searched(known, replace(query, queries=direction), direction)
            return self._by_examples(known, query, query.queries)
        return self._searched(known, query, query.queries)

    def matrix(self, name: str, condition: Filter | None = None, content_field: str = "") -> MatrixView:
        """See the port."""
        known = self._of(name)
        self._check_limit(known, condition)
        blocks = list(self._blocks(known, condition, "", milvus.PAGE_ROWS, True, bool(content_field)))
        ids = [image_id for block in blocks for image_id in block.ids]
        matrix = np.concatenate([np.zeros((0, known.dim), np.float32), *[block.vectors.matrix for block in blocks]])
        fields = (row for block in blocks for row in block.fields)
        contents = content_numbers(row.get(content_field) for row in fields) if content_field else None
        return MatrixView(ids, matrix.__getitem__, known.generation, contents)

    # ---- inside ----

    def _of(self, name: str) -> _Known:
        self.open()
        with self._lock:
            known = self._known.get(self._aliases.get(name, name))
            if known is not None:
                return known
            with self._translated(f"read collection {name}"):
                described = milvus.describe(self._client, name) if self._client.has_collection(name) else None
                if described is not None:
                    self._client.load_collection(name)
            if described is None:
                raise NotFound(
                    f"collection {name} does not exist",
                    kind="collection",
                    id=name,
                    reason="COLLECTION_NOT_FOUND",
                    fix="create it first",
                )
            if described.name != name:
                self._aliases[name] = described.name
            if described.name not in self._known:
                noted = described.generation
                known = _Known(described.name, described.dim, described.model_id, noted, noted)
                self._known[described.name] = known
            return self._known[described.name]

    def _described(self, known: _Known) -> Collection:
        with self._translated(f"count collection {known.name}"):
            items = milvus.count(self._client, known.name, consistency_level=STRONG)
            aliases = milvus_aliases.aliases_of(self._client, known.name)
        return Collection(known.name, known.dim, known.model_id, items, known.generation, aliases)

    def _next_generation(self, known: _Known) -> int:
        """Reserves ahead, so that after a restart generations go on above every one ever given."""
        generation = known.generation + 1
        if generation > known.reserved:
            known.reserved = generation + RESERVED
            milvus.note_generation(self._client, known.name, known.reserved)
        return generation

    def _rows(self, name: str, ids: Sequence[str], columns: list[str]) -> Iterator[dict[str, Any]]:
        for start in range(0, len(ids), milvus.IDS_A_CALL):
            part = tuple(dict.fromkeys(ids[start : start + milvus.IDS_A_CALL]))
            yield from self._client.query(
                name, filter=compile_milvus(Ids(part)), output_fields=columns, consistency_level=STRONG
            )

    def _blocks(
        self, known: _Known, condition: Filter | None, after_id: str, rows: int, with_vectors: bool, with_fields: bool
    ) -> Iterator[ItemSet]:
        columns = [milvus.ID]
        columns += [milvus.VECTOR] if with_vectors else []
        columns += [milvus.FIELDS] if with_fields else []
        fitting = max(1, milvus.MESSAGE_BYTES // (4 * known.dim + 1024))
        step = min(rows, milvus.PAGE_ROWS, fitting)
        with self._translated(f"read collection {known.name}"):
            for page in milvus.pages(
                self._client, known.name, columns, step, condition, after_id, consistency_level=STRONG
            ):
                yield milvus.items_of(page, known.dim, known.model_id, with_vectors, with_fields)

    def _searched(self, known: _Known, query: NearestQuery, queries: NDArray[np.float32]) -> SearchAnswer:
        most = max((len(ids) for ids in query.excluded), default=0)
        limit = min(MAX_RESULTS, query.k + most)
        columns = [milvus.ID]
        columns += [milvus.FIELDS] if query.with_fields else []
        columns += [milvus.VECTOR] if query.with_vectors else []
        step = max(1, milvus.MESSAGE_BYTES // (4 * known.dim))
        raw: list[Any] = []
        with self._translated(f"search collection {known.name}"):
            for start in range(0, len(queries), step):
                raw += self._client.search(
                    known.name,
                    data=list(queries[start : start + step]),
                    anns_field=milvus.VECTOR,
                    limit=limit,
                    filter=_expression(query.condition),
                    output_fields=columns,
                    search_params={"metric_type": "COSINE", "params": self._index.search},
                    consistency_level=STRONG,
                )
            compared = milvus.count(self._client, known.name, _expression(query.condition), consistency_level=STRONG)
        excluded = query.excluded or (frozenset(),) * len(queries)
        results = tuple(_hits(known, rows, query, drop) for rows, drop in zip(raw, excluded, strict=True))
        return SearchAnswer(results, self._index.type == "FLAT", compared, self._index.type, known.generation)

    def _by_examples(self, known: _Known, query: NearestQuery, examples: ExampleVectors) -> SearchAnswer:
        """Scores the neighborhood of each positive (of the opposite of each negative when there is none)."""
        near = examples.positives if len(examples.positives) else -examples.negatives
        k = min(MAX_RESULTS, max(EXAMPLE_CANDIDATES * query.k, MIN_CANDIDATES))
        found = self._searched(known, NearestQuery(near, k, query.condition), near)
        candidates = tuple(sorted({hit.image_id for hits in found.results for hit in hits.hits}))
        condition: Filter = Ids(candidates) if query.condition is None else And((query.condition, Ids(candidates)))
        answer = self._compared_here(known, query, condition, exact=False)
        return replace(answer, candidates=found.candidates)

    def _compared_here(self, known: _Known, query: NearestQuery, condition: Filter | None, exact: bool) -> SearchAnswer:
        """Reads what matches and searches it in memory, as the embedded store does."""
        self._check_limit(known, condition)
        table = ResidentTable(known.dim)
        for block in self._blocks(known, condition, "", milvus.PAGE_ROWS, True, True):
            table.append(block, known.generation)
        return table.nearest(query, known.model_id, exact, self._index.type)

    def _check_limit(self, known: _Known, condition: Filter | None) -> None:
        with self._translated(f"count collection {known.name}"):
            items = milvus.count(self._client, known.name, _expression(condition), consistency_level=STRONG)
        if items * 4 * known.dim > self._limit:
            raise WrongState(
                f"{items:,} vectors of collection {known.name} do not fit into max_resident_bytes {self._limit:,}",
                kind="collection",
                id=known.name,
                state="too large",
                reason="RESIDENT_MEMORY_FULL",
                fix="narrow it by a filter, raise max_resident_bytes, or embed with a projection to fewer dimensions",
            )

    def _translated(self, what: str) -> AbstractContextManager[None]:
        return milvus.translated(what, self._uri, "milvus")


def _expression(condition: Filter | None, after_id: str = "") -> str:
    parts = [compile_milvus(condition)] if condition is not None else []
    if after_id:
        parts.append(f"{milvus.ID} > {quoted(after_id)}")
    return " and ".join(parts)


def _hits(known: _Known, rows: Sequence[Any], query: NearestQuery, excluded: frozenset[str]) -> Hits:
    """Milvus' rows of one query as hits: best first, ties by id."""
    score_of: Callable[[Any], float] = lambda row: max(-1.0, min(1.0, round(float(row["distance"]), 6)))  # noqa: E731
    kept = [row for row in rows if row[milvus.ID] not in excluded]
    if query.min_score is not None:
        kept = [row for row in kept if score_of(row) >= query.min_score]
    kept = sorted(kept, key=lambda row: (-score_of(row), row[milvus.ID]))[: query.k]
    entities = [{milvus.ID: row[milvus.ID], **row.get("entity", {})} for row in kept]
    hits = tuple(
        Hit(row[milvus.ID], score_of(row), entity[milvus.FIELDS] if query.with_fields else {})
        for row, entity in zip(kept, entities, strict=True)
    )
    if not query.with_vectors:
        return Hits(hits)
    vectors = milvus.items_of(entities, known.dim, known.model_id, True, False).vectors
    return Hits(hits, VectorSet(vectors.ids, vectors.matrix, known.model_id))
