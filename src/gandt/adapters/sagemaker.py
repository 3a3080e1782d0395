# SPDX-License-Identifier: GPL-3.0-or-later
"""Labeling jobs through the SageMaker API with boto3: Ground Truth itself, or any endpoint that speaks it.

Error codes decide, never messages. boto3 repeats CreateLabelingJob itself, so "the name is taken" may well be our
own call whose answer was lost; the caller finds out by the tags.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from gandt.domain import disk
from gandt.domain.errors import (
    AlreadyExists,
    BackendUnavailable,
    GandtError,
    InvalidInput,
    Overloaded,
    PermissionDenied,
    Unauthenticated,
    WrongState,
)
from gandt.domain.labeling.jobs import BackendState, BackendStatus, JobRequest

NOT_FOUND = ("ResourceNotFound", "ResourceNotFoundException")
THROTTLED = ("ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded", "SlowDown")
CREDENTIALS = (
    "ExpiredToken",
    "ExpiredTokenException",
    "UnrecognizedClientException",
    "UnrecognizedClient",
    "InvalidClientTokenId",
    "MissingAuthenticationToken",
)
_ERRORS = (ClientError, BotoCoreError, OSError)  # botocore has no common base


def sagemaker_client(region: str, endpoint_url: str = "", access_key: str = "", secret_key: str = "") -> Any:
    """A boto3 client for labeling jobs.

    Args:
        region: AWS region, or local-1.
        endpoint_url: "" for AWS itself.
        access_key, secret_key: "" takes the usual chain of credentials.
    """
    import boto3
    from botocore.config import Config

    return boto3.client(
        "sagemaker",
        region_name=region,
        endpoint_url=endpoint_url or None,
        aws_access_key_id=access_key or None,
        aws_secret_access_key=secret_key or None,
        config=Config(retries={"mode": "standard", "max_attempts": 5}, connect_timeout=5, read_timeout=60),
    )


class SageMakerJobs:
    """A `gandt.ports.labeling_backend.LabelingBackend` on the SageMaker API.

    Args:
        client: gives a boto3 client for `sagemaker`; asked at each call, because an endpoint may move.
    """

    def __init__(self, client: Callable[[], Any]) -> None:
        self._client = client

    def check(self, request: JobRequest) -> None:
        """See the port: the service's model, which boto3 itself checks only in part, and the rules outside it."""
        shape = self._client().meta.service_model.operation_model("CreateLabelingJob").input_shape
        breaches = [*violations(shape, api_request(request)), *_further_breaches(request)]
        if breaches:
            raise InvalidInput(
                f"labeling job {request.job_name} would be refused: {'; '.join(breaches)}",
                field="labeling job",
                reason="JOB_REFUSED",
            )

    def create(self, request: JobRequest) -> str:
        """See the port."""
        client = self._client()
        try:
            answer = client.create_labeling_job(**api_request(request))
        except _ERRORS as error:
            raise _as_domain_error(error, "CreateLabelingJob", request.job_name, client) from error
        return str(answer["LabelingJobArn"])

    def describe(self, job_name: str) -> BackendStatus | None:
        """See the port."""
        client = self._client()
        try:
            answer = client.describe_labeling_job(LabelingJobName=job_name)
        except _ERRORS as error:
            if _code(error) in (*NOT_FOUND, "ValidationException"):
                return None
            raise _as_domain_error(error, "DescribeLabelingJob", job_name, client) from error
        return _status(answer)

    def stop(self, job_name: str) -> None:
        """See the port."""
        client = self._client()
        try:
            client.stop_labeling_job(LabelingJobName=job_name)
        except _ERRORS as error:
            if _code(error) not in (*NOT_FOUND, "ValidationException"):
                raise _as_domain_error(error, "StopLabelingJob", job_name, client) from error


def api_request(request: JobRequest) -> dict[str, Any]:
    """The request as boto3 takes it."""
    human: dict[str, Any] = {
        "WorkteamArn": request.workteam_arn,
        "UiConfig": {"UiTemplateS3Uri": request.template_uri},
        "TaskKeywords": list(request.keywords),
        "TaskTitle": request.title,
        "TaskDescription": request.description,
        "NumberOfHumanWorkersPerDataObject": request.workers,
        "TaskTimeLimitInSeconds": request.time_limit_seconds,
        "TaskAvailabilityLifetimeInSeconds": request.availability_seconds,
        "MaxConcurrentTaskCount": 1000,
    }
    if request.pre_lambda_arn:
        human["PreHumanTaskLambdaArn"] = request.pre_lambda_arn
    if request.post_lambda_arn:
        human["AnnotationConsolidationConfig"] = {"AnnotationConsolidationLambdaArn": request.post_lambda_arn}
    return {
        "LabelingJobName": request.job_name,
        "LabelAttributeName": request.label_attribute,
        "InputConfig": {"DataSource": {"S3DataSource": {"ManifestS3Uri": request.manifest_uri}}},
        "OutputConfig": {"S3OutputPath": request.output_uri},
        "RoleArn": request.role_arn,
        "StoppingConditions": {"MaxHumanLabeledObjectCount": request.max_objects},
        "HumanTaskConfig": human,
        "Tags": [{"Key": key, "Value": value} for key, value in sorted(request.tags.items())],
    }


def violations(shape: Any, value: Any, path: str = "") -> Iterator[str]:
    """One line for each breach of the service model; botocore itself checks only types, required members and minima."""
    kind, limits = shape.type_name, shape.metadata
    if kind == "structure":
        for name in shape.required_members:
            if name not in value:
                yield f"{path}.{name} is missing"
        for name, member in value.items():
            if name in shape.members:
                yield from violations(shape.members[name], member, f"{path}.{name}".lstrip("."))
            else:
                yield f"{path}.{name} is unknown"
        return
    if kind == "list":
        size = len(value)
        for position, member in enumerate(value):
            yield from violations(shape.member, member, f"{path}[{position}]")
    elif kind == "string":
        size = len(value)
        pattern = _pattern(limits.get("pattern", ""))
        if pattern is not None and not pattern.fullmatch(value):
            yield f"{path} must match {limits['pattern']}"
    elif kind in ("integer", "long"):
        size = value
    else:
        return
    if size < limits.get("min", size):
        yield f"{path} is below {limits['min']}"
    if size > limits.get("max", size):
        yield f"{path} is above {limits['max']}"


def _pattern(pattern: str) -> re.Pattern[str] | None:
    pattern = pattern.replace(r"\p{L}\p{Z}\p{N}", r"\w\s")  # Python's re has no \p
    return re.compile(pattern) if pattern and r"\p{" not in pattern else None


def _further_breaches(request: JobRequest) -> Iterator[str]:
    name = request.label_attribute
    if name in ("source", "source-ref") or name.endswith(("-metadata", "-ref")):
        yield f"LabelAttributeName {name} is reserved"
    if request.time_limit_seconds > 28_800:
        yield "TaskTimeLimitInSeconds is above 28800 (8 hours)"
    if request.availability_seconds > 2_592_000:
        yield "TaskAvailabilityLifetimeInSeconds is above 2592000 (30 days)"
    if "workteam/public-crowd/" in request.workteam_arn:
        yield "the public crowd is closed since 2026-09-30; use a private or vendor work team"


def _status(answer: dict[str, Any]) -> BackendStatus:
    counters = answer.get("LabelCounters", {})
    known = {state.value for state in BackendState}
    status = str(answer.get("LabelingJobStatus", ""))
    return BackendStatus(
        state=BackendState(status) if status in known else BackendState.UNKNOWN,
        arn=str(answer.get("LabelingJobArn", "")),
        labeled=int(counters.get("TotalLabeled", 0)),
        failed=int(counters.get("FailedNonRetryableError", 0)),
        unlabeled=int(counters.get("Unlabeled", 0)),
        failure_reason=str(answer.get("FailureReason", "")),
        output_manifest_uri=str(answer.get("LabelingJobOutput", {}).get("OutputDatasetS3Uri", "")),
        tags={tag["Key"]: tag["Value"] for tag in answer.get("Tags", [])},
    )


def _code(error: Exception) -> str:
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def _as_domain_error(error: Exception, operation: str, job_name: str, client: Any) -> GandtError:
    where = str(client.meta.endpoint_url)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return Unauthenticated(
            f"there are no credentials for {operation} at {where}",
            reason="NO_CREDENTIALS",
            fix="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use a role",
        )
    if isinstance(error, ClientError):
        message = str(error.response.get("Error", {}).get("Message", error))
        return _from_code(_code(error), error.response, message, operation, job_name, where)
    return _no_answer(f"{operation} of {job_name} got no answer from {where}: {error}")


def _no_answer(message: str) -> BackendUnavailable:
    return BackendUnavailable(message, backend="labeling backend", reason="BACKEND_UNAVAILABLE")


def _from_code(code: str, response: Any, message: str, operation: str, job_name: str, where: str) -> GandtError:
    said = f"{operation} of {job_name} was answered by {where} with {code}: {message}"
    if code in ("ResourceInUse", "ResourceInUseException"):
        return AlreadyExists(said, kind="labeling job", id=job_name, reason="JOB_NAME_TAKEN")
    if code in disk.REASONS:  # our labeling service: it names the file, and somebody has to make space
        state = "full" if code == disk.FULL else "read-only"
        return WrongState(message, kind="disk", id=where, state=state, reason=code, fix=disk.FIX[code])
    if code in THROTTLED:
        return Overloaded(said, reason="THROTTLED", retry_after_seconds=5)
    if code in ("ResourceLimitExceeded", "ResourceLimitExceededException"):
        return Overloaded(said, reason="QUOTA_EXCEEDED", retry_after_seconds=600)
    if code in CREDENTIALS:
        return Unauthenticated(said, reason="BAD_CREDENTIALS")
    if code in ("AccessDeniedException", "AccessDenied"):
        return PermissionDenied(said, reason="ACCESS_DENIED")
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
    if status >= 500 or code in ("RequestTimeout", "RequestTimeoutException", "ServiceUnavailable"):
        return _no_answer(said)
    return InvalidInput(said, field="labeling job", reason="JOB_REFUSED")
