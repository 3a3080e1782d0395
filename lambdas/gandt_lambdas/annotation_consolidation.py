# SPDX-License-Identifier: GPL-3.0-or-later
"""Post-annotation Lambda: hands every worker's answer on, and on request the majority's labels beside them.

Called by Ground Truth, or by our labeling service, with a batch of objects. It reads the batch from S3 and answers
in the original project's shape: per object the list `responses` of worker and answer. An answer that cannot be read
does not cost the batch: it goes to a second list `quarantined` beside `responses`, which is there only then:

    {"workerId": "...", "rule": "not_json", "excerpt": "first 500 bytes"}

With the variable `GANDT_CONSOLIDATION=majority` a third key says which labels more than half of a tile's voters
gave; a worker who left a tile blank, could not tell or found it broken is no voter. G&T itself does better from
`responses` (`gandt aggregate`); this is for whoever reads the output manifest and nothing else:

    {"rule": "majority", "tiles": [{"index": 0, "labels": ["cat"], "voters": 3, "votes": {"cat": 2, "dog": 1}}]}

The rules of quarantine are `no_content`, `unreadable` (S3 refuses or lacks it), `not_json` and `not_an_object`. The
output depends on the batch alone, so that a second call gives the same. Standard library and boto3 are all it needs.
`AWS_ENDPOINT_URL_S3` points it at another S3.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

CONSOLIDATION = "GANDT_CONSOLIDATION"  # name of the variable
EXCERPT_BYTES = 500
TILE = re.compile(r"labels-([0-9]{1,18})")
LOG = logging.getLogger(__name__)


class ConsolidationError(ValueError):
    """The batch as a whole cannot be read; the service retries, then fails its objects."""


class _Quarantined(Exception):
    def __init__(self, rule: str, excerpt: object) -> None:
        super().__init__(rule)
        text = excerpt if isinstance(excerpt, str) else json.dumps(excerpt, sort_keys=True, default=str)
        self.rule = rule
        self.excerpt = text.encode("utf-8", "replace")[:EXCERPT_BYTES].decode("utf-8", "ignore")


def lambda_handler(event: dict[str, Any], context: object = None) -> list[dict[str, Any]]:
    """Answer with all answers of the batch.

    Args:
        event: `{"labelAttributeName", "payload": {"s3Uri"}}`; without `payload` the list `test_payload` is taken.
        context: Lambda's own; unused.
    Returns:
        One entry per object, in the batch's order, with `datasetObjectId` and `consolidatedAnnotation`.
    Raises:
        ConsolidationError: no `labelAttributeName`, the batch is not a JSON list, or GANDT_CONSOLIDATION is unknown.
    """
    del context
    rule = os.environ.get(CONSOLIDATION, "")
    if rule not in ("", "majority"):
        raise ConsolidationError(f"{CONSOLIDATION} is {rule!r}; it may be majority, or nothing at all")
    attribute = event.get("labelAttributeName")
    if not isinstance(attribute, str) or not attribute:
        raise ConsolidationError("the event has no labelAttributeName")
    fetch = _Fetcher()
    out = []
    for position, item in enumerate(_payload(event, fetch)):
        if not isinstance(item, dict) or "datasetObjectId" not in item:
            LOG.error("entry %d of the batch has no datasetObjectId; the service will report its line", position)
            continue
        answers = _answers(item, fetch)
        if rule:
            answers["consolidated"] = {"rule": rule, "tiles": majority([r["annotation"] for r in answers["responses"]])}
        content = {attribute: answers}
        out.append({"datasetObjectId": item["datasetObjectId"], "consolidatedAnnotation": {"content": content}})
    return out


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`. Not a URL parser: it would cut the key at "#" or "?"."""
    bucket, slash, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not slash or not bucket or not key:
        raise ValueError(f"{uri!r} is not s3://bucket/key")
    return bucket, key


def majority(forms: list[Any]) -> list[dict[str, Any]]:
    """The labels that more than half of a tile's voters gave.

    Args:
        forms: workers' answers, in any order; what is no form of our page's `labels-<index>` fields has no vote.
    Returns:
        By tile index: `index`, `labels` (sorted; empty when no label has a majority), `voters`, `votes` by label.
    """
    votes: dict[int, Counter[str]] = {}
    voters: Counter[int] = Counter()
    for form in forms:
        for name, value in form.items() if isinstance(form, dict) else ():
            match = TILE.fullmatch(name)
            if match is None:
                continue
            index = int(match[1])
            labels = set() if form.get(f"state-{index}") in ("unsure", "broken") else _labels(value)
            votes.setdefault(index, Counter()).update(labels)
            voters[index] += bool(labels)
    return [
        {
            "index": index,
            "labels": sorted(label for label, count in votes[index].items() if 2 * count > voters[index]),
            "voters": voters[index],
            "votes": dict(sorted(votes[index].items())),
        }
        for index in sorted(votes)
    ]


def _labels(value: Any) -> set[str]:
    """The labels of one tile's field: JSON text of a list, a list, or check boxes; none when it is something else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return set()
    if isinstance(value, dict):
        value = [label for label, mark in value.items() if mark is True]
    return {label.strip() for label in value if isinstance(label, str)} if isinstance(value, list) else set()


class _Fetcher:
    """Reads objects; the client is made at the first use."""

    def __init__(self) -> None:
        self._client: Any = None

    def __call__(self, uri: str) -> bytes:
        bucket, key = split_uri(uri)
        if self._client is None:
            import boto3

            self._client = boto3.client("s3")
        data: bytes = self._client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return data


def _payload(event: dict[str, Any], fetch: Callable[[str], bytes]) -> list[Any]:
    if "payload" not in event:
        batch = event.get("test_payload", [])
    else:
        try:
            uri = event["payload"]["s3Uri"]
            batch = json.loads(fetch(uri))
        except (KeyError, TypeError, ValueError) as e:
            raise ConsolidationError(f"the batch {event['payload']!r} cannot be read: {e}") from e
    if not isinstance(batch, list):
        raise ConsolidationError("the batch is not a list of objects")
    return batch


def _answers(item: dict[str, Any], fetch: Callable[[str], bytes]) -> dict[str, Any]:
    responses, quarantined = [], []
    annotations = item.get("annotations")
    for annotation in annotations if isinstance(annotations, list) else []:
        worker = annotation.get("workerId", "") if isinstance(annotation, dict) else ""
        try:
            responses.append({"workerId": worker, "annotation": _answer(annotation, fetch)})
        except _Quarantined as e:
            LOG.error("object %s: an answer is quarantined: %s", item["datasetObjectId"], e.rule)
            quarantined.append({"workerId": worker, "rule": e.rule, "excerpt": e.excerpt})
    return {"responses": responses, **({"quarantined": quarantined} if quarantined else {})}


def _answer(annotation: Any, fetch: Callable[[str], bytes]) -> Any:
    """One worker's answer, without the wrapper that some crowd elements put around it."""
    content = _content(annotation, fetch)
    if isinstance(content, str):
        try:
            content = json.loads(content)
        except ValueError as e:
            raise _Quarantined("not_json", content) from e
    if not isinstance(content, dict | list):
        raise _Quarantined("not_an_object", content)
    return content["annotatedResult"] if isinstance(content, dict) and "annotatedResult" in content else content


def _content(annotation: Any, fetch: Callable[[str], bytes]) -> Any:
    data = annotation.get("annotationData") if isinstance(annotation, dict) else None
    if not isinstance(data, dict):
        raise _Quarantined("no_content", annotation)
    if data.get("content") is not None:
        return data["content"]
    uri = data.get("s3Uri") or data.get("s3uri")  # AWS's own sample has the second spelling
    if not isinstance(uri, str):
        raise _Quarantined("no_content", data)
    from botocore.exceptions import ClientError

    try:
        return fetch(uri).decode()
    except ValueError as e:  # not an S3 URI, or bytes that are not UTF-8
        raise _Quarantined("unreadable", f"{uri}: {e}") from e
    except ClientError as e:
        if e.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500) >= 500:
            raise  # passing trouble: the service calls again
        raise _Quarantined("unreadable", f"{uri}: {e}") from e
