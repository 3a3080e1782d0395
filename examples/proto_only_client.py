# SPDX-License-Identifier: GPL-3.0-or-later
"""A client made from `proto/` alone: embed, upsert, search, select, aggregate against `gandt serve`.

It imports nothing of G&T. Any language with gRPC can do the same:

    python -m pip install grpcio-tools
    python -m grpc_tools.protoc -I proto --python_out=stubs --grpc_python_out=stubs $(find proto -name '*.proto')
    PYTHONPATH=stubs python examples/proto_only_client.py serve.json photos/*.jpg

The first half of the images given is taken for one class, the second half for another.
"""

import json
import sys
from pathlib import Path

import grpc
from gandt.aggregation.v1 import aggregation_pb2 as agg
from gandt.aggregation.v1 import aggregation_pb2_grpc as agg_grpc
from gandt.embedding.v1 import embedding_pb2 as emb
from gandt.embedding.v1 import embedding_pb2_grpc as emb_grpc
from gandt.selection.v1 import selection_pb2 as sel
from gandt.selection.v1 import selection_pb2_grpc as sel_grpc
from gandt.type.v1 import type_pb2 as types
from gandt.vectorsearch.v1 import vectorsearch_pb2 as vec
from gandt.vectorsearch.v1 import vectorsearch_pb2_grpc as vec_grpc

COLLECTION = "proto_only"


def embed(address: str, files: list[Path]) -> tuple[emb.EmbedResponse, bytes]:
    stub = emb_grpc.EmbeddingServiceStub(grpc.insecure_channel(address))
    images = [emb.Image(image_id=f.name, data=f.read_bytes()) for f in files]
    answer = stub.Embed(emb.EmbedRequest(images=images), timeout=60)
    assert all(r.WhichOneof("outcome") == "vector" for r in answer.results), answer
    return answer, b"".join(r.vector for r in answer.results)


def store(stub: vec_grpc.VectorSearchServiceStub, ids: list[str], data: bytes, model: emb.EmbedResponse) -> None:
    collection = vec.Collection(name=COLLECTION, dim=model.dim, model_id=model.model_id)
    stub.CreateCollection(vec.CreateCollectionRequest(collection=collection), timeout=60)
    block = types.VectorBlock(ids=ids, data=data, dim=model.dim, dtype=types.DTYPE_FLOAT32)
    requests = [
        vec.UpsertRequest(open=vec.UpsertRequest.Open(collection=COLLECTION, model_id=model.model_id)),
        vec.UpsertRequest(block=vec.UpsertRequest.Block(vectors=block)),
    ]
    *_, last = stub.Upsert(iter(requests), timeout=60)
    assert last.stored == len(ids), last


def search(stub: vec_grpc.VectorSearchServiceStub, image_id: str) -> list[str]:
    query = vec.SearchRequest(collection=COLLECTION, by_ids=vec.SearchRequest.ByIds(ids=[image_id]), k=3)
    return [hit.image_id for hit in stub.Search(query, timeout=60).results[0].hits]


def select(address: str, labeled: dict[str, str], count: int) -> list[sel.Pick]:
    stub = sel_grpc.SelectionServiceStub(grpc.insecure_channel(address))
    spec = sel.SelectSpec(
        pool=sel.Pool(collection=COLLECTION), target_labels=["first"], other_label="second", count=count
    )
    known = [types.LabeledImage(image_id=i, labels=[label]) for i, label in labeled.items()]
    requests = [sel.SelectRequest(spec=spec), sel.SelectRequest(chunk=sel.InputChunk(labeled=known))]
    return [p for r in stub.Select(iter(requests), timeout=60) for p in r.picks.picks]


def aggregate(address: str, images: list[str]) -> list[agg.Item]:
    stub = agg_grpc.AggregationServiceStub(grpc.insecure_channel(address))
    workers, labels = ["w1", "w2", "w3"], ["first", "second"]
    votes = [(i, w, 0 if i < len(images) / 2 or w == 2 else 1) for i in range(len(images)) for w in range(3)]
    chunk = agg.AnswerChunk(
        new_image_ids=images,
        new_worker_ids=workers,
        new_labels=labels,
        images=[i for i, _, _ in votes],
        workers=[w for _, w, _ in votes],
        label_counts=[1] * len(votes),
        labels=[label for _, _, label in votes],
    )
    spec = agg.AggregateSpec(method="majority", classes=labels)
    requests = [agg.AggregateRequest(spec=spec), agg.AggregateRequest(answers=chunk)]
    return [item for r in stub.Aggregate(iter(requests), timeout=60) for item in r.items.items]


def main() -> None:
    services = json.loads(Path(sys.argv[1]).read_text())["endpoints"]
    files = [Path(name) for name in sys.argv[2:]]
    ids = [f.name for f in files]
    model, data = embed(services["embedding"], files)
    vectors = vec_grpc.VectorSearchServiceStub(grpc.insecure_channel(services["vectorsearch"]))
    store(vectors, ids, data, model)
    half = len(files) // 2
    labeled = {ids[0]: "first", ids[1]: "first", ids[-1]: "second", ids[-2]: "second"}
    picks = select(services["selection"], labeled, 4)
    picked = [p.image_id for p in picks]
    assert not set(picked) & set(labeled), picked
    items = aggregate(services["aggregation"], picked)
    result = {
        "model_id": model.model_id,
        "nearest_to_first": search(vectors, ids[0]),
        "picks": picked,
        "first_half_picks": sum(ids.index(i) < half for i in picked),
        "labels": {item.image_id: list(item.labels) for item in items},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
