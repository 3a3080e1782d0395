# SPDX-License-Identifier: GPL-3.0-or-later
"""A phrase finds its images: the example against both services."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from gandt_embedding.admission import Limits
from gandt_embedding.cache import VectorCache
from gandt_embedding.pipeline import Pipeline
from gandt_embedding.service import EmbeddingService
from gandt_embedding.servicer import EmbeddingServicer
from gandt_embedding.settings import Settings
from gandt_vectorsearch.bootstrap import assemble

from gandt.adapters.memory_clock import MemoryMeter
from gandt.adapters.memory_model import COLORS, MemoryModel
from gandt.adapters.memory_objects import MemoryObjects
from gandt.adapters.memory_vectors import MemoryVectors
from gandt.adapters.system_clock import SystemClock
from gandt.client.connection import connect
from gandt.client.vectorsearch import VectorSearchClient
from gandt.domain.errors import WrongState
from gandt.domain.search_records import ItemSet
from gandt.domain.vectors import VectorSet
from gandt.runtime.application import Application
from gandt.runtime.server import ServerThread
from gandt.wire import embedding as wire

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "search_by_phrase.py"


def test_the_example_finds_the_image_of_the_phrase(capsys: pytest.CaptureFixture[str]) -> None:
    module_spec = importlib.util.spec_from_file_location("search_by_phrase", EXAMPLE)
    assert module_spec is not None
    assert module_spec.loader is not None
    example = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(example)
    model = MemoryModel()
    service = EmbeddingService(
        lambda: Pipeline(model, MemoryObjects(), VectorCache(0), Limits(), MemoryMeter(), SystemClock())
    )
    app = Application(
        name="embedding",
        grpc_service=wire.SERVICE,
        register=lambda server, pool: wire.add_servicer(EmbeddingServicer(service, pool), server),
        warm_up=service.warm_up,
        close=service.close,
    )
    plain = [model.prepare_pixels(np.full((8, 8, 3), list(color.to_bytes(3)), np.uint8)) for color in COLORS.values()]
    photos = VectorSet(list(COLORS), model.embed(plain), model.info.model_id)
    with (
        ServerThread(app, Settings(port=0, health_port=None, metrics_port=None)) as embedding,
        ServerThread(assemble(MemoryVectors(max_resident_bytes=8 << 20))) as vectorsearch,
        connect(vectorsearch.addresses["vectorsearch"].service) as channel,
    ):
        client = VectorSearchClient(channel)
        for name, model_id in (("photos", model.info.model_id), ("others", "other-1")):
            client.create_collection(name, model.info.dim, model_id)
        client.upsert("photos", ItemSet(photos, [{} for _ in COLORS]))
        places = ["--embedding", embedding.addresses["embedding"].service]
        places += ["--vectorsearch", vectorsearch.addresses["vectorsearch"].service]
        example.main(["photos", "something blue", "--count", "2", *places])
        first, second = capsys.readouterr().out.splitlines()
        assert first == "1.000 blue"
        assert second.split()[1] in COLORS
        with pytest.raises(WrongState) as caught:
            example.main(["others", "something blue", *places])
        assert caught.value.reason == "MODEL_MISMATCH"
