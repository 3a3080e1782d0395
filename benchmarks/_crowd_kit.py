# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs crowd-kit in an environment of its own (requirements-peers.txt); the benchmarks call it, not people.

    python _crowd_kit.py FOLDER METHOD...

FOLDER holds `*.npz` with item, worker and label; for each, `NAME.METHOD.npz` gets the posteriors f64[I, K], CPU
seconds, iterations and peak memory in MiB. Seconds are those of fitting alone: imports, reading and the data frame are
left out. Where a file holds `set_ptr` too, a row has several labels, and probability is 1 for those that are found.
"""

from __future__ import annotations

import resource
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from crowdkit import aggregation

warnings.filterwarnings("ignore")
METHODS = {
    "MajorityVote": lambda: aggregation.MajorityVote(),
    "Wawa": lambda: aggregation.Wawa(),
    "ZeroBasedSkill": lambda: aggregation.ZeroBasedSkill(),
    "OneCoinDawidSkene": lambda: aggregation.OneCoinDawidSkene(),
    "DawidSkene": lambda: aggregation.DawidSkene(),
    "GLAD": lambda: aggregation.GLAD(silent=True),
    "BinaryRelevance": lambda: aggregation.BinaryRelevance(aggregation.DawidSkene()),
    "MACE": lambda: aggregation.MACE(n_restarts=5, random_state=0),
}


def main() -> None:
    folder = Path(sys.argv[1])
    for file in sorted(folder.glob("*.npz")):
        if file.stem.count("."):
            continue
        data = np.load(file)
        label = data["label"]
        if "set_ptr" in data:
            label = [part.tolist() for part in np.split(label, data["set_ptr"][1:-1])]
        frame = pd.DataFrame({"task": data["item"], "worker": data["worker"], "label": label})
        for name in sys.argv[2:]:
            method = METHODS[name]()
            started = time.process_time()
            try:
                method.fit_predict(frame)
            except Exception as e:  # noqa: BLE001 a peer's failure is a result
                print(f"{file.stem} {name}: {type(e).__name__}: {e}", file=sys.stderr)
                continue
            seconds = time.process_time() - started
            images, classes = int(data["item"].max()) + 1, int(data["classes"])
            if name == "BinaryRelevance":
                probability = np.zeros((images, classes))
                for item, labels in method.labels_.items():
                    probability[item, labels] = 1.0
            else:
                found = method.predict_proba(frame) if name in ("GLAD", "MACE") else method.probas_
                probability = found.reindex(index=range(images), columns=range(classes)).fillna(0.0).to_numpy()
            np.savez(
                folder / f"{file.stem}.{name}.npz",
                probability=probability,
                seconds=seconds,
                iterations=len(getattr(method, "loss_history_", ())),
                memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            )


if __name__ == "__main__":
    main()
