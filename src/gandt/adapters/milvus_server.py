# SPDX-License-Identifier: GPL-3.0-or-later
"""The VectorStore on a Milvus server: it keeps the vectors and answers the searches.

Reads of items ask for strong consistency, so that they see every acknowledged write; searches take what the settings
say. An index other than FLAT makes answers approximate, and they say so; a filter makes graph indexes worse, so
`exact` reads the items that match and compares them here. One process writes; a second writer is found out when it
notes its generations. The contract suite runs against any server named by GANDT_TEST_MILVUS_URI, and against Milvus
Lite, which speaks the same API, as it is and under a cluster's rules.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from gandt.adapters import milvus_aliases, milvus_index, milvus_session
from gandt.adapters import milvus_client as milvus
from gandt.adapters.memory_budget import MemoryBudget
from gandt.adapters.milvus_collection import STRONG, ServerCollection
from gandt.adapters.milvus_index import IndexSpec
from gandt.adapters.milvus_search import ServerSearch
from gandt.domain.collections import check_new_name, check_no_alias, check_same
from gandt.domain.errors import NotFound, WrongState
from gandt.domain.filters import Filter
from gandt.domain.near_duplicates import MatrixView
from gandt.domain.search_records import Collection, Deleted, Found, ItemSet, NearestQuery, Scan, SearchAnswer


@dataclass(frozen=True, slots=True)
class Connection:
    """Which server, and how it is asked.

    Attributes:
        uri: http://host:19530, https://..., or the path of a Milvus Lite database, which ends in .db.
        token: `user:password` or an API key; "" for none.
        options: more arguments of MilvusClient; `milvus_session.options_of` makes them.
        timeout: seconds of one call; within them it is tried again while the server is away.
        consistency: of searches: Strong, Bounded, Session or Eventually. All other reads are strong.
        open: makes the client.
    """

    uri: str
    token: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    timeout: float = milvus_session.TIMEOUT_SECONDS
    consistency: str = STRONG
    open: Callable[[str, str, dict[str, Any]], Any] = milvus_session.connect

    @property
    def place(self) -> str:
        """The URI as errors and logs show it: without a password in it."""
        return re.sub(r"//[^/@]*@", "//", self.uri)


@dataclass(frozen=True, slots=True)
class Partitions:
    """How new collections are parted: by the text of an item field, into so many parts; "" for not at all."""

    field: str = ""
    count: int = 16


class MilvusServer:
    """Collections on a server.

    Args:
        connection: which server.
        index: of new collections, and how to search.
        partitions: of new collections.
        max_resident_bytes: most bytes of vectors read at once for exact searches and near-duplicates, of all callers.
    Raises:
        InvalidInput: the backend has no such index.
    """

    def __init__(
        self,
        connection: Connection,
        index: IndexSpec | None = None,
        partitions: Partitions | None = None,
        max_resident_bytes: int = 4 << 30,
    ) -> None:
        self._at = connection
        self._index = index or IndexSpec()
        self._index.check(lite=connection.uri.endswith(".db"))
        self._partitions = partitions or Partitions()
        self._memory = MemoryBudget(max_resident_bytes)
        self._session: Any = None
        self._known: dict[str, ServerCollection] = {}
        self._aliases: dict[str, str] = {}  # those seen or made here; this service is the only one that switches them
        self._lock = threading.RLock()

    def open(self) -> None:
        """See the port."""
        with self._lock:
            if self._session is None:
                with self._translated("connect"):
                    client = self._at.open(self._at.uri, self._at.token, self._at.options)
                self._session = milvus_session.MilvusSession(client, self._at.timeout)

    def close(self) -> None:
        """See the port."""
        with self._lock:
            session, self._session = self._session, None
            self._known.clear()
            self._aliases.clear()
        if session is not None:
            session.close()

    def create_collection(self, name: str, dim: int, model_id: str, alias: str = "") -> Collection:
        """See the port.

        Raises:
            WrongState: the server indexed it otherwise than asked (INDEX_DIFFERS); it is not kept.
        """
        self.open()
        with self._lock, self._translated(f"create collection {name}"):
            names = self._session.list_collections()
            aliases = [found for each in names for found in milvus_aliases.aliases_of(self._session, each)]
            check_new_name(name, alias, names, aliases)
            if name not in names:
                self._create(name, dim, model_id)
        known = self._of(name)
        check_same(Collection(known.name, known.dim, known.model_id), dim, model_id)
        if alias:
            with self._lock, self._translated(f"switch alias {alias}"):
                milvus_aliases.point_alias(self._session, alias, name)
                self._aliases[alias] = name
        return self._described(known)

    def get_collection(self, name: str) -> Collection:
        """See the port."""
        return self._described(self._of(name))

    def list_collections(self) -> list[Collection]:
        """See the port. Loads none: those that nobody used yet say the server's statistics of items, which count
        replaced and deleted ones until the server compacts them.
        """
        self.open()
        with self._translated("list collections"):
            names = sorted(self._session.list_collections())
            ours = [found for name in names if (found := milvus.describe(self._session, name)) is not None]
        return [self._described(self._known_as(described)) for described in ours]

    def delete_collection(self, name: str) -> int:
        """See the port."""
        known = self._found(name)
        with self._lock:
            check_no_alias(name, self._aliases)
        with known.writer, self._translated(f"delete collection {name}"):
            items = self._items(known)
            for alias in milvus_aliases.aliases_of(self._session, name):  # a server drops no collection that has some
                self._session.drop_alias(alias)
            self._session.drop_collection(name)
            with self._lock:
                self._forget(name)
        return items

    def upsert(self, name: str, items: ItemSet) -> int:
        """See the port."""
        return self._of(name).upsert(items)

    def delete(self, name: str, ids: Sequence[str]) -> Deleted:
        """See the port."""
        return self._of(name).delete(ids)

    def fetch(self, name: str, ids: Sequence[str], with_fields: bool = False) -> Found:
        """See the port."""
        return self._of(name).fetch(ids, with_fields)

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
        return self._of(name).scan(condition, after_id, block_rows, with_vectors, with_fields)

    def nearest(self, name: str, query: NearestQuery) -> SearchAnswer:
        """See the port."""
        return ServerSearch(self._of(name), self._index, self._at.consistency).nearest(query)

    def matrix(self, name: str, condition: Filter | None = None, content_field: str = "") -> MatrixView:
        """See the port."""
        return self._of(name).matrix(condition, content_field)

    # ---- inside ----

    def _create(self, name: str, dim: int, model_id: str) -> None:
        options: dict[str, Any] = {"consistency_level": STRONG}
        if self._partitions.field:
            options["num_partitions"] = self._partitions.count
        index = self._index
        milvus.create_collection(
            self._session, name, dim, model_id, index.type, index.build, self._partitions.field, **options
        )
        try:
            milvus_index.check_built(name, milvus_index.built(self._session, name, milvus.VECTOR), index)
        except WrongState:
            self._session.drop_collection(name)
            raise

    def _of(self, name: str) -> ServerCollection:
        """A collection that can be read and searched: its index is checked, and it is loaded."""
        known = self._found(name)
        with self._lock:
            if not known.index_type:
                with self._translated(f"read collection {name}", known.name):
                    index = milvus_index.built(self._session, known.name, milvus.VECTOR)
                    milvus_index.check_built(known.name, index, IndexSpec(index.type))  # the metric
                    self._session.load_collection(known.name)
                known.index_type = index.type
        return known

    def _found(self, name: str) -> ServerCollection:
        """A collection by its name or alias, as it is described."""
        self.open()
        with self._lock:
            known = self._known.get(self._aliases.get(name, name))
            if known is not None:
                return known
            with self._translated(f"read collection {name}"):
                described = milvus.describe(self._session, name) if self._session.has_collection(name) else None
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
            return self._known_as(described)

    def _known_as(self, described: milvus.Described) -> ServerCollection:
        with self._lock:
            new = ServerCollection(self._session, described, self._memory, self._translated)
            return self._known.setdefault(described.name, new)

    def _items(self, known: ServerCollection) -> int:
        """Counted where the collection is loaded; else what the server's statistics say."""
        if known.index_type:
            return known.items()
        with known.doing("count"):
            return int(self._session.get_collection_stats(known.name)["row_count"])

    def _described(self, known: ServerCollection) -> Collection:
        items = self._items(known)
        with known.doing("read"):
            aliases = milvus_aliases.aliases_of(self._session, known.name)
        return Collection(known.name, known.dim, known.model_id, items, known.generation, aliases)

    def _forget(self, name: str) -> None:
        self._known.pop(name, None)
        self._aliases = {alias: target for alias, target in self._aliases.items() if target != name}

    @contextmanager
    def _translated(self, what: str, name: str = "") -> Iterator[None]:
        """Errors of pymilvus as ours; a known collection that someone else removed is known no more."""
        try:
            with milvus.translated(what, self._at.place, "milvus"):
                yield
        except NotFound:
            with self._lock:
                self._forget(name)
            raise
