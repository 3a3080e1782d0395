# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that mean harm: stored pages on the portal's origin, odd texts, floods of wrong tokens, paused workers."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import pytest

HALF = b'"\\ud800"'  # half a surrogate pair: JSON can spell it, UTF-8 and databases cannot


def bearer(service: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {(service.data_dir / 'labeling.token').read_text()}"}


def raw(service: Any, method: str, target: bytes) -> int:
    """The status of a request whose target is sent byte for byte."""
    place = urlsplit(service.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
    try:
        connection.putrequest(method, target.decode("latin-1"), skip_accept_encoding=True)
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("name", ["evil.html", "evil.svg", "evil.xml"])
def test_a_stored_page_is_no_page_of_the_portal(service: Any, name: str) -> None:
    service.s3.put_object(Bucket="things", Key=name, Body=b"<script>fetch('/api/operator/overview')</script>")
    reply = service.worker_class(service.url).call("GET", f"/s3/things/{name}")
    assert reply.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert reply.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "target",
    [
        b"/s3/things/../../../labeling.token",
        b"/s3/things/%2e%2e/%2e%2e/labeling.token",
        b"/s3/../labeling.token",
        b"/s3/%2e%2e/labeling.token",
        b"/s3/things/..%2f..%2flabeling.token",
        b"/s3/things//etc/passwd",
        b"/s3/things/%00",
        b"/s3/things/a%00b",
        b"/s3/things/%ff%fe",
        b"/s3/things/..%5c..%5clabeling.token",
        b"/s3/things/" + b"a" * 5000,
        b"/s3/things?list-type=2&prefix=../../",
        b"/s3/things?list-type=2&prefix=%00",
        b"/s3/things?list-type=2&max-keys=-1",
        b"/s3/things?list-type=2&max-keys=x",
        b"/static/../operator_api.py",
        b"/static/%2e%2e/operator_api.py",
    ],
)
def test_no_path_leads_out_of_the_store(service: Any, target: bytes) -> None:
    status = raw(service, "GET", target)
    assert status in (200, 400, 404), status
    assert status != 200 or b"list-type" in target


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/operator/session", b'{"token": %s}' % HALF),
        ("/api/operator/reviews", b'{"image": %s, "labels": ["cat"]}' % HALF),
        ("/api/operator/reviews", b'{"image": "a", "labels": [%s]}' % HALF),
        ("/api/operator/workers/nobody", b'{"paused": true, "reason": %s}' % HALF),
        ("/api/invites", b'{"name": "x", "valid_seconds": 1%s}' % (b"0" * 400)),
        ("/api/invites", b'{"name": "x", "valid_seconds": Infinity}'),
    ],
)
def test_odd_texts_are_refused(service: Any, path: str, body: bytes) -> None:
    reply = service.worker_class(service.url).call("POST", path, body, **bearer(service))
    assert reply.status in (400, 401, 404), reply.body


def test_a_flood_of_wrong_tokens_does_not_push_the_log_away(service: Any) -> None:
    stranger = service.worker_class(service.url)
    service.invite("somebody")
    for _ in range(210):
        assert stranger.call("POST", "/api/operator/session", {"token": "guess"}).status == 401
    entries = stranger.call("GET", "/api/operator/audit", **bearer(service)).json()["entries"]
    assert "invite" in [entry["action"] for entry in entries]


def test_a_paused_worker_sees_no_page_ahead(service: Any) -> None:
    service.upload("ahead", pages=3)
    service.sagemaker.create_labeling_job(**service.request("ahead"))
    worker = service.worker("paused one")
    worker.first("ahead")
    ahead = worker.call("GET", "/api/upcoming").json()
    assert worker.call("GET", ahead["frame_url"]).status == 200
    people = worker.call("GET", "/api/operator/overview", **bearer(service)).json()["workers"]
    path = f"/api/operator/workers/{people[0]['worker']}"
    assert worker.call("POST", path, {"paused": True}, **bearer(service)).status == 204
    assert worker.call("GET", "/api/upcoming").status == 204
    assert worker.call("GET", ahead["frame_url"]).status == 404


def test_nobody_reports_more_time_than_a_page_has(service: Any) -> None:
    service.upload("hours")
    service.sagemaker.create_labeling_job(**service.request("hours"))
    worker = service.worker("hours")
    lease = worker.first("hours")["lease"]
    assert worker.call("POST", f"/api/leases/{lease}/heartbeat", {"active_s": 999_999}).status == 200
    assert worker.call("POST", f"/api/leases/{lease}/submit", {"answer": {"a": "1"}, "active_s": 1}).status == 200
    people = worker.call("GET", "/api/operator/overview", **bearer(service)).json()["workers"]
    assert max(person["active_seconds"] for person in people) <= 900


def test_answers_of_any_shape_leave_the_overview_standing(service: Any) -> None:
    service.upload("odd", pages=3)
    service.sagemaker.create_labeling_job(**service.request("odd"))
    worker = service.worker("odd")
    for answer in ({"labels-0": [1]}, {"labels-2": "[" * 5000}, {"labels-4": '[{"a": 1}]', "\ud800": "1" * 5000}):
        lease = worker.first("odd")["lease"]
        body = json.dumps({"answer": answer}).encode()
        assert worker.call("POST", f"/api/leases/{lease}/submit", body).status == 200
    assert worker.call("GET", "/api/operator/overview", **bearer(service)).status == 200


def test_another_token_ends_the_operators_sessions(start_labeling: Any, tmp_path: Any) -> None:
    """The signing secret stays, the leaked token is replaced: its cookies are worth nothing."""
    first = start_labeling(data_dir=tmp_path, token="the first token")
    operator = first.worker_class(first.url)
    assert operator.call("POST", "/api/operator/session", {"token": "the first token"}).status == 200
    first.stop()
    second = start_labeling(data_dir=tmp_path, token="the second token")
    assert second.worker_class(second.url, operator.cookie).call("GET", "/api/operator/overview").status == 401
