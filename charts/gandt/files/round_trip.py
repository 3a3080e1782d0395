# SPDX-License-Identifier: GPL-3.0-or-later
"""One round trip through all services: what `helm test` runs, in the image, against the installed release.

It embeds twelve drawn images, stores and searches their vectors in a collection of its own, selects, aggregates, asks
the job controller and the labeling page, and deletes the collection. Endpoints come from GANDT_ENDPOINTS__<NAME>.
The exit status is 0 when every step did what it should.
"""

import os
import secrets
import sys
import urllib.request

import numpy as np

from gandt.client.aggregation import AggregationClient
from gandt.client.embedding import EmbeddingClient
from gandt.client.jobcontroller import JobControllerClient
from gandt.client.selection import SelectionClient
from gandt.client.vectorsearch import VectorSearchClient
from gandt.domain.datasets import Answer, LabeledImage
from gandt.domain.embedding import ImageInput
from gandt.domain.errors import GandtError
from gandt.domain.selection.records import PoolSource, SelectSpec
from gandt.domain.vectors import VectorSet
from gandt.runtime.peers import Peers

STRIPES, OTHER = "stripes", "other"


def drawn() -> list[ImageInput]:
    """Six images with stripes and six with a square, 64 x 64."""
    images = []
    for i in range(12):
        pixels = np.zeros((64, 64, 3), np.uint8)
        if i < 6:
            pixels[:, i :: 8 + i % 3] = 255
        else:
            pixels[i : i + 30, i : i + 30] = 255
        images.append(ImageInput(image_id=f"test-{i}", pixels=pixels))
    return images


def step(text: str) -> None:
    """A line for people."""
    print(text, flush=True)


def main() -> None:
    """Runs all steps; raises where one fails."""
    peers = Peers.configured()
    embedding = EmbeddingClient(peers.connect("embedding"))
    model = embedding.get_model()
    results = embedding.embed(drawn())
    failed = [result.error for result in results if result.error is not None]
    assert not failed, f"images were not embedded: {failed}"
    ids = [result.image_id for result in results]
    vectors = np.stack([result.vector for result in results])
    step(f"embedding: {len(ids)} images, model {model.model_id}")

    search = VectorSearchClient(peers.connect("vectorsearch"))
    name = f"helm_test_{secrets.token_hex(4)}"
    search.create_collection(name, vectors.shape[1], model.model_id)
    try:
        report = search.upsert(name, VectorSet(ids, vectors, model.model_id))
        assert report.stored == len(ids), report
        answer = search.search_ids(name, [ids[0]])
        assert answer.results[0], "no neighbor was found"
        step(f"vectorsearch: {report.stored} vectors stored, nearest found")

        known = [LabeledImage(ids[i], (STRIPES if i < 6 else OTHER,)) for i in (0, 1, 10, 11)]
        spec = SelectSpec(PoolSource(collection=name), target_labels=(STRIPES,), other_label=OTHER, count=4)
        picks = SelectionClient(peers.connect("selection")).select(spec, known).picks
        assert len(picks) == 4, picks
        step(f"selection: {len(picks)} images picked")
    finally:
        search.delete_collection(name)

    answers = [Answer(pick.image_id, f"worker-{w}", (STRIPES,)) for pick in picks for w in range(3)]
    verdicts = AggregationClient(peers.connect("aggregation")).aggregate(answers).items
    assert [verdict.labels for verdict in verdicts] == [(STRIPES,)] * 4, verdicts
    step(f"aggregation: {len(verdicts)} labels")

    step(f"jobcontroller: {JobControllerClient(peers.connect('jobcontroller')).count_images()} images in the catalog")
    page = os.environ.get("GANDT_ENDPOINTS__LABELING", "")
    if page:
        with urllib.request.urlopen(f"{page}/readyz", timeout=10) as response:
            assert response.status == 200, response.status
        step("labeling: ready")
    peers.close()


if __name__ == "__main__":
    try:
        main()
    except GandtError as error:
        sys.exit(f"failed: {error.message} ({error.reason}); {error.fix}")
