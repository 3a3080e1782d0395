# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker portal: sessions, leases, the frame around a customer's page, and `/work` itself."""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from gandt.domain.errors import GandtError, InvalidInput, NotFound
from gandt_labeling import media
from gandt_labeling.operator_api import check_operator
from gandt_labeling.service.leases import Lease, Upcoming
from gandt_labeling.service.ports import FrameRequest
from gandt_labeling.service.spec import Job
from gandt_labeling.service.workers import SESSION_SECONDS
from gandt_labeling.validation import encodes
from gandt_labeling.web import (
    PAGE_HEADERS,
    Web,
    error_response,
    in_thread,
    iso,
    json_body,
    json_response,
    log,
    same_origin,
)

COOKIE = "gandt_session"
_STATIC = Path(__file__).resolve().parent / "static"
# What the worker sees in place of a page that its template cannot make; the portal around it offers the way out.
_UNSHOWN = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>Task</title>'
    '<body style="font:16px/1.5 system-ui,sans-serif;padding:2rem"><h1 style="font-size:1.3rem">'
    "This page cannot be shown</h1><p>Its template has a fault, which is in the service's log. Choose "
    "&ldquo;Cannot do this page&rdquo; above to go on with another one."
)

Handler = Callable[[Web, Request], Awaitable[Response]]


def routes(web: Web) -> list[Route]:
    """All routes of the portal."""

    def at(path: str, handler: Handler, method: str) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                if method != "GET":
                    same_origin(web, request)
                return await handler(web, request)
            except GandtError as error:
                return error_response(error)

        return Route(path, endpoint, methods=[method])

    return [
        at("/work", _page, "GET"),
        at("/api/session", _enter, "POST"),
        at("/api/invites", _invite, "POST"),
        at("/api/jobs", _jobs, "GET"),
        at("/api/leases", _next, "POST"),
        at("/api/upcoming", _upcoming, "GET"),
        at("/api/leases/{lease}", _get, "GET"),
        at("/api/leases/{lease}/draft", _draft, "PUT"),
        at("/api/leases/{lease}/heartbeat", _heartbeat, "POST"),
        at("/api/leases/{lease}/submit", _submit, "POST"),
        at("/api/leases/{lease}/decline", _decline, "POST"),
        at("/api/leases/{lease}/return", _give_back, "POST"),
        at("/frame/{lease}", _frame, "GET"),
        at("/frame/ahead/{token}", _frame_ahead, "GET"),
    ]


async def _page(_web: Web, _request: Request) -> Response:
    return FileResponse(_STATIC / "portal.html", headers=PAGE_HEADERS, media_type="text/html; charset=utf-8")


async def _enter(web: Web, request: Request) -> Response:
    invite = _text((await json_body(request)).get("invite", ""), "invite")
    worker, session = await in_thread(web.workers.enter, invite)
    response = json_response({"worker": worker})
    secure = web.origin(request).startswith("https:")
    response.set_cookie(COOKIE, session, max_age=int(SESSION_SECONDS), httponly=True, secure=secure, samesite="lax")
    return response


async def _invite(web: Web, request: Request) -> Response:
    check_operator(web, request)
    body = await json_body(request)
    name, seconds = body.get("name", ""), body.get("valid_seconds")
    is_duration = isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds < 1e10
    if not isinstance(name, str) or not encodes(name) or not (seconds is None or is_duration):
        raise InvalidInput("name is text and valid_seconds a positive number", field="name")
    invite = web.workers.invite(name, seconds)
    await in_thread(web.operator.note, "invite", web.workers.pseudonym(name) if name else "team link")
    return json_response({"invite": invite, "url": invite_url(web.origin(request), invite)})


def invite_url(origin: str, invite: str) -> str:
    """The link to send to a worker."""
    return f"{origin}/work?invite={quote(invite, safe='')}"


async def _jobs(web: Web, request: Request) -> Response:
    worker = _worker(web, request)
    found = await in_thread(web.leases.open_jobs, worker)
    jobs = [
        {
            "job": job.spec.name,
            "title": job.spec.title,
            "description": job.spec.description,
            "done": done,
            "remaining": remaining,
            "pay": f"{job.pay / 1e6:.2f} USD a page" if job.pay else "",
        }
        for job, done, remaining in found
    ]
    return json_response({"jobs": jobs, "paused": await in_thread(web.workers.pause_of, worker)})


async def _next(web: Web, request: Request) -> Response:
    body = await json_body(request)
    job = _text(body.get("job") or "", "job")
    worker = _worker(web, request)
    prefer = _open_ahead(web, _text(body.get("ahead") or "", "ahead"), worker)
    lease = await in_thread(web.leases.next_task, worker, job, prefer)
    if lease is None:
        return Response(status_code=204, headers={"Retry-After": str(web.poll_seconds), "Cache-Control": "no-store"})
    return json_response(
        {**_lease_json(lease), "ahead": _ahead(web, Upcoming(lease.job.job_id, lease.task_no), worker)}
    )


async def _upcoming(web: Web, request: Request) -> Response:
    """The page that this worker is likely to get next, to be loaded while the present one is worked on."""
    worker = _worker(web, request)
    found = await in_thread(web.leases.upcoming, worker)
    if found is None:
        return Response(status_code=204, headers={"Cache-Control": "no-store"})
    ahead = _ahead(web, found, worker)
    return json_response({"ahead": ahead, "frame_url": f"/frame/ahead/{ahead}"})


def _ahead(web: Web, upcoming: Upcoming, worker: str) -> str:
    """Names a task to its worker's browser: the same text each time, so that page and lease find each other."""
    return web.tokens.make("ahead", {"j": upcoming.job_id, "n": upcoming.task_no, "w": worker})


def _open_ahead(web: Web, token: str, worker: str) -> Upcoming | None:
    if not token:
        return None
    claims = web.tokens.open("ahead", token, 0.0)
    return Upcoming(claims["j"], claims["n"]) if claims["w"] == worker else None


async def _get(web: Web, request: Request) -> Response:
    lease = await in_thread(web.leases.get, request.path_params["lease"], _worker(web, request))
    return json_response({**_lease_json(lease), "state": lease.state})


async def _draft(web: Web, request: Request) -> Response:
    body = await json_body(request)
    draft = body.get("answer", body)
    await in_thread(web.leases.save_draft, request.path_params["lease"], _worker(web, request), draft)
    return Response(status_code=204)


async def _heartbeat(web: Web, request: Request) -> Response:
    seconds = (await json_body(request)).get("active_s", 0.0)
    left = await in_thread(web.leases.heartbeat, request.path_params["lease"], _worker(web, request), seconds)
    return json_response({"seconds_left": round(left, 3)})


async def _submit(web: Web, request: Request) -> Response:
    body = await json_body(request)
    worker = _worker(web, request)
    lease, seconds = request.path_params["lease"], body.get("active_s", 0.0)
    receipt = await in_thread(web.leases.submit, lease, worker, body.get("answer"), seconds)
    return json_response(
        {"answer_id": receipt.answer_id, "lease": receipt.lease_id, "submitted_at": iso(receipt.submitted_at)}
    )


async def _decline(web: Web, request: Request) -> Response:
    reason = _text(str((await json_body(request)).get("reason", "")), "reason")
    await in_thread(web.leases.decline, request.path_params["lease"], _worker(web, request), reason)
    return Response(status_code=204)


async def _give_back(web: Web, request: Request) -> Response:
    await in_thread(web.leases.give_back, request.path_params["lease"], _worker(web, request))
    return Response(status_code=204)


async def _frame(web: Web, request: Request) -> Response:
    lease = request.path_params["lease"]
    job, task_input = await in_thread(web.leases.page, lease, _worker(web, request))
    return await _rendered(web, request, job, task_input, lease)


async def _frame_ahead(web: Web, request: Request) -> Response:
    worker, token = _worker(web, request), request.path_params["token"]
    upcoming = _open_ahead(web, token, worker)
    if upcoming is None:
        raise NotFound("this page is another worker's", kind="page", id="ahead")
    job, task_input = await in_thread(web.leases.page_ahead, worker, upcoming)
    return await _rendered(web, request, job, task_input, token, ahead=True)


async def _rendered(
    web: Web, request: Request, job: Job, task_input: Any, page_id: str, ahead: bool = False
) -> Response:
    origin, nonce = web.origin(request), secrets.token_urlsafe(16)
    sign = media.signer(web, origin, page_id)
    page = FrameRequest(job.template, task_input, page_id, origin, sign, ahead)
    try:
        html = await in_thread(web.pages.render, page, nonce)
    except InvalidInput as error:
        log.error("the page of job %s does not render: %s", job.spec.name, error)
        html, nonce = _UNSHOWN, ""
    page_bytes = html.encode("utf-8", "replace")  # a task's text may hold half a surrogate pair
    return Response(
        page_bytes, 200, _frame_headers(origin, nonce if web.inline_scripts else ""), media_type="text/html"
    )


def _frame_headers(origin: str, nonce: str) -> dict[str, str]:
    # The frame's origin is opaque, so 'self' would match nothing: every place names our origin.
    scripts = f"{origin}/static/" + (f" 'nonce-{nonce}'" if nonce else "")
    policy = (
        "sandbox allow-scripts allow-forms; default-src 'none'; "
        f"script-src {scripts}; style-src {origin}/static/ 'unsafe-inline'; img-src {origin}/media/ data:; "
        f"font-src {origin}/static/; connect-src 'none'; form-action 'none'; base-uri 'none'; frame-ancestors {origin}"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }


def _lease_json(lease: Lease) -> dict[str, Any]:
    return {
        "lease": lease.lease_id,
        "job": lease.job.spec.name,
        "title": lease.job.spec.title,
        "description": lease.job.spec.description,
        "expires_at": iso(lease.expires_at),
        "seconds_left": round(lease.seconds_left, 3),
        "frame_url": f"/frame/{lease.lease_id}",
        "draft": json.loads(lease.draft) if lease.draft else None,
        "task": lease.task_input,
        "progress": {"done": lease.done, "remaining": lease.remaining},
    }


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str) or not encodes(value):
        raise InvalidInput(f"{field} is text", field=field)
    return value


def _worker(web: Web, request: Request) -> str:
    return web.workers.of_session(request.cookies.get(COOKIE, ""))
