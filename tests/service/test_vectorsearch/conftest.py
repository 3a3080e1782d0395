# SPDX-License-Identifier: GPL-3.0-or-later
"""Vector search over real gRPC, its typed client, and a small collection."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from gandt_vectorsearch.bootstrap import assemble

from gandt.adapters.memory_vectors import MemoryVectors
from gandt.client.connection import Channel, connect
from gandt.client.vectorsearch import VectorSearchClient
from gandt.domain.search_records import (
    ItemSet,
)
from gandt.domain.vectors import VectorSet
from gandt.runtime.server import ServerThread


@pytest.fixture(scope="module")
def channel() -> Iterator[Channel]:
    with (
        ServerThread(assemble(MemoryVectors(max_resident_bytes=8 << 20))) as server,
        connect(server.addresses["vectorsearch"].service, service="vectorsearch") as opened,
    ):
        yield opened


@pytest.fixture
def client(channel: Channel) -> VectorSearchClient:
    """A client; the server has no collections."""
    made = VectorSearchClient(channel)
    for collection in made.list_collections():
        made.delete_collection(collection.name)
    return made


@pytest.fixture
def compass(client: VectorSearchClient) -> VectorSearchClient:
    client.create_collection("c", 2, "m")
    angles = {"east": 0, "ene": 22, "ne": 45, "north": 90, "west": 180, "south": 270}
    matrix = np.array([[np.cos(np.radians(a)), np.sin(np.radians(a))] for a in angles.values()], np.float32)
    fields = [{"side": "right"}, {"side": "right"}, {"side": "right"}, {"side": "up"}, {}, {}]
    client.upsert("c", ItemSet(VectorSet(list(angles), matrix, "m"), fields))
    return client
