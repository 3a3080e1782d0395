# SPDX-License-Identifier: GPL-3.0-or-later
"""The portal's client over real HTTP against a small server that keeps the portal's rules."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

import pytest

from gandt.client.labeling_portal import PortalClient, simulate_workers
from gandt.domain.errors import BackendUnavailable, InvalidInput, NotFound, Unauthenticated, WrongState
from gandt.domain.labeling.simulated_worker import SimWorker

CLASSES = ["cat", "dog"]


@dataclass
class Portal:
    """Pages with so many slots each; a worker gets a page once."""

    pages: list[list[dict[str, Any]]]
    slots: int
    address: str = ""
    is_full: bool = False
    answers: dict[tuple[int, str], Any] = field(default_factory=dict)
    leases: dict[str, tuple[int, str]] = field(default_factory=dict)
    frames: Counter[str] = field(default_factory=Counter)
    lock: Lock = field(default_factory=Lock)

    def call(self, method: str, path: str, worker: str, body: Any) -> tuple[int, Any]:
        with self.lock:
            if path == "/api/session":
                known = str(body["invite"]).startswith("good")
                return (200, {"worker": body["invite"]}) if known else (401, error("BAD_INVITE"))
            if not worker:
                return 401, error("NO_SESSION")
            if path == "/api/jobs":
                return 200, {"jobs": [{"job": "j"}]}
            if path == "/api/leases":
                return self.lease(worker)
            lease = path.split("/")[2 if path.startswith("/frame/") else 3]
            if lease not in self.leases:
                return 404, error("LEASE_UNKNOWN")
            if path.startswith("/frame/"):
                self.frames[lease] += 1
                return 200, "<html>page</html>"
            if path.endswith("/submit") and self.is_full:
                return 507, error("DISK_FULL")
            if path.endswith("/submit"):
                if self.answers.get(self.leases[lease], body["answer"]) != body["answer"]:
                    return 409, error("ALREADY_ANSWERED")
                self.answers[self.leases[lease]] = body["answer"]
                return 200, {"answer_id": f"a-{lease}"}
            return 204, None

    def lease(self, worker: str) -> tuple[int, Any]:
        for number, page in enumerate(self.pages):
            key = (number, worker)
            holders = {holder for holder in self.leases.values() if holder[0] == number}
            if key not in self.answers and len(holders - {key}) < self.slots:
                lease = f"l-{number}-{worker}"
                self.leases[lease] = key
                url = f"{self.address}/frame/{lease}"
                return 200, {"lease": lease, "job": "j", "frame_url": url, "draft": None, "task": {"taskObject": page}}
        return 204, None


def error(reason: str) -> Any:
    return {"error": {"reason": reason, "message": f"no: {reason}", "fix": ""}}


@pytest.fixture
def portal() -> Iterator[Portal]:
    pages = [
        [{"id": f"i{p}-{i}", "event_names": CLASSES, "other_category_label": "Other", "index": i, "source-ref": "s3://b/x"}
         for i in range(3)]
        for p in range(4)
    ]  # fmt: skip
    state = Portal(pages, 2)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            worker = (self.headers.get("Cookie") or "").rpartition("session=")[2]
            status, answer = state.call(self.command, self.path, worker, json.loads(body) if body else None)
            data = b"" if answer is None else (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(status)
            if self.path == "/api/session" and status == 200:
                self.send_header("Set-Cookie", f"session={answer['worker']}; HttpOnly; Path=/; SameSite=Lax")
            if status != 204:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = serve

        def log_message(self, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("threads", [1, 3])
def test_simulated_workers_label_every_page_as_often_as_asked(portal: Portal, threads: int) -> None:
    truth = {tile["id"]: ("cat",) for page in portal.pages for tile in page}
    workers = [SimWorker(f"w{i}", 1, accuracy=1) for i in range(4)]
    links = [f"{portal.address}/work?invite=good{i}" for i in range(4)]
    told: list[tuple[str, int]] = []
    work = simulate_workers(portal.address, links, workers, truth, threads=threads, on_page=lambda *a: told.append(a))
    assert Counter(page for page, _ in portal.answers) == {0: 2, 1: 2, 2: 2, 3: 2}
    assert sum(work.pages.values()) == len(told) == 8
    assert set(portal.frames) == {f"l-{page}-{worker}" for page, worker in portal.answers}
    assert all(form["labels-1"] == '["cat"]' for form in portal.answers.values())


def test_workers_wait_for_pages_until_told_to_leave(portal: Portal) -> None:
    asked: list[float] = []

    def until() -> bool:
        if len(asked) == 1 and len(portal.pages) == 4:
            portal.pages.append([{**portal.pages[0][0], "id": "late"}])
        return len(asked) >= 2

    work = simulate_workers(portal.address, ["good"], [SimWorker("w")], {}, until, asked.append)
    assert work.pages == {"w": 5}
    assert len(asked) == 2


def test_calls_and_their_errors(portal: Portal) -> None:
    client = PortalClient(portal.address)
    with pytest.raises(Unauthenticated):
        client.jobs()
    with pytest.raises(Unauthenticated):
        client.enter("bad")
    client.enter("good")
    assert client.jobs() == [{"job": "j"}]
    lease = client.lease()
    assert lease is not None
    assert "page" in client.frame(lease)
    client.save_draft(lease.lease_id, {"labels-0": "[]"})
    receipt = client.submit(lease.lease_id, {"labels-0": "[]"}, 1.5)
    assert client.submit(lease.lease_id, {"labels-0": "[]"}, 1.5) == receipt
    with pytest.raises(WrongState) as caught:
        client.submit(lease.lease_id, {"labels-0": '["cat"]'})
    assert caught.value.reason == "ALREADY_ANSWERED"
    with pytest.raises(NotFound):
        client.decline("none")
    client.give_back(lease.lease_id)
    client.close()
    with pytest.raises(InvalidInput):
        PortalClient("localhost:8080")
    with pytest.raises(InvalidInput):
        simulate_workers(portal.address, [], [SimWorker("w")], {})
    with pytest.raises(BackendUnavailable):
        simulate_workers("http://127.0.0.1:1", ["good"], [SimWorker("w")], {})


def test_a_full_disk_at_the_portal_ends_the_work_and_refuses_no_page(portal: Portal) -> None:
    portal.is_full = True
    with pytest.raises(WrongState) as caught:
        simulate_workers(portal.address, ["good"], [SimWorker("w")], {})
    assert caught.value.reason == "DISK_FULL"
    portal.is_full = False
    work = simulate_workers(portal.address, ["good"], [SimWorker("w")], {})
    assert (work.pages, work.refused) == ({"w": 4}, {})
