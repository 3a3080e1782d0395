# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator's calls over HTTP: closed without the token, and what they tell."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from gandt_labeling.operator_api import safe_cell

CALLS = [
    ("GET", "/api/operator/overview"),
    ("GET", "/api/operator/campaigns"),
    ("POST", "/api/operator/campaigns/c"),
    ("POST", "/api/operator/jobs/j"),
    ("POST", "/api/operator/workers/w"),
    ("GET", "/api/operator/doubtful"),
    ("POST", "/api/operator/reviews"),
    ("GET", "/api/operator/audit"),
    ("GET", "/api/operator/payouts.csv"),
]


def bearer(service: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {(service.data_dir / 'labeling.token').read_text()}"}


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_nothing_opens_without_the_token(service: Any, method: str, path: str) -> None:
    stranger, worker = service.worker_class(service.url), service.worker()
    body: dict[str, Any] | None = None if method == "GET" else {}
    for someone, headers in ((stranger, {}), (worker, {}), (stranger, {"Authorization": "Bearer wrong"})):
        reply = someone.call(method, path, body, **headers)
        assert (reply.status, reply.json()["error"]["reason"]) == (401, "OPERATOR_ONLY")
    stranger.cookie = worker.cookie.replace("gandt_session", "gandt_operator")  # a worker's session is no operator's
    assert stranger.call(method, path, body).status == 401


def test_a_browser_trades_the_token_for_a_cookie(service: Any) -> None:
    operator = service.worker_class(service.url)
    assert operator.call("POST", "/api/operator/session", {"token": "wrong"}).status == 401
    reply = operator.call("POST", "/api/operator/session", {"token": (service.data_dir / "labeling.token").read_text()})
    assert reply.status == 200
    assert {"HttpOnly", "SameSite=strict"} <= {part.strip() for part in reply.headers["set-cookie"].split(";")}
    assert operator.call("GET", "/api/operator/overview").status == 200
    assert operator.call("POST", "/api/invites", {"name": "eve"}).status == 200
    foreign = operator.call("POST", "/api/operator/jobs/x", {"paused": True}, Origin="https://evil.example")
    assert (foreign.status, foreign.json()["error"]["reason"]) == (403, "CROSS_SITE")
    actions = [e["action"] for e in operator.call("GET", "/api/operator/audit").json()["entries"]]
    assert actions[:3] == ["invite", "login", "refused login"]


def test_a_job_its_people_and_their_pay(service: Any) -> None:
    service.upload("paid", pages=2)
    request = service.request("paid", Tags=[{"Key": "gandt:pay-usd-micros", "Value": "120000"}])
    service.sagemaker.create_labeling_job(**request)
    worker = service.worker()
    lease = worker.first("paid")
    answer = {f"labels-{tile['index']}": '["cat"]' for tile in lease["task"]["taskObject"]}
    worker.call("POST", f"/api/leases/{lease['lease']}/submit", {"answer": answer, "active_s": 6.0})
    operator, headers = service.worker_class(service.url), bearer(service)
    overview = operator.call("GET", "/api/operator/overview", **headers).json()
    (job,) = [each for each in overview["jobs"] if each["job"] == "paid"]
    assert (job["pages"], job["answers"], job["owed_usd_micros"], job["paused"]) == (2, 1, 120_000, False)
    (person,) = [each for each in overview["workers"] if each["pages"]]
    assert (person["page_seconds"], person["state"]) == (6.0, "active")
    assert operator.call("POST", "/api/operator/jobs/paid", {"paused": True}, **headers).status == 204
    assert worker.next("paid") is None
    assert operator.call("POST", "/api/operator/jobs/paid", {"paused": False}, **headers).status == 204
    path = f"/api/operator/workers/{person['worker']}"
    assert operator.call("POST", path, {"paused": True, "reason": "too fast"}, **headers).status == 204
    assert worker.call("GET", "/api/jobs").json()["paused"] == "too fast"
    assert operator.call("POST", path, {"paused": "yes"}, **headers).status == 400
    table = operator.call("GET", "/api/operator/payouts.csv", **headers).body.decode()
    (row,) = csv.DictReader(io.StringIO(table))
    assert row == {"worker": person["worker"], "pages": "1", "active_hours": "0.0017", "amount_usd": "0.120000"}


def test_without_a_controller_it_says_so(service: Any) -> None:
    operator, headers = service.worker_class(service.url), bearer(service)
    assert operator.call("GET", "/api/operator/campaigns", **headers).json() == {"controller": False, "campaigns": []}
    reply = operator.call("GET", "/api/operator/doubtful", **headers)
    assert (reply.status, reply.json()["error"]["reason"]) == (503, "NO_CONTROLLER")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert safe_cell(text) == f"'{text}"
    assert safe_cell("private.local.0") == "private.local.0"
