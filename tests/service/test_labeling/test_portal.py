# SPDX-License-Identifier: GPL-3.0-or-later
"""Workers over HTTP: invites, leases, drafts, answers, frames and media, up to the output manifest."""

from __future__ import annotations

import io
import json
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image

from gandt.domain.errors import WrongState


def png(gray: int) -> bytes:
    """A PNG of one gray pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes([0, gray]))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def content(lease: Any, label: str = "cat") -> dict[str, str]:
    return {f"labels-{tile['index']}": json.dumps([label]) for tile in lease["task"]["taskObject"]}


def test_the_whole_way_of_a_job(service: Any) -> None:
    """boto3 creates, two workers answer every page over HTTP, the manifest has Ground Truth's shape."""
    service.upload("whole", pages=3)
    service.sagemaker.create_labeling_job(**service.request("whole", slots=2))
    service.wait_for("whole", "InProgress")
    one, two = service.worker(), service.worker()
    receipts = set()
    for worker in (one, two):
        for page in range(3):
            lease = worker.first("whole")
            assert lease["job"] == "whole"
            assert lease["frame_url"] == f"/frame/{lease['lease']}"
            assert lease["progress"] == {"done": page, "remaining": 2 - page}
            path = f"/api/leases/{lease['lease']}/submit"
            reply = worker.call("POST", path, {"answer": content(lease), "active_s": 3.5})
            assert reply.status == 200, reply.body
            assert worker.call("POST", path, {"answer": content(lease), "active_s": 9}).json() == reply.json()
            other = worker.call("POST", path, {"answer": content(lease, "dog"), "active_s": 1})
            assert (other.status, other.json()["error"]["reason"]) == (409, "ALREADY_ANSWERED")
            receipts.add(reply.json()["answer_id"])
        done = worker.call("POST", "/api/leases", {"job": "whole"})
        assert (done.status, int(done.headers["retry-after"]) > 0) == (204, True)
    assert len(receipts) == 6
    found = service.wait_for("whole", "Completed")
    assert found["LabelCounters"]["HumanLabeled"] == 3
    manifest = service.s3.get_object(Bucket="gandt", Key="out/whole/manifests/output/output.manifest")["Body"].read()
    lines = [json.loads(line) for line in manifest.splitlines()]
    assert [line["gandt-task"] for line in lines] == ["whole-t-0", "whole-t-1", "whole-t-2"]
    for line in lines:
        responses = line["labels"]["responses"]
        assert len({response["workerId"] for response in responses}) == 2
        assert all(re.fullmatch(r"private\.local\.[0-9a-f]{16}", response["workerId"]) for response in responses)
        assert set(line["labels-metadata"]) == {"type", "job-name", "human-annotated", "creation-date"}


def test_personal_invites_are_the_same_worker_and_team_links_are_not(service: Any) -> None:
    team = service.invite()
    ids = []
    for invite in (service.invite("ann"), service.invite("ann"), service.invite("bob"), team, team):
        worker = service.worker()
        reply = worker.call("POST", "/api/session", {"invite": invite})
        ids.append(reply.json()["worker"])
        assert "HttpOnly" in reply.headers["set-cookie"]
        assert "samesite=lax" in reply.headers["set-cookie"].lower()
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4


def test_invites_need_the_operator(service: Any) -> None:
    worker = service.worker()
    assert worker.call("POST", "/api/invites", {}).status == 401
    assert worker.call("POST", "/api/invites", {}, Authorization="Bearer wrong").status == 401
    token = (service.data_dir / "labeling.token").read_text()
    reply = worker.call("POST", "/api/invites", {"valid_seconds": 60}, Authorization=f"Bearer {token}")
    url = urlsplit(reply.json()["url"])
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{service.url}/work"
    assert parse_qs(url.query)["invite"] == [reply.json()["invite"]]
    assert (service.data_dir / "labeling.token").stat().st_mode & 0o077 == 0
    assert (service.data_dir / "labeling.key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("invite", ["", "abc", "e30.AAAA", 3, None])
def test_wrong_invites_are_refused(service: Any, invite: Any) -> None:
    reply = service.worker().call("POST", "/api/session", {"invite": invite})
    assert reply.status in (400, 401)


def test_without_a_session_there_is_nothing(service: Any) -> None:
    stranger = service.worker()
    for cookie in ("", "gandt_session=abc", "gandt_session=e30.AAAA"):
        stranger.cookie = cookie
        assert stranger.call("GET", "/api/jobs").status == 401
        assert stranger.call("POST", "/api/leases", {}).status == 401
        assert stranger.call("GET", "/frame/x").status == 401
    # A media link or an invite is no session, although all are signed with one key.
    stranger.cookie = f"gandt_session={service.invite()}"
    assert stranger.call("GET", "/api/jobs").status == 401


def test_other_sites_cannot_act_for_a_worker(service: Any) -> None:
    worker = service.worker()
    assert worker.call("POST", "/api/leases", {}, Origin="https://evil.example").status == 403
    assert worker.call("POST", "/api/leases", {}, Origin="null").status == 403
    assert worker.call("POST", "/api/leases", {}, **{"Sec-Fetch-Site": "cross-site"}).status == 403
    assert worker.call("POST", "/api/leases", {}, Origin=service.url).status in (200, 204)


def test_drafts_heartbeats_decline_and_return(service: Any) -> None:
    service.upload("drafts", pages=2)
    service.sagemaker.create_labeling_job(**service.request("drafts"))
    service.wait_for("drafts", "InProgress")
    worker = service.worker()
    lease = worker.first("drafts")
    path = f"/api/leases/{lease['lease']}"
    assert lease["draft"] is None
    assert worker.call("PUT", f"{path}/draft", {"answer": {"labels-0": "[]"}}).status == 204
    assert worker.call("PUT", f"{path}/draft", {"answer": {"a": "x" * 300_000}}).status == 400
    assert worker.call("PUT", f"{path}/draft", b"x" * 600_000).status == 413
    assert worker.call("PUT", f"{path}/draft", b"{").status == 400
    left = worker.call("POST", f"{path}/heartbeat", {"active_s": 2}).json()["seconds_left"]
    assert 800 < left <= 900
    again = worker.next("drafts")
    assert (again["lease"], again["draft"]) == (lease["lease"], {"labels-0": "[]"})
    assert worker.call("GET", path).json()["state"] == "leased"
    assert service.worker().call("GET", path).status == 404
    assert worker.call("POST", f"{path}/return", {}).status == 204
    assert worker.call("POST", f"{path}/return").status == 204
    lease = worker.next("drafts")
    assert worker.call("POST", f"/api/leases/{lease['lease']}/decline", {"reason": "no"}).status == 204
    assert worker.next("drafts")["task"] != lease["task"]
    jobs = worker.call("GET", "/api/jobs").json()["jobs"]
    assert next(job["title"] for job in jobs if job["job"] == "drafts") == "What do these photos show?"


def test_text_without_an_encoding_and_nesting_without_end_break_nothing(service: Any) -> None:
    service.upload("odd-text")
    service.sagemaker.create_labeling_job(**service.request("odd-text"))
    service.wait_for("odd-text", "InProgress")
    worker = service.worker()
    lease = worker.first("odd-text")
    path = f"/api/leases/{lease['lease']}"
    deep = b'{"answer": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
    too_deep = b'{"answer": {"a": ' + b"[" * 100 + b"]" * 100 + b"}}"
    for body in (deep, too_deep, b'{"answer": {"a": NaN}}', b'{"answer": {"a": 1e999}}'):
        assert worker.call("PUT", f"{path}/draft", body).status == 400
    assert worker.call("PUT", f"{path}/draft", {"answer": {"a": "\ud800"}}).status == 204
    assert worker.next("odd-text")["draft"] == {"a": "\ud800"}
    assert worker.call("POST", "/api/leases", {"job": "\ud800"}).status == 400
    assert worker.call("POST", "/api/session", {"invite": "\ud800"}).status == 400
    assert worker.call("POST", f"{path}/decline", {"reason": "\ud800"}).status == 400
    assert worker.call("GET", path).json()["state"] == "leased"


def test_frames_are_sandboxed_and_their_media_are_signed(service: Any) -> None:
    service.upload("frames")
    for name, data in (("0", png(10)), ("1", png(200))):
        service.s3.put_object(Bucket="gandt", Key=f"photos/{name}.png", Body=data)
    service.sagemaker.create_labeling_job(**service.request("frames"))
    service.wait_for("frames", "InProgress")
    worker = service.worker()
    lease = worker.first("frames")
    reply = worker.call("GET", lease["frame_url"])
    assert reply.status == 200
    policy = reply.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts allow-forms; default-src 'none'; ")
    assert "allow-same-origin" not in policy
    assert f"img-src {service.url}/media/ data:" in policy
    assert f"frame-ancestors {service.url}" in policy
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-content-type-options"] == "nosniff"
    nonce = re.search(r"'nonce-([^']+)'", policy)
    assert nonce is not None
    assert nonce[1] in reply.body.decode()
    links = re.findall(rf'src="({re.escape(service.url)}/media/[^"]+)"', reply.body.decode())
    assert len(links) == 2
    stranger = type(worker)(service.url)  # no cookie: the frame's origin is opaque
    image = stranger.call("GET", urlsplit(links[0]).path)
    assert (image.status, image.body) == (200, png(10))
    assert image.headers["content-type"] == "image/png"
    assert image.headers["access-control-allow-origin"] == "*"
    assert image.headers["cross-origin-resource-policy"] == "cross-origin"
    part = stranger.call("GET", urlsplit(links[1]).path, Range="bytes=1-3")
    assert (part.status, part.body) == (206, b"PNG")
    assert stranger.call("GET", urlsplit(links[0]).path[:-3]).status == 401
    assert worker.call("POST", f"/api/leases/{lease['lease']}/return").status == 204


@pytest.mark.parametrize("kind", ["BMP", "TIFF"])
def test_what_browsers_do_not_show_is_sent_as_an_upright_jpeg(service: Any, kind: str) -> None:
    job = f"convert-{kind.lower()}"
    service.upload(job)
    exif = Image.Exif()
    exif[0x0112] = 6  # on its side
    picture, out = Image.new("RGB", (60, 40), "blue"), io.BytesIO()
    picture.save(out, kind, **({"exif": exif} if kind == "TIFF" else {}))
    service.s3.put_object(Bucket="gandt", Key="photos/0.png", Body=out.getvalue())  # its name says nothing
    service.sagemaker.create_labeling_job(**service.request(job))
    service.wait_for(job, "InProgress")
    worker = service.worker()
    lease = worker.first(job)
    link = re.search(r"/media/[^\"]+", worker.call("GET", lease["frame_url"]).body.decode())
    assert link is not None
    reply = worker.call("GET", link[0])
    assert (reply.status, reply.headers["content-type"]) == (200, "image/jpeg")
    with Image.open(io.BytesIO(reply.body)) as shown:
        assert (shown.format, shown.size) == ("JPEG", (40, 60) if kind == "TIFF" else (60, 40))
    assert worker.call("GET", link[0], Range="bytes=0-2").body == b"\xff\xd8\xff"
    worker.call("POST", f"/api/leases/{lease['lease']}/return")


@pytest.mark.parametrize("data", [b"<svg onload='x'/>", b"<html>", b"%PDF-1.7", b""])
def test_only_images_are_shown(service: Any, data: bytes) -> None:
    service.upload("media")
    service.s3.put_object(Bucket="gandt", Key="photos/0.png", Body=data)
    if not service.sagemaker.list_labeling_jobs(NameContains="media")["LabelingJobSummaryList"]:
        service.sagemaker.create_labeling_job(**service.request("media"))
    service.wait_for("media", "InProgress")
    worker = service.worker()
    lease = worker.first("media")
    page = worker.call("GET", lease["frame_url"]).body.decode()
    link = re.search(r"/media/[^\"]+", page)
    assert link is not None
    assert worker.call("GET", link[0]).status == 415
    worker.call("POST", f"/api/leases/{lease['lease']}/return")


def test_the_portal_page_comes_from_one_origin(service: Any) -> None:
    worker = service.worker()
    reply = worker.call("GET", "/work")
    assert reply.headers["content-security-policy"].startswith(
        "default-src 'self'; frame-src 'self'; object-src 'none'"
    )
    assert "//" not in re.sub(r"<!doctype[^>]*>", "", reply.body.decode())
    for name in ("portal.js", "portal.css", "icon.svg", "crowd-elements.js"):
        static = worker.call("GET", f"/static/{name}")
        assert static.status == 200
        assert static.headers["cross-origin-resource-policy"] == "cross-origin"
    assert worker.call("GET", "/static/../settings.py").status == 404
    assert worker.call("GET", "/static/%2e%2e/settings.py").status == 404
    assert worker.call("GET", "/healthz").status == 200
    assert worker.call("GET", "/readyz").status == 200


def test_beyond_loopback_a_key_is_needed(start_labeling: Callable[..., Any]) -> None:
    with pytest.raises(Exception, match="would be open to everybody"):
        start_labeling(host="0.0.0.0")
    with pytest.raises(Exception, match="would be open to everybody"):
        start_labeling(public_url="https://label.example.org")


def test_one_data_folder_has_one_service(service: Any, start_labeling: Callable[..., Any]) -> None:
    with pytest.raises(WrongState, match="in use by process"):
        start_labeling(data_dir=service.data_dir)
