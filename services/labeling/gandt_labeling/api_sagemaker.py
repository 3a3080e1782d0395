# SPDX-License-Identifier: GPL-3.0-or-later
"""`POST /`: the part of the SageMaker API that concerns labeling jobs, JSON 1.1, as boto3 speaks it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gandt.domain import disk
from gandt.domain.errors import (
    AlreadyExists,
    BackendUnavailable,
    GandtError,
    InvalidInput,
    NotFound,
    Unauthenticated,
    WrongState,
)
from gandt_labeling import validation
from gandt_labeling.web import Web, in_thread, log, read_body

MAX_BODY = 1 << 20
_TYPE = "application/x-amz-json-1.1"
_PREFIX = "SageMaker."

Json = dict[str, Any]


def routes(web: Web) -> list[Route]:
    """The one route of the API."""
    operations: dict[str, Callable[[Json], Json]] = {
        "CreateLabelingJob": lambda request: _create(web, request),
        "DescribeLabelingJob": lambda request: web.jobs.describe(request["LabelingJobName"]),
        "ListLabelingJobs": web.jobs.list_jobs,
        "StopLabelingJob": lambda request: web.jobs.stop(request["LabelingJobName"]),
        "AddTags": lambda request: web.jobs.add_tags(request["ResourceArn"], request["Tags"]),
        "ListTags": lambda request: web.jobs.tags(request["ResourceArn"]),
        "DeleteTags": lambda request: web.jobs.delete_tags(request["ResourceArn"], request["TagKeys"]),
        "ListLabelingJobsForWorkteam": web.workteams.jobs_of,
        "DescribeWorkteam": lambda request: web.workteams.describe(request["WorkteamName"]),
        "ListWorkteams": web.workteams.list_teams,
        "RenderUiTemplate": lambda request: _render(web, request),
    }

    async def call(request: Request) -> Response:
        target = request.headers.get("x-amz-target", "")
        operation = target.removeprefix(_PREFIX)
        try:
            body = await read_body(request, MAX_BODY)
            web.verify(request, "sagemaker", body)
            if not target.startswith(_PREFIX) or operation not in operations:
                return _error(400, "UnknownOperationException", f"{target or 'no X-Amz-Target'} is not served here")
            try:
                value = json.loads(body or b"{}")
            except (ValueError, RecursionError):
                return _error(400, "SerializationException", "the body is not JSON")
            answer = await in_thread(lambda: operations[operation](validation.check(operation, value)))
        except GandtError as error:
            return _refusal(web, operation, error)
        return _response(200, answer if operation != "StopLabelingJob" else None)

    return [Route("/", call, methods=["POST"])]


def _create(web: Web, request: Json) -> Json:
    human = request["HumanTaskConfig"]
    if human.get("MaxConcurrentTaskCount", 0) > 1000:
        log.warning("job %s asks for more than 1000 concurrent tasks", request["LabelingJobName"])
    return web.jobs.create(request)


def _render(web: Web, request: Json) -> Json:
    """RenderUiTemplate: a template's fault is part of the answer, not an error of the call."""
    if "UiTemplate" not in request:
        raise InvalidInput("UiTemplate: is required; HumanTaskUiArn names a built-in page of AWS", field="UiTemplate")
    content = request["UiTemplate"]["Content"]
    try:
        task_input = json.loads(request["Task"]["Input"])
    except (ValueError, RecursionError) as error:
        raise InvalidInput("Task.Input: must be JSON", field="Task.Input") from error
    try:
        rendered = web.pages.preview(content, task_input)
    except InvalidInput as error:
        return {"RenderedContent": "", "Errors": [{"Code": "TemplateError", "Message": error.message}]}
    return {"RenderedContent": rendered, "Errors": []}


def _refusal(web: Web, operation: str, error: GandtError) -> Response:
    match error:
        case _ if disk.is_disk_trouble(error):
            return _error(507, error.reason, error.message)
        case AlreadyExists():
            return _error(400, "ResourceInUse", error.message)
        case NotFound():
            lenient = web.not_found_as_validation and operation in ("DescribeLabelingJob", "StopLabelingJob")
            return _error(400, "ValidationException" if lenient else "ResourceNotFound", error.message)
        case InvalidInput() if error.reason == "BODY_TOO_LARGE":
            return _error(413, "RequestEntityTooLarge", error.message)
        case InvalidInput() | WrongState():
            return _error(400, "ValidationException", error.message)
        case Unauthenticated():
            return _error(403, error.reason, error.message)
        case BackendUnavailable():
            return _error(503, "ServiceUnavailable", error.message)
        case _:
            log.error("%s failed: %s", operation, error, extra={"reason": error.reason})
            return _error(500, "InternalFailure", "the request failed here; see the service's log")


def _error(status: int, code: str, message: str) -> Response:
    return _response(status, {"__type": code, "message": message})


def _response(status: int, body: Json | None) -> Response:
    content = b"" if body is None else json.dumps(body).encode()
    return Response(content, status, {"x-amzn-RequestId": str(uuid.uuid4())}, media_type=_TYPE)
