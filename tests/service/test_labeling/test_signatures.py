# SPDX-License-Identifier: GPL-3.0-or-later
"""With a configured key every API call is verified, on loopback too."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from botocore.exceptions import ClientError


def code_of(caught: Any) -> str:
    return str(caught.value.response["Error"]["Code"])


def post(service: Any, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    place = urlsplit(service.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=10)
    try:
        connection.request("POST", "/", body, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"{}")
    finally:
        connection.close()


@pytest.fixture(scope="module")
def signed(start_labeling: Callable[..., Any]) -> Any:
    return start_labeling(access_key_id="AKIDEXAMPLE", secret_access_key="wJalrXUtnFEMI/K7MDENG")


def test_the_right_key_works_for_both_apis(signed: Any) -> None:
    assert signed.sagemaker.list_labeling_jobs()["LabelingJobSummaryList"] == []
    key = "a folder/käse+ü#1?x=%41~.txt"
    signed.s3.put_object(Bucket="gandt", Key=key, Body=b"x")
    assert signed.s3.get_object(Bucket="gandt", Key=key)["Body"].read() == b"x"
    listed = signed.s3.list_objects_v2(Bucket="gandt", Prefix="a folder/k", MaxKeys=5)
    assert [entry["Key"] for entry in listed["Contents"]] == [key]


def test_presigned_urls_work(signed: Any) -> None:
    signed.s3.put_object(Bucket="gandt", Key="presigned.txt", Body=b"hello")
    client = signed.client("s3", signature_version="s3v4")
    url = urlsplit(client.generate_presigned_url("get_object", {"Bucket": "gandt", "Key": "presigned.txt"}, 60))
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=10)
    connection.request("GET", f"{url.path}?{url.query}")
    assert connection.getresponse().read() == b"hello"
    connection.request("GET", f"{url.path}?{url.query}".replace("presigned.txt", "other.txt"))
    assert connection.getresponse().status == 403
    connection.close()


@pytest.mark.parametrize(
    ("key", "secret", "sagemaker_code", "s3_code"),
    [
        ("AKIDEXAMPLE", "wrong", "InvalidSignatureException", "SignatureDoesNotMatch"),
        ("OTHER", "wJalrXUtnFEMI/K7MDENG", "UnrecognizedClientException", "InvalidAccessKeyId"),
    ],
)
def test_wrong_keys_are_refused(signed: Any, key: str, secret: str, sagemaker_code: str, s3_code: str) -> None:
    with pytest.raises(ClientError) as caught:
        signed.client("sagemaker", key=key, secret=secret).list_labeling_jobs()
    assert code_of(caught) == sagemaker_code
    with pytest.raises(ClientError) as caught:
        signed.client("s3", key=key, secret=secret).get_object(Bucket="gandt", Key="x")
    assert code_of(caught) == s3_code


def test_unsigned_calls_are_refused(signed: Any) -> None:
    status, error = post(signed, b"{}", **{"X-Amz-Target": "SageMaker.ListLabelingJobs"})
    assert (status, error["__type"]) == (403, "MissingAuthenticationToken")


def test_a_presigned_urls_age_is_digits(signed: Any) -> None:
    client = signed.client("s3", signature_version="s3v4")
    url = client.generate_presigned_url("get_object", {"Bucket": "gandt", "Key": "x"}, ExpiresIn=77)
    for age in ("%C2%B2", "9" * 5000):
        with pytest.raises(HTTPError) as caught:
            urlopen(url.replace("X-Amz-Expires=77", f"X-Amz-Expires={age}"), timeout=10)
        with caught.value as answer:
            assert answer.code == 403


def test_old_signatures_are_refused(signed: Any) -> None:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = AWSRequest("POST", signed.url + "/", data=b"{}")
    request.headers["X-Amz-Target"] = "SageMaker.ListLabelingJobs"
    SigV4Auth(Credentials(*signed.keys), "sagemaker", "local-1").add_auth(request)
    headers = dict(request.headers.items())
    assert post(signed, b"{}", **headers)[0] == 200
    assert post(signed, b"{ }", **headers)[1]["__type"] == "InvalidSignatureException"
    headers["X-Amz-Date"] = "20200101T000000Z"
    assert post(signed, b"{}", **headers)[1]["__type"] == "RequestTimeTooSkewed"
