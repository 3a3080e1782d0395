# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the service's vectors are as good as the bare model's: nearest neighbors and a linear probe on photos.

    python benchmarks/embedding_accuracy.py [--images 1400]

MobileNetV2 with the weights in $GANDT_SHARED_DIR/weights on clothing photos; of each class every second one is for the
test. `bare` is torchvision's network and its own transforms on Pillow's full-size pixels; the others go
through a real server, as JPEG files over gRPC, with the engine or option named.
"""

from __future__ import annotations

import argparse
import os

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy and torch; the server inherits it

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _embedding import MOBILENET, SHARED, mobilenet, serving
from numpy.typing import NDArray
from PIL import Image, ImageOps
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from torchvision.models import mobilenet_v2
from torchvision.transforms import v2

from gandt.domain.embedding import ImageInput

NEIGHBORS = 10
SETTINGS: dict[str, dict[str, Any]] = {
    "service, eager": {"engine": "eager"},
    "service, auto": {"engine": "auto"},
    "service, bfloat16": {"engine": "openvino", "precision": "bfloat16"},
    "service, flip": {"flip": "true"},
    "service, 256 numbers": {"project_to": 256},
}


def main() -> None:
    """Prints a line for each way to the vectors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1400)
    args = parser.parse_args()
    table = SHARED / "data" / "clothing" / "labels.csv"
    rows = [line.split(",") for line in table.read_text().split()[1:]]
    rows = rows[:: max(1, len(rows) // args.images)]
    labels = np.array([label for _, label in rows])
    test = np.zeros(len(rows), bool)
    for label in set(labels.tolist()):
        test[np.flatnonzero(labels == label)[::2]] = True
    files = [(table.parent / name).read_bytes() for name, _ in rows]
    print(f"{len(files)} photos, {test.sum()} of them for the test, {len(set(labels.tolist()))} classes")
    print("vectors | 1 neighbor | 10 neighbors | linear probe | least, median cosine to bare")
    exact = bare(files)
    report("bare", exact, exact, labels, test)
    with tempfile.TemporaryDirectory() as folder:
        for name, settings in SETTINGS.items():
            with serving(Path(folder), **{**mobilenet(Path(folder)), **settings}) as server:
                inputs = (ImageInput(str(number), data) for number, data in enumerate(files))
                found = {result.image_id: result.vector for result in server.client.embed_stream(inputs)}
                engine = server.client.get_model().engine
            vectors = np.stack([found[str(number)] for number in range(len(files))])
            report(f"{name} ({engine})", vectors, exact, labels, test)


def bare(files: list[bytes]) -> NDArray[np.float32]:
    """The network as torchvision runs it, without anything of gandt."""
    network = mobilenet_v2(num_classes=1001)
    counters = {k: v for k, v in network.state_dict().items() if k.endswith("num_batches_tracked")}
    network.load_state_dict({**counters, **{k: v.float() for k, v in load_file(MOBILENET).items()}})
    network.classifier = torch.nn.Identity()
    network.eval()
    fit = v2.Compose([v2.Resize((224, 224), antialias=True), v2.PILToTensor()])
    rows = []
    with torch.inference_mode():
        for data in files:
            image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
            x = fit(image).flip(1, 2)[None].float() / 127.5 - 1  # turned by 180 degrees, as the weights want
            rows.append(torch.nn.functional.normalize(network(x))[0].numpy())
    return np.stack(rows)


def report(
    name: str, vectors: NDArray[np.float32], exact: NDArray[np.float32], labels: NDArray[Any], test: NDArray[np.bool_]
) -> None:
    """Prints the accuracies of one matrix of unit vectors."""
    known, asked = labels[~test], labels[test]
    likeness = vectors[test] @ vectors[~test].T  # [test, train]
    nearest = known[np.argsort(-likeness, axis=1, kind="stable")[:, :NEIGHBORS]]
    one = float((nearest[:, 0] == asked).mean())
    votes = [max(sorted(set(row)), key=row.tolist().count) for row in nearest]
    ten = float((np.array(votes) == asked).mean())
    mean, spread = vectors[~test].mean(0), vectors[~test].std(0) + 1e-9
    probe = LogisticRegression(C=0.01, max_iter=2000).fit((vectors[~test] - mean) / spread, known)
    linear = float((probe.predict((vectors[test] - mean) / spread) == asked).mean())
    line = f"{name} | {one:.3f} | {ten:.3f} | {linear:.3f} |"
    if vectors.shape == exact.shape:
        cosines = np.sum(vectors * exact, axis=1)
        line += f" {cosines.min():.4f}, {np.median(cosines):.5f}"
    print(line, flush=True)


if __name__ == "__main__":
    main()
