# SPDX-License-Identifier: GPL-3.0-or-later
"""The service as its bootstrap builds it: Milvus Lite and grpc.aio in one process, metrics, restart, settings."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import numpy as np
import pytest
from gandt_vectorsearch.bootstrap import bootstrap
from gandt_vectorsearch.settings import Settings

from gandt.client.connection import connect
from gandt.client.vectorsearch import VectorSearchClient
from gandt.domain.errors import BackendUnavailable, InvalidInput, PermissionDenied, WrongState
from gandt.domain.vectors import VectorSet
from gandt.runtime.server import ServerThread


def settings(folder: Path) -> Settings:
    return Settings(data_dir=folder, port=0, health_port=0, metrics_port=0, drain_seconds=5)


def test_vectors_outlive_the_server_and_metrics_count_them(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    matrix = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    chosen = settings(tmp_path)
    with ServerThread(bootstrap(chosen), chosen) as server:
        addresses = server.addresses["vectorsearch"]
        with connect(addresses.service, service="vectorsearch") as channel:
            client = VectorSearchClient(channel)
            client.create_collection("c", 4, "m")
            client.upsert("c", VectorSet([f"i{n}" for n in range(20)], matrix, "m"))
            answer = client.search_vectors("c", matrix[3])
            assert answer.results[0].hits[0].image_id == "i3"
        with urllib.request.urlopen(addresses.metrics) as page:
            shown = page.read().decode()
    assert "gandt_vectorsearch_rows 20.0" in shown
    assert "gandt_vectorsearch_recall_canary 1.0" in shown
    assert 'gandt_vectorsearch_search_seconds_count{index="resident",query="vectors"} 1.0' in shown
    assert (tmp_path / "vectors").is_dir()
    with (
        ServerThread(bootstrap(chosen), chosen) as server,
        connect(server.addresses["vectorsearch"].service, service="vectorsearch") as channel,
    ):
        assert np.array_equal(VectorSearchClient(channel).fetch("c", ["i7"]).items.vectors.matrix, matrix[7:8])
        with pytest.raises(WrongState) as caught:
            ServerThread(bootstrap(chosen), chosen).start()
        assert caught.value.reason == "IN_USE"
    assert capfd.readouterr() == ("", "")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    chosen = settings(tmp_path / "file")
    with pytest.raises(PermissionDenied, match="cannot be read or written") as caught:
        ServerThread(bootstrap(chosen), chosen).start()
    assert caught.value.reason == "FOLDER_NOT_WRITABLE"


def test_an_unknown_index_is_refused_and_a_milvus_that_is_away_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        Settings(data_dir=tmp_path, milvus_index="GPU_CAGRA")  # type: ignore[arg-type]
    away = settings(tmp_path).model_copy(update={"milvus_uri": "http://127.0.0.1:1"})
    with pytest.raises(BackendUnavailable, match="milvus at"):
        ServerThread(bootstrap(away), away).start()
