# SPDX-License-Identifier: GPL-3.0-or-later
"""The object store over S3, or over anything that speaks its API (MinIO, our own `/s3/` endpoint)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC
from functools import partial
from tempfile import SpooledTemporaryFile, gettempdir
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from gandt.domain.errors import (
    BackendUnavailable,
    GandtError,
    InvalidInput,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    WrongState,
)
from gandt.domain.images import join_uri, split_uri
from gandt.ports.object_store import ObjectInfo, SkippedObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MISSING = {"NoSuchKey", "NoSuchBucket", "NotFound", "404"}
_DENIED = {"AccessDenied", "AllAccessDisabled", "Forbidden", "403"}
_UNKNOWN_CALLER = {
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}
_PIECE = 1 << 20  # bytes that a stream holds in memory
_BUSY = {"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException"}


class S3Objects:
    """Objects in S3 through a boto3 client.

    Args:
        client: `boto3.client("s3")`; its endpoint, region, retries and timeouts are the caller's.
    """

    def __init__(self, client: S3Client) -> None:
        self._client = client

    def get(self, uri: str) -> bytes:
        """See `ObjectStore.get`."""
        bucket, key = _split_object(uri)
        data: bytes = _call(uri, lambda: self._client.get_object(Bucket=bucket, Key=key)["Body"].read())
        return data

    def open(self, uri: str) -> BinaryIO:
        """See `ObjectStore.open`; a large object lies in a nameless temporary file meanwhile."""
        bucket, key = _split_object(uri)
        body = _call(uri, lambda: self._client.get_object(Bucket=bucket, Key=key)["Body"])
        file = SpooledTemporaryFile(_PIECE)  # noqa: SIM115 (the caller closes it)
        try:
            while piece := _call(uri, lambda: body.read(_PIECE)):
                file.write(piece)
            file.seek(0)
        except OSError as e:
            file.close()
            raise WrongState(
                f"{uri} cannot be kept in a temporary file: {e.strerror or e}",
                kind="folder",
                id=gettempdir(),
                reason="DISK_FULL",
                fix="free some space, or set TMPDIR to a folder with more",
            ) from e
        except BaseException:
            file.close()
            raise
        return cast(BinaryIO, file)

    def put(self, uri: str, data: bytes, content_type: str = "application/octet-stream") -> ObjectInfo:
        """See `ObjectStore.put`."""
        bucket, key = _split_object(uri)
        _call(uri, lambda: self._client.put_object(Bucket=bucket, Key=key, Body=data, ContentType=content_type))
        info = self.head(uri)  # the put's answer has no time
        if info is None:
            raise BackendUnavailable(f"S3 lost {uri} right after storing it", backend="s3", reason="S3_LOST_OBJECT")
        return info

    def head(self, uri: str) -> ObjectInfo | None:
        """See `ObjectStore.head`."""
        bucket, key = _split_object(uri)
        try:
            found = _call(uri, lambda: self._client.head_object(Bucket=bucket, Key=key))
        except NotFound:
            return None
        return ObjectInfo(uri, found["ContentLength"], found["ETag"].strip('"'), found["LastModified"].astimezone(UTC))

    def list(self, prefix_uri: str, skipped: Callable[[SkippedObject], None] | None = None) -> Iterator[ObjectInfo]:
        """See `ObjectStore.list`; S3 lists all that it holds."""
        del skipped
        bucket, prefix = split_uri(prefix_uri)
        request: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix}
        while True:
            page = _call(prefix_uri, partial(self._client.list_objects_v2, **request))
            for item in page.get("Contents", []):
                uri = join_uri(bucket, item["Key"])
                yield ObjectInfo(uri, item["Size"], item["ETag"].strip('"'), item["LastModified"].astimezone(UTC))
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def delete(self, uri: str) -> None:
        """See `ObjectStore.delete`."""
        bucket, key = _split_object(uri)
        _call(uri, lambda: self._client.delete_object(Bucket=bucket, Key=key))


def _split_object(uri: str) -> tuple[str, str]:
    bucket, key = split_uri(uri)
    if not key:
        raise InvalidInput(f"{uri!r} names a bucket and no key", field="uri", fix="write it as s3://bucket/key")
    return bucket, key


def _call(uri: str, request: Callable[[], Any]) -> Any:
    """Run one request; botocore's errors leave as domain errors."""
    try:
        return request()
    except ClientError as e:
        raise _refusal(uri, e) from e
    except (NoCredentialsError, PartialCredentialsError) as e:
        raise Unauthenticated(
            f"no S3 credentials for {uri}",
            reason="S3_CREDENTIALS_MISSING",
            fix="set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ) from e
    except BotoCoreError as e:  # connection, timeout, broken reading
        raise BackendUnavailable(
            f"S3 does not answer for {uri}: {e}", backend="s3", reason="S3_UNREACHABLE", fix="retry"
        ) from e


def _refusal(uri: str, error: ClientError) -> GandtError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _MISSING or (not code and status == 404):
        return NotFound(f"object {uri} does not exist", kind="object", id=uri)
    if code in _UNKNOWN_CALLER:
        return Unauthenticated(f"S3 does not accept the credentials for {uri}: {code}", fix="refresh them")
    if code in _DENIED or status == 403:
        return PermissionDenied(
            f"S3 denies access to {uri}", reason="S3_ACCESS_DENIED", fix="grant the role this prefix"
        )
    if code in _BUSY or status >= 500:
        return BackendUnavailable(
            f"S3 cannot serve {uri} now: {code or status}", backend="s3", reason="S3_BUSY", fix="retry"
        )
    return InvalidInput(f"S3 refuses the request for {uri}: {code or status}", field="uri", reason="S3_REFUSED")
