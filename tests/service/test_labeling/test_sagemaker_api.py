# SPDX-License-Identifier: GPL-3.0-or-later
"""boto3 against the SageMaker side: create, describe, list, stop, tags, and what wrong requests get."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError


def code_of(caught: Any) -> str:
    return str(caught.value.response["Error"]["Code"])


def test_create_and_describe(service: Any) -> None:
    service.upload("Describe-Me")
    request = service.request("Describe-Me", Tags=[{"Key": "gandt:spec-sha256", "Value": "3f9c"}])
    answer = service.sagemaker.create_labeling_job(**request)
    assert answer["LabelingJobArn"] == "arn:aws:sagemaker:local-1:000000000000:labeling-job/describe-me"
    assert answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]
    assert answer["ResponseMetadata"]["HTTPHeaders"]["content-type"] == "application/x-amz-json-1.1"
    found = service.wait_for("DESCRIBE-me", "InProgress")
    assert found["LabelingJobName"] == "Describe-Me"
    assert found["HumanTaskConfig"] == request["HumanTaskConfig"]
    assert found["InputConfig"] == request["InputConfig"]
    assert found["OutputConfig"] == {"S3OutputPath": "s3://gandt/out", "KmsKeyId": ""}
    assert found["Tags"] == request["Tags"]
    assert found["LabelCounters"]["Unlabeled"] == 1
    assert found["JobReferenceCode"].startswith("000000000000")
    assert len(found["JobReferenceCode"]) == 28
    assert abs(found["CreationTime"] - datetime.now(UTC)) < timedelta(minutes=5)
    place = found["LabelingJobOutput"]["OutputDatasetS3Uri"]
    assert place == "s3://gandt/out/Describe-Me/manifests/output/output.manifest"


def test_names_are_taken_in_any_spelling(service: Any) -> None:
    service.upload("taken")
    service.sagemaker.create_labeling_job(**service.request("taken"))
    with pytest.raises(service.sagemaker.exceptions.ResourceInUse):
        service.sagemaker.create_labeling_job(**service.request("TAKEN"))


def test_unknown_jobs_are_not_found(service: Any) -> None:
    for call in (service.sagemaker.describe_labeling_job, service.sagemaker.stop_labeling_job):
        with pytest.raises(service.sagemaker.exceptions.ResourceNotFound):
            call(LabelingJobName="nobody")
    arn = "arn:aws:sagemaker:local-1:000000000000:labeling-job/nobody"
    with pytest.raises(service.sagemaker.exceptions.ResourceNotFound):
        service.sagemaker.list_tags(ResourceArn=arn)


def test_unknown_jobs_can_answer_validation_exception_as_aws_may(start_labeling: Callable[..., Any]) -> None:
    service = start_labeling(not_found_as_validation=True)
    with pytest.raises(ClientError) as caught:
        service.sagemaker.describe_labeling_job(LabelingJobName="nobody")
    assert code_of(caught) == "ValidationException"


PUBLIC = "arn:aws:sagemaker:us-east-1:394669845002:workteam/public-crowd/default"
PRICE = {"AmountInUsd": {"Dollars": 0, "Cents": 3, "TenthFractionsOfACent": 6}}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"LabelingJobName": "a" * 64}, "LabelingJobName: must match"),
        ({"LabelingJobName": "a_b"}, "LabelingJobName: must match"),
        ({"LabelAttributeName": "source"}, "LabelAttributeName"),
        ({"LabelAttributeName": "x-metadata"}, "LabelAttributeName"),
        ({"LabelAttributeName": "x-ref"}, "LabelAttributeName"),
        ({"RoleArn": "arn:aws:iam::1:role/x-and-more"}, "RoleArn: must match"),
        ({"NumberOfHumanWorkersPerDataObject": 10}, "must be at most 9"),
        ({"MaxConcurrentTaskCount": 5001}, "must be at most 5000"),
        ({"TaskKeywords": ["a"] * 6}, "TaskKeywords: must be at most 5"),
        ({"TaskKeywords": ["two-words"]}, "TaskKeywords[0]: must match"),
        ({"TaskTitle": "x" * 129}, "TaskTitle: must be at most 128"),
        ({"TaskDescription": "two\nlines"}, "TaskDescription: must match"),
        ({"WorkteamArn": "arn:aws:x"}, "WorkteamArn: must match"),
        ({"TaskTimeLimitInSeconds": 28_801}, "must be at most 28800"),
        ({"TaskAvailabilityLifetimeInSeconds": 2_592_001}, "must be at most 2592000"),
        ({"PublicWorkforceTaskPrice": PRICE}, "only for the public crowd"),
        ({"WorkteamArn": PUBLIC}, "PublicWorkforceTaskPrice: is required"),
        ({"WorkteamArn": PUBLIC, "PublicWorkforceTaskPrice": PRICE}, "FreeOfPersonallyIdentifiableInformation"),
        ({"Tags": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]}, "given twice"),
        ({"Tags": [{"Key": "aws:a", "Value": "1"}]}, "reserved"),
        ({"UiConfig": {}}, "UiTemplateS3Uri"),
    ],
)
def test_what_the_service_refuses(service: Any, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ClientError) as caught:
        service.sagemaker.create_labeling_job(**service.request("refused", **changes))
    assert code_of(caught) == "ValidationException"
    message = caught.value.response["Error"]["Message"]
    assert "validation error" in message
    assert says in message


def test_several_errors_are_counted(service: Any) -> None:
    with pytest.raises(ClientError, match="3 validation errors detected"):
        service.sagemaker.create_labeling_job(
            **service.request("a_b", TaskTitle="x" * 200, NumberOfHumanWorkersPerDataObject=12)
        )


def test_listing_pages_through_everything_once(service: Any) -> None:
    names = [f"page-{number:02d}" for number in range(13)]
    for name in names:
        service.sagemaker.create_labeling_job(**service.request(name))
    client = service.sagemaker
    first = client.list_labeling_jobs(NameContains="PAGE-")
    assert len(first["LabelingJobSummaryList"]) == 10, "the default page is small"
    pages = client.get_paginator("list_labeling_jobs").paginate(
        NameContains="page-", SortBy="Name", SortOrder="Descending", PaginationConfig={"PageSize": 4}
    )
    listed = [job["LabelingJobName"] for page in pages for job in page["LabelingJobSummaryList"]]
    assert listed == sorted(names, reverse=True)
    pages = client.get_paginator("list_labeling_jobs").paginate(NameContains="page-")
    assert [job["LabelingJobName"] for page in pages for job in page["LabelingJobSummaryList"]] == names
    summary = first["LabelingJobSummaryList"][0]
    assert "Tags" not in summary
    assert summary["WorkteamArn"].endswith("private-crowd/gandt")
    assert summary["AnnotationConsolidationLambdaArn"].endswith("post-LabelingFunction")


def test_page_tokens_are_signed_and_tied_to_their_filter(service: Any) -> None:
    client = service.sagemaker
    for number in range(3):
        client.create_labeling_job(**service.request(f"token-{number}"))
    token = client.list_labeling_jobs(NameContains="token-", MaxResults=2)["NextToken"]
    for wrong in (
        {"NameContains": "other", "NextToken": token},
        {"NameContains": "token-", "NextToken": token[:-4] + "AAAA"},
        {"NameContains": "token-", "NextToken": "e30.AAAA"},
    ):
        with pytest.raises(ClientError) as caught:
            client.list_labeling_jobs(**wrong)
        assert code_of(caught) == "ValidationException"
    rest = client.list_labeling_jobs(NameContains="token-", MaxResults=50, NextToken=token)
    assert [job["LabelingJobName"] for job in rest["LabelingJobSummaryList"]] == ["token-2"]


def test_listing_filters(service: Any) -> None:
    client = service.sagemaker
    before = datetime.now(UTC) - timedelta(seconds=5)
    client.create_labeling_job(**service.request("filter-a"))
    service.wait_for("filter-a", "Failed")  # no manifest was uploaded
    assert [
        job["LabelingJobName"]
        for job in client.list_labeling_jobs(NameContains="filter-", StatusEquals="Failed", CreationTimeAfter=before)[
            "LabelingJobSummaryList"
        ]
    ] == ["filter-a"]
    later = datetime.now(UTC) + timedelta(hours=1)
    for nothing in (
        {"StatusEquals": "Completed"},
        {"CreationTimeAfter": later},
        {"LastModifiedTimeAfter": later},
        {"CreationTimeBefore": before},
        {"LastModifiedTimeBefore": before},
    ):
        assert client.list_labeling_jobs(NameContains="filter-", **nothing)["LabelingJobSummaryList"] == []


def test_stop(service: Any) -> None:
    service.upload("stop-me", pages=2)
    service.sagemaker.create_labeling_job(**service.request("stop-me"))
    service.wait_for("stop-me", "InProgress")
    assert service.sagemaker.stop_labeling_job(LabelingJobName="STOP-me")["ResponseMetadata"]["HTTPStatusCode"] == 200
    service.wait_for("stop-me", "Stopped")
    with pytest.raises(ClientError) as caught:
        service.sagemaker.stop_labeling_job(LabelingJobName="stop-me")
    assert code_of(caught) == "ValidationException"
    body = service.s3.get_object(Bucket="gandt", Key="out/stop-me/manifests/output/output.manifest")["Body"].read()
    source = service.s3.get_object(Bucket="gandt", Key="in/stop-me.manifest")["Body"].read()
    assert body.splitlines() == source.splitlines()


def test_tags(service: Any) -> None:
    arn = service.sagemaker.create_labeling_job(
        **service.request("tagged", Tags=[{"Key": "gandt:campaign", "Value": "parties"}])
    )["LabelingJobArn"]
    service.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "owner", "Value": "me"}])
    assert service.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [
        {"Key": "gandt:campaign", "Value": "parties"},
        {"Key": "owner", "Value": "me"},
    ]
    with pytest.raises(ClientError) as caught:
        service.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": f"k{n}", "Value": ""} for n in range(49)])
    assert code_of(caught) == "ValidationException"


def post(service: Any, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    place = urlsplit(service.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=10)
    try:
        connection.request("POST", "/", body, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"{}")
    finally:
        connection.close()


def test_requests_that_are_no_requests(service: Any) -> None:
    target = {"X-Amz-Target": "SageMaker.DescribeLabelingJob"}
    assert post(service, b"{}")[1]["__type"] == "UnknownOperationException"
    status, error = post(service, b"{}", **{"X-Amz-Target": "SageMaker.CreateTrainingJob"})
    assert (status, error["__type"]) == (400, "UnknownOperationException")
    assert post(service, b"{", **target)[1]["__type"] == "SerializationException"
    assert post(service, b"[" * 100_000, **target)[1]["__type"] == "SerializationException"
    assert post(service, b"[]", **target)[1]["__type"] == "ValidationException"
    assert post(service, b'{"LabelingJobName": 3}', **target)[1]["__type"] == "ValidationException"
    assert post(service, b'{"LabelingJobName": "a", "X": 1}', **target)[1]["__type"] == "ValidationException"
    tags = {"X-Amz-Target": "SageMaker.AddTags"}
    arn = b"arn:aws:sagemaker:local-1:000000000000:labeling-job/taken"
    body = b'{"ResourceArn": "%s", "Tags": [{"Key": "k", "Value": "\\ud800"}]}' % arn
    assert "UTF-8" in post(service, body, **tags)[1]["message"]
    assert post(service, b" " * ((1 << 20) + 1), **target)[0] == 413


def test_other_host_names_are_refused_on_loopback(service: Any) -> None:
    place = urlsplit(service.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=10)
    connection.request("GET", "/work", headers={"Host": "attacker.example"})
    assert connection.getresponse().status == 421
    connection.close()
