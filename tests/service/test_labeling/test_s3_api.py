# SPDX-License-Identifier: GPL-3.0-or-later
"""boto3 against `/s3`: objects, ranges, listings, uploads as current SDKs send them, and refusals."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import zlib
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import urlopen

import pytest
from botocore.exceptions import ClientError
from gandt_labeling.byte_ranges import parse_range


def code_of(caught: Any) -> str:
    return str(caught.value.response["Error"]["Code"])


def test_put_get_head_delete(service: Any) -> None:
    put = service.s3.put_object(Bucket="things", Key="a/b c.json", Body=b'{"a": 1}', ContentType="application/json")
    got = service.s3.get_object(Bucket="things", Key="a/b c.json")
    assert got["Body"].read() == b'{"a": 1}'
    assert got["ETag"] == put["ETag"]
    assert got["ETag"].startswith('"')
    assert got["ContentType"] == "application/json"
    head = service.s3.head_object(Bucket="things", Key="a/b c.json")
    assert head["ContentLength"] == 8
    assert head["LastModified"].tzinfo is not None
    service.s3.delete_object(Bucket="things", Key="a/b c.json")
    service.s3.delete_object(Bucket="things", Key="a/b c.json")
    with pytest.raises(service.s3.exceptions.NoSuchKey):
        service.s3.get_object(Bucket="things", Key="a/b c.json")
    with pytest.raises(ClientError) as caught:
        service.s3.head_object(Bucket="things", Key="a/b c.json")
    assert code_of(caught) == "404"


def test_files_and_streams_upload(service: Any, tmp_path: Any) -> None:
    data = bytes(range(256)) * 1000
    (tmp_path / "photo.bin").write_bytes(data)
    service.s3.upload_file(str(tmp_path / "photo.bin"), "things", "photo.bin")
    service.s3.download_file("things", "photo.bin", str(tmp_path / "back.bin"))
    assert (tmp_path / "back.bin").read_bytes() == data
    service.s3.upload_fileobj(io.BytesIO(data), "things", "stream.bin")
    assert service.s3.get_object(Bucket="things", Key="stream.bin")["Body"].read() == data
    service.s3.put_object(Bucket="things", Key="sum", Body=b"abc", ChecksumAlgorithm="SHA256")


def test_ranges(service: Any) -> None:
    service.s3.put_object(Bucket="things", Key="ten", Body=b"0123456789")
    for header, expected in (
        ("bytes=2-4", b"234"),
        ("bytes=7-", b"789"),
        ("bytes=-2", b"89"),
        ("bytes=5-99", b"56789"),
    ):
        got = service.s3.get_object(Bucket="things", Key="ten", Range=header)
        assert got["Body"].read() == expected
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert service.s3.get_object(Bucket="things", Key="ten", Range="bytes=0-0")["ContentRange"] == "bytes 0-0/10"
    with pytest.raises(ClientError) as caught:
        service.s3.get_object(Bucket="things", Key="ten", Range="bytes=10-")
    assert code_of(caught) == "InvalidRange"
    for header in (f"bytes={'9' * 5000}-", f"bytes=0-{'9' * 5000}", "bytes=٣-"):  # no range that we know: the whole
        assert parse_range(header, 10) is None


@pytest.mark.parametrize("keys", ["²", "٣", "x", "-1", "9" * 5000])
def test_a_number_of_keys_is_digits(service: Any, keys: str) -> None:
    with pytest.raises(HTTPError) as caught:
        urlopen(f"{service.url}/s3/things?list-type=2&max-keys={quote(keys)}", timeout=10)
    with caught.value as answer:
        assert (answer.code, b"InvalidArgument" in answer.read()) == (400, True)


def test_listing_pages_prefixes_and_delimiters(service: Any) -> None:
    keys = sorted(["a/1", "a/2", "a/b/3", "a/b/4", "a&<b", "é", "z+ z"])
    for key in keys:
        service.s3.put_object(Bucket="listed", Key=key, Body=b"x")
    pages = service.s3.get_paginator("list_objects_v2").paginate(Bucket="listed", PaginationConfig={"PageSize": 2})
    found = [(page["KeyCount"], [entry["Key"] for entry in page.get("Contents", [])]) for page in pages]
    assert [key for _, names in found for key in names] == sorted(keys, key=str.encode)
    assert [count for count, _ in found] == [2, 2, 2, 1]
    grouped = service.s3.list_objects_v2(Bucket="listed", Prefix="a/", Delimiter="/")
    assert [entry["Key"] for entry in grouped["Contents"]] == ["a/1", "a/2"]
    assert [entry["Prefix"] for entry in grouped["CommonPrefixes"]] == ["a/b/"]
    pages = service.s3.get_paginator("list_objects_v2").paginate(
        Bucket="listed", Delimiter="/", PaginationConfig={"PageSize": 1}
    )
    names = [
        entry.get("Key", entry.get("Prefix"))
        for page in pages
        for entry in [*page.get("Contents", []), *page.get("CommonPrefixes", [])]
    ]
    assert names == ["a&<b", "a/", "z+ z", "é"]
    assert service.s3.list_objects_v2(Bucket="listed", StartAfter="a/b/4")["Contents"][0]["Key"] == "z+ z"
    assert service.s3.list_objects_v2(Bucket="nothing-there")["KeyCount"] == 0


def test_what_is_not_served_is_refused_and_not_half_done(service: Any) -> None:
    service.s3.put_object(Bucket="things", Key="kept", Body=b"kept")
    calls: list[Callable[[], Any]] = [
        lambda: service.s3.copy_object(Bucket="things", Key="copy", CopySource={"Bucket": "things", "Key": "kept"}),
        lambda: service.s3.put_object_tagging(Bucket="things", Key="kept", Tagging={"TagSet": []}),
        lambda: service.s3.create_multipart_upload(Bucket="things", Key="big"),
        lambda: service.s3.put_object(Bucket="things", Key="kept", Body=b"lost", IfNoneMatch="*"),
        lambda: service.s3.list_buckets(),
    ]
    for call in calls:
        with pytest.raises(ClientError) as caught:
            call()
        assert code_of(caught) == "NotImplemented"
    assert service.s3.get_object(Bucket="things", Key="kept")["Body"].read() == b"kept"
    service.s3.head_bucket(Bucket="things")


def put(service: Any, key: str, body: bytes, **headers: str) -> tuple[int, bytes]:
    place = urlsplit(service.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=10)
    try:
        connection.request("PUT", f"/s3/things/{key}", body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_chunked_uploads_with_trailing_checksums(service: Any) -> None:
    checksum = base64.b64encode(zlib.crc32(b"hello world").to_bytes(4, "big")).decode()
    headers = {
        "Content-Encoding": "aws-chunked",
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length": "11",
        "x-amz-trailer": "x-amz-checksum-crc32",
    }
    framed = b"5\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32:%s\r\n\r\n"
    assert put(service, "chunked", framed % checksum.encode(), **headers)[0] == 200
    assert service.s3.get_object(Bucket="things", Key="chunked")["Body"].read() == b"hello world"
    status, body = put(service, "chunked", framed % b"AAAAAA==", **headers)
    assert (status, b"BadDigest" in body) == (400, True)
    status, body = put(service, "chunked", b"5\r\nhel", **headers)
    assert (status, b"IncompleteBody" in body) == (400, True)
    assert service.s3.get_object(Bucket="things", Key="chunked")["Body"].read() == b"hello world"


def test_wrong_hashes_are_refused(service: Any) -> None:
    status, body = put(service, "hash", b"abc", **{"x-amz-content-sha256": hashlib.sha256(b"other").hexdigest()})
    assert (status, b"XAmzContentSHA256Mismatch" in body) == (400, True)
    status, body = put(service, "hash", b"abc", **{"Content-MD5": base64.b64encode(b"0" * 16).decode()})
    assert (status, b"BadDigest" in body) == (400, True)


def test_signed_chunks_are_verified(start_labeling: Callable[..., Any]) -> None:
    """The chain of chunk signatures, made here independently of the verifier by botocore's own pieces."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    service = start_labeling(access_key_id="AKIDEXAMPLE", secret_access_key="wJalrXUtnFEMI/K7MDENG")

    class Streaming(S3SigV4Auth):
        def payload(self, request: Any) -> str:
            return "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"

    request = AWSRequest("PUT", f"{service.url}/s3/things/signed-chunks", data=b"")
    request.headers["Content-Encoding"] = "aws-chunked"
    request.headers["x-amz-decoded-content-length"] = "5"
    auth = Streaming(Credentials(*service.keys), "s3", "local-1")
    auth.add_auth(request)
    headers = dict(request.headers.items())
    headers["X-Amz-Content-SHA256"] = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    previous = headers["Authorization"].rpartition("Signature=")[2]
    date, scope = headers["X-Amz-Date"], headers["Authorization"].split("Credential=AKIDEXAMPLE/")[1].split(",")[0]
    empty = hashlib.sha256(b"").hexdigest()
    body = b""
    for chunk in (b"hello", b""):
        text = "\n".join(("AWS4-HMAC-SHA256-PAYLOAD", date, scope, previous, empty, hashlib.sha256(chunk).hexdigest()))
        request.context["timestamp"] = date
        previous = auth.signature(text, request)
        body += b"%x;chunk-signature=%s\r\n%s\r\n" % (len(chunk), previous.encode(), chunk)
    assert put(service, "signed-chunks", body, **headers) == (200, b"")
    tampered = body.replace(b"hello", b"hullo")
    status, answer = put(service, "signed-chunks", tampered, **headers)
    assert (status, b"SignatureDoesNotMatch" in answer) == (403, True)
    assert service.s3.get_object(Bucket="things", Key="signed-chunks")["Body"].read() == b"hello"
