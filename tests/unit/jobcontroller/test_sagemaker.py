# SPDX-License-Identifier: GPL-3.0-or-later
"""The SageMaker adapter against botocore's own model: requests that the service takes, and what its codes mean."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import Stubber

from gandt.adapters.sagemaker import SageMakerJobs, api_request, sagemaker_client
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
from gandt.domain.labeling.jobs import BackendState, JobRequest
from tests.unit.jobcontroller.world import PLACES

REQUEST = JobRequest(
    job_name="gt-pets-r1-3f9c2a7b10de",
    manifest_uri="s3://gandt/manifests/c-1/r1/3f9c2a7b10de/input.manifest",
    output_uri="s3://gandt/output/c-1/r1",
    template_uri="s3://gandt/templates/3f9c2a7b10de/page.liquid.html",
    role_arn=PLACES.role_arn,
    workteam_arn=PLACES.workteam_arn,
    pre_lambda_arn=PLACES.pre_lambda_arn,
    post_lambda_arn=PLACES.post_lambda_arn,
    title="Label images: cat, dog",
    description="Choose a label for each image",
    workers=3,
    time_limit_seconds=900,
    availability_seconds=864_000,
    max_objects=2,
    tags={"gandt:campaign": "c-1", "gandt:round": "1", "gandt:spec-sha256": "f" * 64},
)


@pytest.fixture
def client() -> Any:
    return sagemaker_client("local-1", "http://127.0.0.1:1", "gandt", "gandt")


def test_our_requests_pass_the_model(client: Any) -> None:
    SageMakerJobs(lambda: client).check(REQUEST)
    SageMakerJobs(lambda: client).check(replace(REQUEST, pre_lambda_arn="", post_lambda_arn=""))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"job_name": "x" * 64}, "LabelingJobName is above 63"),
        ({"job_name": "a_b"}, "LabelingJobName must match"),
        ({"workers": 10}, "NumberOfHumanWorkersPerDataObject is above 9"),
        ({"title": "t" * 129}, "TaskTitle is above 128"),
        ({"description": "two\nlines"}, "TaskDescription must match"),
        ({"keywords": tuple("abcdef")}, "TaskKeywords is above 5"),
        ({"time_limit_seconds": 28_801}, "8 hours"),
        ({"availability_seconds": 2_592_001}, "30 days"),
        ({"label_attribute": "x-ref"}, "reserved"),
        ({"workteam_arn": "arn:aws:sagemaker:us-east-1:394669845002:workteam/public-crowd/default"}, "closed"),
        ({"role_arn": "nobody-in-particular"}, "RoleArn must match"),
    ],
)
def test_what_the_service_would_refuse_is_found_before(client: Any, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        SageMakerJobs(lambda: client).check(replace(REQUEST, **changes))


@pytest.mark.parametrize(
    ("code", "status", "error", "reason"),
    [
        ("ResourceInUse", 400, AlreadyExists, "JOB_NAME_TAKEN"),
        ("ThrottlingException", 400, Overloaded, "THROTTLED"),
        ("ResourceLimitExceeded", 400, Overloaded, "QUOTA_EXCEEDED"),
        ("ValidationException", 400, InvalidInput, "JOB_REFUSED"),
        ("AccessDeniedException", 400, PermissionDenied, "ACCESS_DENIED"),
        ("ExpiredToken", 400, Unauthenticated, "BAD_CREDENTIALS"),
        ("UnrecognizedClientException", 400, Unauthenticated, "BAD_CREDENTIALS"),
        ("InternalFailure", 500, BackendUnavailable, "BACKEND_UNAVAILABLE"),
        ("ServiceUnavailable", 503, BackendUnavailable, "BACKEND_UNAVAILABLE"),
    ],
)
def test_codes_decide(client: Any, code: str, status: int, error: type[GandtError], reason: str) -> None:
    with Stubber(client) as stub:
        stub.add_client_error("create_labeling_job", code, "said so", status, expected_params=api_request(REQUEST))
        with pytest.raises(error) as caught:
            SageMakerJobs(lambda: client).create(REQUEST)
    assert caught.value.reason == reason
    assert "said so" in caught.value.message


def test_describe_knows_both_ways_of_not_found_and_reads_the_rest(client: Any) -> None:
    jobs = SageMakerJobs(lambda: client)
    with Stubber(client) as stub:
        for code in ("ResourceNotFound", "ValidationException"):
            stub.add_client_error("describe_labeling_job", code, "", 400)
            assert jobs.describe("x") is None
        stub.add_client_error("stop_labeling_job", "ValidationException", "", 400)
        jobs.stop("x")
        answer = {
            "LabelingJobStatus": "InProgress",
            "LabelCounters": {"TotalLabeled": 1, "FailedNonRetryableError": 1, "Unlabeled": 2},
            "CreationTime": 0,
            "LastModifiedTime": 0,
            "JobReferenceCode": "0",
            "LabelingJobName": "x",
            "LabelingJobArn": "arn:aws:sagemaker:local-1:000000000000:labeling-job/x",
            "InputConfig": {"DataSource": {}},
            "OutputConfig": {"S3OutputPath": "s3://b/o"},
            "RoleArn": PLACES.role_arn,
            "HumanTaskConfig": api_request(REQUEST)["HumanTaskConfig"],
            "Tags": [{"Key": "a", "Value": "b"}],
            "LabelingJobOutput": {"OutputDatasetS3Uri": "s3://b/o/x/manifests/output/output.manifest"},
        }
        stub.add_response("describe_labeling_job", answer)
        status = jobs.describe("x")
    assert status is not None
    assert (status.state, status.labeled, status.failed, status.unlabeled) == (BackendState.IN_PROGRESS, 1, 1, 2)
    assert (status.tags, status.output_manifest_uri[-7:]) == ({"a": "b"}, "anifest")


def test_nobody_listening_is_no_answer(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")

    monkeypatch.setattr(client, "create_labeling_job", fail)
    with pytest.raises(BackendUnavailable, match="got no answer from"):
        SageMakerJobs(lambda: client).create(REQUEST)


def test_a_full_disk_behind_our_labeling_service_keeps_its_reason_and_its_words(client: Any) -> None:
    said = "the labeling database /p/.gandt/labeling.db cannot be written: the disk is full or failing"
    with Stubber(client) as stub:
        stub.add_client_error("describe_labeling_job", "DISK_FULL", said, http_status_code=507)
        with pytest.raises(WrongState) as caught:
            SageMakerJobs(lambda: client).describe("gt-1")
    assert (caught.value.message, caught.value.reason) == (said, "DISK_FULL")
    assert caught.value.fix.startswith("free some space, then run it again")
