# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a batch file as the original project did: the same rows, by basename, and the same refusals.

Source:
    The original project's `analyse_labels_data.read_responses`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from gandt.domain.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class CompatRow:
    """One row of the original's table, with its column names.

    Attributes:
        image_filename: the last part of the picture's URI; images of that name in two folders become one.
        labels: whatever JSON the field held; a list of label texts in good files.
    """

    labelling_job_name: str
    labels_fname: str
    image_filename: str
    image_index: Any
    worker_id: str
    labels: Any
    dataset_object_id: str


def read_responses_compat(path: str, absolute_path: str, data: bytes) -> list[CompatRow]:
    """The rows of one batch file.

    Args:
        path: as the caller named the file; it goes into the rows.
        absolute_path: with "/"; its sixth part from the end is the job's name.
    Raises:
        InvalidInput: where the original raises and loses the whole file; `metadata["original"]` names its error.
    """
    try:
        return _rows(path, absolute_path.split("/")[-6], json.loads(data))
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError) as e:
        raise InvalidInput(
            f"{path}: the original stops at this file with {type(e).__name__}: {e}",
            reason="COMPAT_FAILED",
            fix="read it without --compat: what is broken is then set aside and the rest is kept",
            metadata={"original": type(e).__name__},
        ) from e


def _rows(path: str, job: str, batch: Any) -> list[CompatRow]:
    rows = []
    for item in batch:
        tiles = json.loads(item["dataObject"]["content"])
        images = {tile["index"]: tile["source-ref"].rpartition("/")[2] for tile in tiles}
        object_id = item["datasetObjectId"]
        for annotation in item["annotations"]:
            worker = annotation["workerId"]
            for name, value in json.loads(annotation["annotationData"]["content"]).items():
                labels = json.loads(value)
                index = int(name.split("-")[-1])
                rows.append(CompatRow(job, path, images[index], index, worker, labels, object_id))
    return rows
