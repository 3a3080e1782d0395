# SPDX-License-Identifier: GPL-3.0-or-later
"""`/media/<token>`: image bytes for worker pages, by signed link.

A page runs in a sandboxed frame with an opaque origin, so its requests carry no cookie: the link itself is the
permission, bound to one object and one lease, and over with it. Only image formats that browsers show are sent, told
apart by their bytes and never by a name; a BMP or TIFF goes out as JPEG, upright; SVG is code and is refused. Nothing
private goes out with a picture: EXIF, GPS, XMP, comments and hidden second pictures stay here.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gandt.domain.errors import GandtError, InvalidInput
from gandt_labeling.byte_ranges import parse_range
from gandt_labeling.private_parts import without_private_parts
from gandt_labeling.service.ports import SignMedia
from gandt_labeling.web import Web, error_response, in_thread

LINK_SECONDS = 8 * 3600.0  # the longest task, so that a slow worker's photos still load

_HEADERS = {
    "Accept-Ranges": "bytes",
    "Access-Control-Allow-Origin": "*",  # so that a canvas works from the opaque origin
    "Cache-Control": "private, max-age=600, immutable",
    "Content-Disposition": "inline",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
}


def signer(web: Web, origin: str, lease_id: str) -> SignMedia:
    """Makes links for one lease."""
    # Whole minutes: a page that is rendered again gets the same links, and the browser's cache serves its photos.
    expires_at = (web.clock.now().timestamp() // 60) * 60 + LINK_SECONDS

    def sign(uri: str) -> str:
        return f"{origin}/media/{web.tokens.make('media', {'u': uri, 'l': lease_id}, expires_at)}"

    return sign


def routes(web: Web) -> list[Route]:
    """The media route."""

    async def media(request: Request) -> Response:
        try:
            return await in_thread(_serve, web, request)
        except InvalidInput as error:
            return Response(error.message, 416 if error.reason == "InvalidRange" else 415, media_type="text/plain")
        except GandtError as error:
            return error_response(error)

    return [Route("/media/{token}", media, methods=["GET", "HEAD"])]


def _serve(web: Web, request: Request) -> Response:
    claims = web.tokens.open("media", request.path_params["token"], web.clock.now().timestamp())
    data, kind = _shown(web, web.objects.get(claims["u"]))
    span = parse_range(request.headers.get("range"), len(data))
    if span is None:
        return Response(data, 200, _HEADERS, media_type=kind)
    headers = {**_HEADERS, "Content-Range": f"bytes {span.start}-{span.stop - 1}/{len(data)}"}
    return Response(data[span.start : span.stop], 206, headers, media_type=kind)


def _shown(web: Web, data: bytes) -> tuple[bytes, str]:
    kind = image_type(data)
    clean = without_private_parts(data, kind) if kind else None
    return (web.browser_image(data), "image/jpeg") if clean is None else (clean, kind)


def image_type(data: bytes) -> str:
    """The media type by the first bytes; "" for what must not be sent as it is."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return "image/avif"
    return ""
