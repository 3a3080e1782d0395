# SPDX-License-Identifier: GPL-3.0-or-later
"""`/operate` and `/api/operator/...`: the operator's page and what it calls, opened by the operator's token.

A browser trades the token for a cookie of its own; programs send it as a bearer token. Rounds, money and reviews are
the job controller's: without one, the page shows jobs and workers only.
"""

from __future__ import annotations

import csv
import hmac
import io
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from gandt.domain.errors import BackendUnavailable, GandtError, InvalidInput, NotFound, Unauthenticated
from gandt.domain.labeling.campaigns import Campaign
from gandt.domain.labeling.outcomes import GivenLabel
from gandt.domain.labeling.rounds import Round
from gandt_labeling import media
from gandt_labeling.service.operator import JobView, WorkerView
from gandt_labeling.service.ports import Controller
from gandt_labeling.validation import encodes
from gandt_labeling.web import PAGE_HEADERS, Web, error_response, in_thread, iso, json_body, json_response, same_origin

COOKIE = "gandt_operator"
SESSION_SECONDS = 12 * 3600.0
DOUBTFUL_SHOWN = 60
_STATIC = Path(__file__).resolve().parent / "static"

Handler = Callable[[Web, Request], Awaitable[Response]]


def routes(web: Web) -> list[Route]:
    """All routes of the operator."""

    def at(path: str, handler: Handler, method: str, is_open: bool = False) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                if method != "GET":
                    same_origin(web, request)
                if not is_open:
                    check_operator(web, request)
                return await handler(web, request)
            except GandtError as error:
                return error_response(error)

        return Route(path, endpoint, methods=[method])

    return [
        at("/operate", _page, "GET", is_open=True),
        at("/api/operator/session", _enter, "POST", is_open=True),
        at("/api/operator/overview", _overview, "GET"),
        at("/api/operator/campaigns", _campaigns, "GET"),
        at("/api/operator/campaigns/{campaign}", _pause_campaign, "POST"),
        at("/api/operator/jobs/{job}", _pause_job, "POST"),
        at("/api/operator/workers/{worker}", _pause_worker, "POST"),
        at("/api/operator/doubtful", _doubtful, "GET"),
        at("/api/operator/reviews", _review, "POST"),
        at("/api/operator/audit", _audit, "GET"),
        at("/api/operator/payouts.csv", _payouts, "GET"),
    ]


def check_operator(web: Web, request: Request) -> None:
    """Let the operator's token or session pass.

    Raises:
        Unauthenticated: neither is there.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        if hmac.compare_digest(token.encode(), web.operator_token.encode()):
            return
    elif session := request.cookies.get(COOKIE):
        claims = web.tokens.open("operator", session, web.clock.now().timestamp())
        if claims.get("t") == _mark(web):
            return
    raise Unauthenticated(
        "this is for the operator of the service",
        reason="OPERATOR_ONLY",
        fix="send Authorization: Bearer <operator's token>, or open /operate",
    )


def _mark(web: Web) -> str:
    """Binds sessions to the token they were opened with: another token ends them."""
    return web.tokens.pseudonym("operator", web.operator_token)


async def _page(_web: Web, _request: Request) -> Response:
    return FileResponse(_STATIC / "operator.html", headers=PAGE_HEADERS, media_type="text/html; charset=utf-8")


async def _enter(web: Web, request: Request) -> Response:
    token = (await json_body(request)).get("token")
    given = token.encode("utf-8", "replace") if isinstance(token, str) else b""
    if not hmac.compare_digest(given, web.operator_token.encode()):
        await in_thread(web.operator.note_refused_login)
        raise Unauthenticated(
            "this is not the operator's token",
            reason="OPERATOR_ONLY",
            fix="it is in labeling.token of the service's data folder, or what GANDT_LABELING__TOKEN says",
        )
    await in_thread(web.operator.note, "login")
    session = web.tokens.make("operator", {"t": _mark(web)}, web.clock.now().timestamp() + SESSION_SECONDS)
    response = json_response({})
    secure = web.origin(request).startswith("https:")
    response.set_cookie(COOKIE, session, max_age=int(SESSION_SECONDS), httponly=True, secure=secure, samesite="strict")
    return response


async def _overview(web: Web, _request: Request) -> Response:
    gold = await in_thread(_gold, web.controller())
    people = [_worker_json(each, gold.get(each.worker_id)) for each in await in_thread(web.operator.workers)]
    jobs = [_job_json(job) for job in await in_thread(web.operator.jobs)]
    return json_response({"jobs": jobs, "workers": people})


def _gold(controller: Controller | None) -> dict[str, float]:
    """Accuracy on gold by worker: which tiles are gold is the job controller's secret, so it is asked."""
    if controller is None:
        return {}
    try:
        return {each.worker_id: each.gold_accuracy for each in controller.list_workers() if each.gold_accuracy >= 0}
    except (NotFound, BackendUnavailable):  # no campaign yet; or it is away, which must not hide jobs and workers
        return {}


async def _campaigns(web: Web, _request: Request) -> Response:
    """Campaigns with their rounds and money; `controller` says whether a job controller is there to ask."""
    controller = web.controller()
    if controller is None:
        return json_response({"controller": False, "campaigns": []})
    return json_response({"controller": True, "campaigns": await in_thread(_campaign_list, controller)})


async def _pause_campaign(web: Web, request: Request) -> Response:
    paused = _flag(await json_body(request), "paused")
    campaign = request.path_params["campaign"]
    controller = _controller(web)
    await in_thread(lambda: controller.update_campaign(campaign, paused=paused))
    await in_thread(web.operator.note, "pause campaign" if paused else "resume campaign", campaign)
    return Response(status_code=204)


async def _pause_job(web: Web, request: Request) -> Response:
    paused = _flag(await json_body(request), "paused")
    await in_thread(web.operator.pause_job, request.path_params["job"], paused)
    return Response(status_code=204)


async def _pause_worker(web: Web, request: Request) -> Response:
    body = await json_body(request)
    reason = body.get("reason", "")
    if not isinstance(reason, str) or not encodes(reason):
        raise InvalidInput("reason is text", field="reason")
    await in_thread(web.operator.pause_worker, request.path_params["worker"], _flag(body, "paused"), reason)
    return Response(status_code=204)


async def _doubtful(web: Web, request: Request) -> Response:
    """Images whose label is in doubt, the most doubtful first, each with a link to look at it."""
    campaign = request.query_params.get("campaign", "")
    controller, sign = _controller(web), media.signer(web, web.origin(request), "operator")

    def ask() -> dict[str, Any]:
        found = [label for label in controller.list_labels(campaign) if label.status != "certain"]
        found.sort(key=lambda label: (label.confidence, label.image_id))
        spec = controller.get_campaign(campaign).spec
        images = [
            {
                "image": label.image_id,
                "name": label.uris[0] if label.uris else label.image_id,
                "url": sign(label.uris[0]) if label.uris else "",
                "labels": list(label.labels),
                "status": label.status,
                "confidence": label.confidence,
                "answers": label.answers,
                "agreeing": label.agreeing,
            }
            for label in found[:DOUBTFUL_SHOWN]
        ]
        return {"classes": list(spec.space.classes), "multi_label": spec.multi_label, "total": len(found)} | {
            "images": images
        }

    return json_response(await in_thread(ask))


async def _review(web: Web, request: Request) -> Response:
    body = await json_body(request)
    image, labels, campaign = body.get("image", ""), body.get("labels"), body.get("campaign", "")
    texts = [image, campaign, *labels] if isinstance(labels, list) and image else [None]
    if not all(isinstance(text, str) and encodes(text) for text in texts):
        raise InvalidInput("a review has an image and a list of labels", field="labels")
    controller = _controller(web)
    decided = GivenLabel(image, tuple(labels or ()))
    report = await in_thread(lambda: controller.review_labels([decided], "operator", campaign))
    if report.rejected:
        raise InvalidInput(str(report.rejected[0].error), field="labels", reason="REVIEW_REJECTED")
    await in_thread(web.operator.note, "review", image, " | ".join(labels or ()))
    return Response(status_code=204)


async def _audit(web: Web, _request: Request) -> Response:
    entries = await in_thread(web.operator.log)
    return json_response({"entries": [{**asdict(entry), "at": iso(entry.at)} for entry in entries]})


async def _payouts(web: Web, _request: Request) -> Response:
    workers = await in_thread(web.operator.workers)
    await in_thread(web.operator.note, "export payouts", "", f"{len(workers)} workers")
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["worker", "pages", "active_hours", "amount_usd"])
    for worker in workers:
        if worker.pages:
            amount = f"{worker.owed_micros / 1e6:.6f}"
            table.writerow([safe_cell(worker.worker_id), worker.pages, f"{worker.active_seconds / 3600:.4f}", amount])
    headers = {"Content-Disposition": 'attachment; filename="payouts.csv"', "Cache-Control": "no-store"}
    return Response(out.getvalue(), 200, headers, media_type="text/csv; charset=utf-8")


def safe_cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _campaign_list(controller: Controller) -> list[dict[str, Any]]:
    return [
        _campaign_json(campaign, controller.list_rounds(campaign.campaign_id))
        for campaign in controller.list_campaigns()
    ]


def _campaign_json(campaign: Campaign, rounds: Iterator[Round]) -> dict[str, Any]:
    money = campaign.money
    return {
        "campaign": campaign.campaign_id,
        "title": campaign.spec.name,
        "state": campaign.state.value,
        "paused": campaign.state.value == "paused",
        "message": campaign.message,
        "budget_usd_micros": money.budget,
        "reserved_usd_micros": money.reserved,
        "spent_usd_micros": money.spent,
        "rounds": [
            {
                "number": each.number,
                "state": each.state.value,
                "strategy": each.strategy,
                "images": each.images,
                "answers": each.answers,
                "targets_found": each.targets_found,
                "cost_usd_micros": each.cost,
            }
            for each in rounds
        ],
    }


def _job_json(view: JobView) -> dict[str, Any]:
    job = view.job
    return {
        "job": job.spec.name,
        "title": job.spec.title,
        "status": job.status,
        "paused": job.paused,
        "failure": job.failure_reason,
        "workers_per_page": job.spec.slots,
        "pages": sum(view.tasks.values()),
        "labeled": view.tasks.get("labeled", 0),
        "failed": view.tasks.get("failed", 0),
        "open": view.tasks.get("open", 0),
        "waiting": view.tasks.get("waiting", 0),
        "answers": view.answers,
        "in_work": view.leases,
        "owed_usd_micros": view.owed_micros,
        "created_at": iso(job.created_at),
    }


def _worker_json(view: WorkerView, gold: float | None) -> dict[str, Any]:
    return {
        "worker": view.worker_id,
        "state": view.state,
        "reason": view.reason,
        "seen_at": iso(view.seen_at),
        "pages": view.pages,
        "active_seconds": round(view.active_seconds, 1),
        "page_seconds": view.page_seconds,
        "agreement": view.agreement,
        "compared": view.compared,
        "gold_accuracy": gold,
        "owed_usd_micros": view.owed_micros,
    }


def _controller(web: Web) -> Controller:
    controller = web.controller()
    if controller is None:
        raise BackendUnavailable(
            "no job controller is connected",
            backend="jobcontroller",
            reason="NO_CONTROLLER",
            fix="run `gandt serve`, or set GANDT_ENDPOINTS__JOBCONTROLLER for the labeling service",
        )
    return controller


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if not isinstance(value, bool):
        raise InvalidInput(f"{name} is true or false", field=name)
    return value
