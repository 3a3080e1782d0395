# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the images of a collection that fit a phrase.

    python examples/search_by_phrase.py COLLECTION "a red dress" [--embedding HOST:PORT] [--vectorsearch HOST:PORT]

The embedding service must have the model that made the collection, with a text tower (open_clip:NAME/PRETRAINED).
"""

import argparse
import sys
from collections.abc import Sequence

from gandt.client.connection import connect
from gandt.client.embedding import EmbeddingClient
from gandt.client.vectorsearch import VectorSearchClient
from gandt.domain.search_records import SearchOptions


def main(arguments: Sequence[str]) -> None:
    """Prints a line for each image found: its score and its id."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection")
    parser.add_argument("phrase")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--embedding", default="127.0.0.1:50051")
    parser.add_argument("--vectorsearch", default="127.0.0.1:50052")
    args = parser.parse_args(arguments)
    with connect(args.embedding, service="embedding") as embedding, connect(args.vectorsearch) as vectorsearch:
        images = VectorSearchClient(vectorsearch)
        model_id = images.get_collection(args.collection).model_id
        # Refused unless the service has the model of the collection.
        vectors = EmbeddingClient(embedding).embed_texts([args.phrase], model_id)  # f32[1, D]
        (hits,) = images.search_vectors(args.collection, vectors, SearchOptions(k=args.count), model_id).results
    for hit in hits.hits:
        print(f"{hit.score:.3f} {hit.image_id}")


if __name__ == "__main__":
    main(sys.argv[1:])
