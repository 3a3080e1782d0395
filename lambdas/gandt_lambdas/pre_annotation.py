# SPDX-License-Identifier: GPL-3.0-or-later
"""Pre-annotation Lambda: turns one line of the input manifest into the data of one worker page.

Called by Ground Truth, or by our labeling service, once per line. It reads only its event. The answer for a good
line is the original project's, plus `isHumanAnnotationRequired`; where the original answered `{}` or an empty page,
this one takes the line's `source-ref` as a page of one tile, or raises an error that names the job and the task.
The file stands alone: it is one deployment package, and needs nothing beyond the standard library.
"""

from __future__ import annotations

import json
from typing import Any

GROUP_KEYS = ("task", "id", "event_names", "positive_examples", "negative_examples", "other_category_label")


class PreAnnotationError(ValueError):
    """A line that can never become a page. The service reports the text as the reason of the failed line.

    Attributes:
        job: ARN of the labeling job; "" when the event has none.
        task: the line's `gandt-task`; "" when it has none.
        cause: what is wrong.
    """

    def __init__(self, job: str, task: str, cause: str) -> None:
        super().__init__(f"labeling job {job or '(unnamed)'}, task {task or '(unnamed)'}: {cause}")
        self.job, self.task, self.cause = job, task, cause


def lambda_handler(event: dict[str, Any], context: object = None) -> dict[str, Any]:
    """Answer with the page's data.

    Args:
        event: `{"labelingJobArn", "dataObject": {"source": JSON text or a list} or {"source-ref": "s3://..."}}`.
        context: Lambda's own; unused.
    Returns:
        `{"taskInput": {"taskObject": ...}, "isHumanAnnotationRequired": bool}`; a group without tiles needs nobody.
    Raises:
        PreAnnotationError: neither key is there, or `source` is not a JSON list or object.
    """
    del context
    job = str(event.get("labelingJobArn") or "")
    data = event.get("dataObject")
    if not isinstance(data, dict):
        raise PreAnnotationError(job, "", "the event has no dataObject")
    task = str(data.get("gandt-task") or "")
    group = _group(data, job, task)
    return {"taskInput": {"taskObject": group}, "isHumanAnnotationRequired": bool(group)}


def _group(data: dict[str, Any], job: str, task: str) -> Any:
    source = data.get("source")
    if source is None:
        if not isinstance(data.get("source-ref"), str):
            raise PreAnnotationError(job, task, "the line has neither source nor source-ref")
        tile = {key: data[key] for key in GROUP_KEYS if key in data}
        return [{**tile, "source-ref": data["source-ref"], "index": 0}]
    if isinstance(source, str):
        try:
            source = json.loads(source)
        except ValueError as e:
            raise PreAnnotationError(job, task, f"source is not JSON text ({e})") from e
    if not isinstance(source, list | dict):
        raise PreAnnotationError(job, task, f"source holds {json.dumps(source)[:80]}, not a list of tiles")
    return source
