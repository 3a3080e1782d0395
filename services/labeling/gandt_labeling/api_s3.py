# SPDX-License-Identifier: GPL-3.0-or-later
"""`/s3/<bucket>/<key>`: the S3 calls that Lambdas and customers' boto3 code need, over the object store.

Path-style. Get (with ranges), Head, Put (plain and aws-chunked, checksums), Delete, ListObjectsV2, HeadBucket,
CreateBucket (buckets need no creating) and GetBucketLocation. What would need more than a byte store is refused with
NotImplemented rather than half done: multipart, copies, conditional writes, ACLs, tags.
"""

from __future__ import annotations

import hashlib
import mimetypes
import re
import uuid
from email.utils import format_datetime
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gandt.domain import disk
from gandt.domain.errors import (
    BackendUnavailable,
    GandtError,
    InvalidInput,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unimplemented,
    WrongState,
)
from gandt.domain.images import join_uri
from gandt.ports.object_store import ObjectInfo
from gandt_labeling import aws_chunked, s3_listing
from gandt_labeling.byte_ranges import parse_range
from gandt_labeling.sigv4 import UNSIGNED, Signed
from gandt_labeling.web import Web, in_thread, log, read_body

# Query parameters that select another operation, which we do not have.
_OTHER_OPERATIONS = {
    "acl", "attributes", "cors", "encryption", "legal-hold", "lifecycle", "policy", "restore", "retention", "select",
    "tagging", "torrent", "uploadId", "uploads", "versioning", "versions", "delete", "notification", "website",
}  # fmt: skip
# A stored file is never a page of the portal, whose cookies its scripts would have: browsers run nothing in it.
_INERT = {"Content-Security-Policy": "default-src 'none'; sandbox", "X-Content-Type-Options": "nosniff"}
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_CODES = {"InvalidSignatureException": "SignatureDoesNotMatch", "UnrecognizedClientException": "InvalidAccessKeyId"}


def routes(web: Web) -> list[Route]:
    """Routes below /s3."""

    async def handle(request: Request) -> Response:
        bucket = request.path_params.get("bucket", "")
        key = request.path_params.get("key", "")
        try:
            response = await _dispatch(web, request, bucket, key)
        except GandtError as error:
            response = _refusal(error, bucket, key)
        response.headers.update(_INERT)
        response.headers["x-amz-request-id"] = uuid.uuid4().hex[:16].upper()
        return response

    methods = ["GET", "HEAD", "PUT", "POST", "DELETE"]
    return [
        Route("/s3", handle, methods=methods),
        Route("/s3/", handle, methods=methods),
        Route("/s3/{bucket}", handle, methods=methods),
        Route("/s3/{bucket}/{key:path}", handle, methods=methods),
    ]


async def _dispatch(web: Web, request: Request, bucket: str, key: str) -> Response:
    body = await read_body(request, web.max_object_bytes + (1 << 20)) if request.method in ("PUT", "POST") else b""
    signed = web.verify(request, "s3", body)
    query = dict(parse_qsl(request.scope["query_string"].decode("ascii"), keep_blank_values=True))
    if not bucket:
        raise Unimplemented("listing buckets is not served here")
    if not _BUCKET.fullmatch(bucket):
        raise InvalidInput(f"{bucket!r} is not a bucket's name", reason="InvalidBucketName")
    others = _OTHER_OPERATIONS & query.keys()
    if others or request.method == "POST":
        raise Unimplemented(f"{request.method} with {', '.join(sorted(others)) or 'a form'} is not served here")
    if not key:
        return await _on_bucket(web, request.method, bucket, query)
    match request.method:
        case "PUT":
            return await _put(web, request, join_uri(bucket, key), body, signed)
        case "DELETE":
            await in_thread(web.objects.delete, join_uri(bucket, key))
            return Response(status_code=204)
        case method:
            return await in_thread(_get, web, request, join_uri(bucket, key), method == "HEAD")


async def _on_bucket(web: Web, method: str, bucket: str, query: dict[str, str]) -> Response:
    match method:
        case "HEAD" | "PUT":
            return Response(status_code=200)
        case "GET" if "location" in query:
            return _xml("<LocationConstraint xmlns='http://s3.amazonaws.com/doc/2006-03-01/'/>")
        case "GET" if query.get("list-type") == "2":
            return _xml(await in_thread(s3_listing.list_objects, web.objects, bucket, query))
        case _:
            raise Unimplemented("on a bucket only HEAD, PUT and ListObjectsV2 are served here")


def _get(web: Web, request: Request, uri: str, head: bool) -> Response:
    info = web.objects.head(uri)
    if info is None:
        raise NotFound("The specified key does not exist.", kind="object", id=uri)
    if request.headers.get("if-none-match") in ("*", _etag(info)):
        return Response(status_code=304, headers={"ETag": _etag(info)})
    wanted = request.headers.get("if-match")
    if wanted not in (None, "*", _etag(info)):
        raise WrongState("the object has another ETag", kind="object", id=uri, reason="PreconditionFailed")
    headers = {
        "ETag": _etag(info),
        "Last-Modified": format_datetime(info.modified_at, usegmt=True),
        "Accept-Ranges": "bytes",
    }
    kind = mimetypes.guess_type(uri)[0] or "application/octet-stream"
    span = parse_range(request.headers.get("range"), info.size)
    status = 200
    if span is not None:
        status = 206
        headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{info.size}"
    size = len(span) if span is not None else info.size
    if head:
        return Response(status_code=status, headers={**headers, "Content-Length": str(size)}, media_type=kind)
    data = web.objects.get(uri)
    return Response(data[span.start : span.stop] if span is not None else data, status, headers, media_type=kind)


async def _put(web: Web, request: Request, uri: str, body: bytes, signed: Signed | None) -> Response:
    headers = dict(request.headers.items())
    refused = {"x-amz-copy-source", "if-match", "if-none-match"} & headers.keys()
    if refused:
        raise Unimplemented(f"PUT with {', '.join(sorted(refused))} is not served here")
    promised = headers.get("x-amz-content-sha256", UNSIGNED)
    if promised.startswith("STREAMING-") or "aws-chunked" in headers.get("content-encoding", ""):
        with_signatures = signed if promised.startswith("STREAMING-AWS4-HMAC-SHA256-PAYLOAD") else None
        body, trailers = await in_thread(aws_chunked.decode, body, with_signatures)
        headers |= trailers
    elif promised != UNSIGNED and promised != hashlib.sha256(body).hexdigest():
        raise InvalidInput("the body does not match x-amz-content-sha256", reason="XAmzContentSHA256Mismatch")
    if len(body) > web.max_object_bytes:
        raise InvalidInput(f"objects may have {web.max_object_bytes} bytes here", reason="BODY_TOO_LARGE")
    checked = aws_chunked.check_checksums(body, headers)
    kind = headers.get("content-type", "application/octet-stream")
    info = await in_thread(web.objects.put, uri, body, kind)
    return Response(status_code=200, headers={"ETag": _etag(info), **checked})


def _etag(info: ObjectInfo) -> str:
    return info.etag if info.etag.startswith('"') else f'"{info.etag}"'


def _refusal(error: GandtError, bucket: str, key: str) -> Response:
    match error:
        case _ if disk.is_disk_trouble(error):
            status, code = 507, error.reason
        case NotFound():
            status, code = 404, "NoSuchKey"
        case Unimplemented():
            status, code = 501, "NotImplemented"
        case InvalidInput() if error.reason == "BODY_TOO_LARGE":
            status, code = 413, "EntityTooLarge"
        case InvalidInput() if error.reason == "InvalidRange":
            status, code = 416, "InvalidRange"
        case InvalidInput():
            # Reasons in UpperCamel are S3's own codes; ours are UPPER_SNAKE.
            status, code = 400, "InvalidRequest" if error.reason.isupper() else error.reason
        case WrongState() if error.reason == "PreconditionFailed":
            status, code = 412, "PreconditionFailed"
        case Unauthenticated():
            status, code = 403, _CODES.get(error.reason, error.reason)
        case PermissionDenied():
            status, code = 403, "AccessDenied"
        case BackendUnavailable():
            status, code = 503, "ServiceUnavailable"
        case _:
            log.error("s3 call failed: %s", error, extra={"reason": error.reason})
            status, code = 500, "InternalError"
    text = (
        f"<Error><Code>{code}</Code><Message>{escape(error.message)}</Message>"
        f"<BucketName>{escape(bucket)}</BucketName><Key>{escape(key)}</Key></Error>"
    )
    return _xml(text, status)


def _xml(body: str, status: int = 200) -> Response:
    return Response(f'<?xml version="1.0" encoding="UTF-8"?>\n{body}', status, media_type="application/xml")
