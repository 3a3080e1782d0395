# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that a labeling job leaves behind, each read into plain records.

    annotations/consolidated-annotation/consolidation-request/iteration-<n>/<time>.json   a batch of objects
    annotations/worker-response/iteration-<n>/<object id>/<time>.json                     answers with times
    manifests/output/output.manifest                                                      one line per input line

A batch or an answer file holds the forms as workers sent them; only the second has times, only the first says for
certain what an object showed. A file that is not itself JSON is one broken record, never an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from gandt.domain.labeling.worker_answer import (
    AnswerError,
    Malformed,
    Page,
    is_text,
    malformed,
    page_of,
    parse_json,
    parse_seconds,
)

_ITERATION = re.compile(r"/iteration-(\d+)/")


class FileKind(StrEnum):
    """What a file of a job holds."""

    REQUEST = "consolidation-request"
    RESPONSE = "worker-response"
    MANIFEST = "output manifest"


class LineKind(StrEnum):
    """What became of a line of the input manifest."""

    LABELED = "labeled"
    FAILED = "failed"
    UNLABELED = "unlabeled"


@dataclass(frozen=True, slots=True)
class Submission:
    """One form as a worker sent it.

    Attributes:
        content: the form: JSON text, or what such text held.
        content_uri: where the form lies, when it is not in the file itself; else "".
        seconds: active seconds on the whole page; None when not said.
    """

    object_id: str
    worker_id: str
    content: Any
    content_uri: str = ""
    submitted_at: datetime | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class OutputLine:
    """One line of the output manifest.

    Attributes:
        number: from 0; equal to the line of the input and to our service's object id.
        task: the line's `gandt-task`; "" when it has none.
        reason: the service's words, for a failed line.
        page: what the line showed.
        submissions: the forms in the label itself, as our Lambda hands them on.
        broken: what the Lambda could not read.
        job: the job named in the metadata; "" when none is.
    """

    number: int
    task: str
    kind: LineKind
    reason: str = ""
    page: Page | None = None
    submissions: tuple[Submission, ...] = ()
    broken: tuple[tuple[str, Malformed], ...] = ()
    job: str = ""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What one file says.

    Attributes:
        pages: object id to what it showed.
        broken: (object id, worker id, what could not be read).
    """

    submissions: tuple[Submission, ...] = ()
    pages: Mapping[str, Page] | None = None
    lines: tuple[OutputLine, ...] = ()
    broken: tuple[tuple[str, str, Malformed], ...] = ()


def file_kind(key: str) -> FileKind | None:
    """What the key's place in the tree says; None for files that hold no answers."""
    path = f"/{key}"
    if "/consolidation-request/" in path and path.endswith(".json"):
        return FileKind.REQUEST
    if "/annotations/worker-response/" in path and path.endswith(".json"):
        return FileKind.RESPONSE
    return FileKind.MANIFEST if path.endswith("/manifests/output/output.manifest") else None


def job_of(key: str) -> str:
    """The job's name: the folder above `annotations` or `manifests`; "" when there is none."""
    parts = key.split("/")
    places = [place for place, part in enumerate(parts[:-1]) if part in ("annotations", "manifests")]
    return parts[places[-1] - 1] if places and places[-1] > 0 else ""


def file_order(key: str) -> tuple[int, str]:
    """Sort key: iterations by number (10 after 9), then by name, which begins with the time."""
    found = _ITERATION.search(key)
    return (int(found.group(1)) if found else 0, key)


def guess_kind(data: bytes) -> FileKind:
    """What a single file holds, by its content."""
    try:
        value = parse_json(data, "")
    except AnswerError:
        return FileKind.MANIFEST
    if isinstance(value, dict) and "answers" in value:
        return FileKind.RESPONSE
    return FileKind.MANIFEST if isinstance(value, dict) else FileKind.REQUEST


def read_request(data: bytes) -> Parsed:
    """A batch of the post-annotation Lambda."""
    try:
        batch = parse_json(data, "file_not_json")
    except AnswerError as e:
        return Parsed(broken=(("", "", e.malformed),))
    if not isinstance(batch, list):
        return Parsed(broken=(("", "", malformed("file_not_a_list", batch)),))
    submissions, pages, broken = [], {}, []
    for item in batch:
        if not isinstance(item, dict):
            broken.append(("", "", malformed("not_an_object", item)))
            continue
        object_id = str(item.get("datasetObjectId", ""))
        try:
            pages[object_id] = _page(item.get("dataObject"))
        except AnswerError as e:
            broken.append((object_id, "", e.malformed))
        annotations = item.get("annotations")
        for annotation in annotations if isinstance(annotations, list) else []:
            try:
                submissions.append(_annotation(object_id, annotation))
            except AnswerError as e:
                broken.append((object_id, _worker(annotation), e.malformed))
    return Parsed(tuple(submissions), pages, broken=tuple(broken))


def read_worker_response(data: bytes, key: str) -> Parsed:
    """The answers to one object; its id is the name of the file's folder."""
    parts = key.split("/")
    object_id = parts[-2] if len(parts) > 1 else ""
    try:
        value = parse_json(data, "file_not_json")
    except AnswerError as e:
        return Parsed(broken=((object_id, "", e.malformed),))
    answers = value.get("answers") if isinstance(value, dict) else None
    if not isinstance(answers, list):
        return Parsed(broken=((object_id, "", malformed("file_without_answers", value)),))
    submissions, broken = [], []
    for answer in answers:
        if not isinstance(answer, dict) or not _worker(answer):
            broken.append((object_id, "", malformed("no_worker", answer)))
            continue
        submissions.append(
            Submission(
                object_id,
                _worker(answer),
                answer.get("answerContent"),
                submitted_at=parse_time(answer.get("submissionTime")),
                seconds=parse_seconds(answer.get("timeSpentInSeconds")),
            )
        )
    return Parsed(tuple(submissions), broken=tuple(broken))


def read_output_manifest(data: bytes, label_attribute: str = "") -> Parsed:
    """The output manifest.

    Args:
        label_attribute: whose labels count; "" takes the one that the metadata names.
    """
    lines, broken = [], []
    text = data.decode("utf-8", "replace")
    for number, line in enumerate(line for line in text.split("\n") if line.strip()):
        try:
            value = parse_json(line, "line_not_json")
            if not isinstance(value, dict):
                raise AnswerError("line_not_json", line)
            lines.append(_output_line(number, value, label_attribute))
        except AnswerError as e:
            broken.append((str(number), "", e.malformed))
    return Parsed(lines=tuple(lines), broken=tuple(broken))


def parse_time(value: object) -> datetime | None:
    """An ISO 8601 time as aware UTC (without a zone it is UTC), or None."""
    try:
        moment = datetime.fromisoformat(str(value))
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _page(data: object) -> Page:
    """What a `dataObject` showed: a group in `content`, or one picture in `s3Uri`."""
    if isinstance(data, dict):
        if isinstance(data.get("content"), str):
            return _group(data["content"])
        uri = data.get("s3Uri") or data.get("s3uri") or data.get("source-ref")
        if isinstance(uri, str):
            return page_of([{**data, "source-ref": uri, "index": 0}])
        if "source" in data:
            return _group(data["source"])
    raise AnswerError("object_unknown", data)


def _group(source: object) -> Page:
    tiles = parse_json(source, "object_not_json") if isinstance(source, str) else source
    return page_of(tiles)


def _worker(annotation: object) -> str:
    worker = annotation.get("workerId") if isinstance(annotation, dict) else None
    return worker if is_text(worker) else ""


def _annotation(object_id: str, annotation: object) -> Submission:
    worker = _worker(annotation)
    if not isinstance(annotation, dict) or not worker:
        raise AnswerError("no_worker", annotation)
    data = annotation.get("annotationData")
    if not isinstance(data, dict):
        raise AnswerError("no_content", annotation)
    if data.get("content") is not None:
        return Submission(object_id, worker, data["content"])
    uri = data.get("s3Uri") or data.get("s3uri")  # AWS's own sample has the second spelling
    if not isinstance(uri, str):
        raise AnswerError("no_content", annotation)
    return Submission(object_id, worker, None, content_uri=uri)


def _output_line(number: int, line: dict[str, Any], label_attribute: str) -> OutputLine:
    metadata, attribute = _metadata(line, label_attribute)
    task = str(line.get("gandt-task") or "")
    job = str(metadata.get("job-name") or metadata.get("job_name") or "").removeprefix("labeling-job/")
    try:
        page = _page(line)
    except AnswerError:
        page = None
    task = task or (page.task if page else "")
    if metadata.get("failure-reason"):
        return OutputLine(number, task, LineKind.FAILED, str(metadata["failure-reason"]), page, job=job)
    if attribute not in line:
        return OutputLine(number, task, LineKind.UNLABELED, page=page, job=job)
    label = line[attribute]
    responses = label.get("responses") if isinstance(label, dict) else None
    quarantined = label.get("quarantined") if isinstance(label, dict) else None
    return OutputLine(
        number,
        task,
        LineKind.LABELED,
        page=page,
        submissions=tuple(
            Submission(str(number), _worker(response), response.get("annotation"))
            for response in _records(responses)
            if _worker(response)
        ),
        broken=tuple((_worker(q), malformed(str(q.get("rule")), q.get("excerpt", ""))) for q in _records(quarantined)),
        job=job,
    )


def _metadata(line: dict[str, Any], label_attribute: str) -> tuple[dict[str, Any], str]:
    """The metadata of the job's label, and the label's name. A chained job's line has several: the last is its own."""
    names = [label_attribute] if label_attribute else [key[: -len("-metadata")] for key in line if _is_metadata(key)]
    for name in reversed(names):
        metadata = line.get(f"{name}-metadata")
        kind = str(metadata.get("type", "")).lower() if isinstance(metadata, dict) else ""
        if isinstance(metadata, dict) and ("failure-reason" in metadata or kind.startswith("groundtruth/")):
            return metadata, name
    return {}, label_attribute or (names[-1] if names else "")


def _is_metadata(key: str) -> bool:
    return key.endswith("-metadata")


def _records(values: object) -> Iterable[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
