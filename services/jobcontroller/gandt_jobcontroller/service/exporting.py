# SPDX-License-Identifier: GPL-3.0-or-later
"""The labeled dataset as a file in the object store: a table, or an augmented manifest as SageMaker trains on."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gandt.domain.catalog import StoredLabel
from gandt.domain.datasets import LabelStatus
from gandt.domain.errors import InvalidInput
from gandt.domain.images import split_uri
from gandt.domain.labeling.campaigns import Campaign
from gandt.domain.labeling.outcomes import Exported
from gandt.tables.files import write_rows
from gandt.tables.labels import PROJECT_LABEL_COLUMNS
from gandt_jobcontroller.service.naming import check_space
from gandt_jobcontroller.service.parts import Parts
from gandt_jobcontroller.service.selecting import SEED

TABLES = ("csv", "jsonl", "parquet")
COLUMNS = (*PROJECT_LABEL_COLUMNS, "source", "image_id", "uri")
PAGE = 5_000


def export_labels(parts: Parts, campaign_id: str, form: str, uri: str, include_uncertain: bool) -> Exported:
    """Write a campaign's labels, seeds of its classes too, as one object; readers see the old one or the new one.

    Raises:
        InvalidInput: an unknown format, or a URI without a key.
    """
    if form not in (*TABLES, "manifest"):
        raise InvalidInput(
            f"format {form!r} is none of {', '.join(TABLES)}, manifest", field="format", reason="UNKNOWN_FORMAT"
        )
    if not split_uri(uri)[1]:
        raise InvalidInput(f"{uri} names no object", field="uri", fix="write it as s3://bucket/folder/labels.csv")
    campaign = parts.store.get_campaign(campaign_id)
    rows = [row for row in _labels(parts, campaign) if include_uncertain or row.status == LabelStatus.CERTAIN]
    data = _manifest(campaign, rows) if form == "manifest" else _table(parts, form, rows)
    parts.objects.put(uri, data, "application/jsonlines" if form == "manifest" else "application/octet-stream")
    return Exported(uri, len(rows), hashlib.sha256(data).hexdigest())


def _labels(parts: Parts, campaign: Campaign) -> Iterator[StoredLabel]:
    after, space = "", campaign.spec.space.classes
    while page := parts.store.list_labels(campaign.campaign_id, "", True, after, PAGE):
        yield from (row for row in page if row.source != SEED or check_space(row.labels, space) is None)
        after = page[-1].image_id


def _table(parts: Parts, form: str, labels: list[StoredLabel]) -> bytes:
    names = shown_names(parts.store.list_folders(), labels)
    rows = ({**_row(label), "image": name} for label, name in zip(labels, names, strict=True))
    with tempfile.TemporaryDirectory(prefix="gandt-export-") as folder:
        path = Path(folder) / f"labels.{form}"
        write_rows(str(path), COLUMNS, rows)
        return path.read_bytes()


def shown_names(folders: list[str], labels: list[StoredLabel]) -> list[str]:
    """What people call each image: its path below the imported folder, or its URI where two would be the same."""
    paths = [_below(folders, label.uris[0]) if label.uris else label.image_id for label in labels]
    counts = Counter(paths)
    return [
        path if counts[path] == 1 or not label.uris else label.uris[0]
        for path, label in zip(paths, labels, strict=True)
    ]


def _below(folders: list[str], uri: str) -> str:
    around = [folder for folder in folders if uri.startswith(folder)]
    return uri.removeprefix(max(around, key=len)) if around else uri


def _row(label: StoredLabel) -> dict[str, Any]:
    return {
        "label": label.labels,
        "confidence": round(label.confidence, 6),
        "status": label.status,
        "answers": label.answers,
        "agreeing": label.agreeing,
        "arm": label.arm,
        "round": label.round,
        "inclusion_probability": label.inclusion_probability,
        "source": label.source,
        "image_id": label.image_id,
        "uri": label.uris[0] if label.uris else "",
    }


def _manifest(campaign: Campaign, labels: list[StoredLabel]) -> bytes:
    """Image classification as Ground Truth writes it; classes by number in the campaign's order."""
    classes = campaign.spec.space.classes
    numbers = {name: number for number, name in enumerate(classes)}
    date = campaign.updated_at.strftime("%Y-%m-%dT%H:%M:%S.%f")
    lines = []
    for label in labels:
        shared = {"human-annotated": "yes", "creation-date": date, "job-name": f"labeling-job/{campaign.spec.name}"}
        known = [name for name in label.labels if name in numbers]
        if campaign.spec.multi_label:
            value: object = [numbers[name] for name in known]
            metadata = {
                "class-map": {str(numbers[name]): name for name in known},
                "confidence-map": {str(numbers[name]): round(label.confidence, 6) for name in known},
                "type": "groundtruth/image-classification-multilabel",
                **shared,
            }
        else:
            value = numbers[known[0]] if len(known) == 1 else None
            metadata = {
                "class-name": known[0] if len(known) == 1 else "",
                "confidence": round(label.confidence, 6),
                "type": "groundtruth/image-classification",
                **shared,
            }
        line: dict[str, Any] = {"source-ref": label.uris[0] if label.uris else "", "gandt-image-id": label.image_id}
        if value is not None:
            line |= {"label": value, "label-metadata": metadata}
        lines.append(json.dumps(line, ensure_ascii=False))
    return "".join(f"{line}\n" for line in lines).encode()
