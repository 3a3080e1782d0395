# SPDX-License-Identifier: GPL-3.0-or-later
"""Post-annotation Lambda: hands every worker's answer on, without choosing among them.

Called by Ground Truth, or by our labeling service, with a batch of objects. It reads the batch from S3 and answers
in the original project's shape: per object the list `responses` of worker and answer. An answer that cannot be read
does not cost the batch: it goes to a second list `quarantined` beside `responses`, which is there only then:

    {"workerId": "...", "rule": "not_json", "excerpt": "first 500 bytes"}

The rules are `no_content`, `unreadable` (S3 refuses or lacks it), `not_json` and `not_an_object`. The output depends
on the batch alone, so that a second call gives the same. The file stands alone: standard library and boto3.
`AWS_ENDPOINT_URL_S3` points it at another S3.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

EXCERPT_BYTES = 500
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
        ConsolidationError: no `labelAttributeName`, or the batch is not a JSON list.
    """
    del context
    attribute = event.get("labelAttributeName")
    if not isinstance(attribute, str) or not attribute:
        raise ConsolidationError("the event has no labelAttributeName")
    fetch = _Fetcher()
    out = []
    for position, item in enumerate(_payload(event, fetch)):
        if not isinstance(item, dict) or "datasetObjectId" not in item:
            LOG.error("entry %d of the batch has no datasetObjectId; the service will report its line", position)
            continue
        content = {attribute: _consolidated(item, fetch)}
        out.append({"datasetObjectId": item["datasetObjectId"], "consolidatedAnnotation": {"content": content}})
    return out


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`. Not a URL parser: it would cut the key at "#" or "?"."""
    bucket, slash, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not slash or not bucket or not key:
        raise ValueError(f"{uri!r} is not s3://bucket/key")
    return bucket, key


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


def _consolidated(item: dict[str, Any], fetch: Callable[[str], bytes]) -> dict[str, Any]:
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
