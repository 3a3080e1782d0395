# SPDX-License-Identifier: GPL-3.0-or-later
"""The vector stores that the contract suite runs on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from milvus_lite.server_manager import server_manager_instance

from gandt.adapters import milvus_session
from gandt.adapters.memory_vectors import MemoryVectors
from gandt.adapters.milvus_lite import MilvusLiteJournal
from gandt.adapters.milvus_server import Connection, MilvusServer
from gandt.adapters.resident_vectors import ResidentVectors
from gandt.ports.vector_store import VectorStore
from tests.contract.cluster_rules import ClusterRules

NAMES = {"a", "b", "c", "old", "new", "third", "live"}  # all that these tests create: a server may hold more
MILVUS_URI = os.environ.get("GANDT_TEST_MILVUS_URI", "")
MILVUS_TOKEN = os.environ.get("GANDT_TEST_MILVUS_TOKEN", "")


def cluster(uri: str, token: str, options: dict[str, object]) -> ClusterRules:
    """A client of Milvus Lite under a cluster's rules."""
    return ClusterRules(milvus_session.connect(uri, token, options))


@pytest.fixture(scope="module", params=["memory", "milvus-lite", "milvus-server", "cluster-rules"])
def shared_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VectorStore]:
    """One store a module, as starting one costs more than a test.

    The server adapter runs against GANDT_TEST_MILVUS_URI; without one, against Milvus Lite, which speaks the same API.
    It always runs against Milvus Lite under a cluster's rules.
    """
    folder = tmp_path_factory.mktemp("vectors")
    path = str(folder / "milvus.db")
    store: VectorStore = MemoryVectors()
    if request.param == "milvus-lite":
        store = ResidentVectors(MilvusLiteJournal(folder))
    if request.param == "milvus-server":
        store = MilvusServer(Connection(MILVUS_URI or path, MILVUS_TOKEN))
    if request.param == "cluster-rules":
        store = MilvusServer(Connection(path, open=cluster))
    store.open()
    yield store
    store.close()
    if request.param == "cluster-rules" or (request.param == "milvus-server" and not MILVUS_URI):
        server_manager_instance.release_server(path)


@pytest.fixture
def store(shared_store: VectorStore) -> VectorStore:
    """The store, without the collections of these tests."""
    for collection in shared_store.list_collections():
        if collection.name in NAMES:
            shared_store.delete_collection(collection.name)
    return shared_store


@pytest.fixture
def lite_path(tmp_path: Path) -> Iterator[str]:
    """Path of a Milvus Lite database of its own, for the server adapter."""
    path = str(tmp_path / "milvus.db")
    yield path
    server_manager_instance.release_server(path)
