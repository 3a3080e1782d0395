# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker portal of the labeling service over HTTP, and simulated workers that use it as a browser would.

Standard library only. A simulated worker never touches the database: it opens its invite, takes leases, loads each
page, and submits the form; so a run with simulated workers proves the path that people take.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from gandt.domain import disk
from gandt.domain.errors import (
    BackendUnavailable,
    GandtError,
    InvalidInput,
    NotFound,
    Overloaded,
    PermissionDenied,
    Unauthenticated,
    WrongState,
)
from gandt.domain.labeling.simulated_worker import SimWorker

_BY_STATUS: dict[int, type[GandtError]] = {
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    409: WrongState,
    410: WrongState,
    429: Overloaded,
    507: WrongState,
}


@dataclass(frozen=True, slots=True)
class PortalLease:
    """One page that the worker holds.

    Attributes:
        frame_url: where the page's HTML is.
        draft: an earlier unfinished answer, or {}.
        tiles: the page's `taskObject`; empty when the page is none of ours.
    """

    lease_id: str
    job: str
    frame_url: str
    draft: Mapping[str, Any]
    tiles: Sequence[Mapping[str, Any]]


class PortalClient:
    """One worker's session; not for use by several threads at once.

    Args:
        portal_url: `http://host:port` of the labeling service.
        timeout_seconds: of one request.
    """

    def __init__(self, portal_url: str, timeout_seconds: float = 30.0) -> None:
        parts = urlsplit(portal_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput(
                f"{portal_url!r} is not the address of a portal", field="portal_url", fix="http://host:port"
            )
        self._address = f"{parts.scheme}://{parts.netloc}"
        self._secure, self._netloc, self._timeout = parts.scheme == "https", parts.netloc, timeout_seconds
        self._connection: http.client.HTTPConnection | None = None
        self._cookies: dict[str, str] = {}

    def enter(self, invite: str) -> dict[str, Any]:
        """Open the invite: a session as one worker. The link's text or only its code will do.

        Raises:
            Unauthenticated: the invite is not good.
        """
        code = parse_qs(urlsplit(invite).query).get("invite", [invite])[0]
        return dict(self._json("POST", "/api/session", {"invite": code}))

    def jobs(self) -> list[dict[str, Any]]:
        """Jobs open for this worker."""
        answer = self._json("GET", "/api/jobs")
        return list(answer.get("jobs", [])) if isinstance(answer, dict) else list(answer)

    def lease(self, job: str = "") -> PortalLease | None:
        """The next page, or None when there is none for this worker now."""
        answer = self._json("POST", "/api/leases", {"job": job} if job else {})
        if not answer:
            return None
        task = answer.get("task")
        tiles = task.get("taskObject") if isinstance(task, dict) else None
        return PortalLease(
            str(answer["lease"]),
            str(answer.get("job", "")),
            str(answer.get("frame_url", "")),
            answer.get("draft") or {},
            tiles if isinstance(tiles, list) else [],
        )

    def frame(self, lease: PortalLease) -> str:
        """The page's HTML."""
        url = lease.frame_url or f"/frame/{lease.lease_id}"
        path = url.removeprefix(self._address) if url.startswith(self._address) else url
        if not path.startswith("/"):
            parts = urlsplit(url)  # the portal's public address may differ from the one we call
            path = parts.path + (f"?{parts.query}" if parts.query else "")
        return self._request("GET", path, None)[1].decode("utf-8", "replace")

    def save_draft(self, lease_id: str, answer: Mapping[str, Any]) -> None:
        """Keep an unfinished answer."""
        self._json("PUT", f"/api/leases/{lease_id}/draft", {"answer": answer})

    def submit(self, lease_id: str, answer: Mapping[str, Any], active_seconds: float = 0.0) -> dict[str, Any]:
        """Hand in the answer; repeating it gives the same receipt.

        Raises:
            WrongState: the lease is over, or answered with something else.
        """
        body = {"answer": answer, "active_s": round(active_seconds, 3)}
        return dict(self._json("POST", f"/api/leases/{lease_id}/submit", body))

    def decline(self, lease_id: str, reason: str = "") -> None:
        """Give the page back for good."""
        self._json("POST", f"/api/leases/{lease_id}/decline", {"reason": reason})

    def give_back(self, lease_id: str) -> None:
        """Give the page back for now."""
        self._json("POST", f"/api/leases/{lease_id}/return", {})

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        status, data = self._request(method, path, None if body is None else json.dumps(body).encode())
        if status == 204 or not data:
            return {}
        try:
            return json.loads(data)
        except ValueError as e:
            raise BackendUnavailable(
                f"the portal answered {path} with something that is no JSON", backend="portal"
            ) from e

    def _request(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        headers = {"Accept": "application/json"}  # no Origin: no browser sends this
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        status, data = self._send(method, path, body, headers)
        if status >= 400:
            raise _error(status, data, path)
        return status, data

    def _send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """One request; a kept connection that the portal has closed meanwhile is opened anew, once.

        Repeating is safe: all calls are idempotent (a lease that is held comes again, a receipt too).
        """
        for fresh in (self._connection is None, True):
            if self._connection is None:
                kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
                self._connection = kind(self._netloc, timeout=self._timeout)
            try:
                self._connection.request(method, path, body, dict(headers))
                response = self._connection.getresponse()
                data = response.read()
            except (OSError, http.client.HTTPException) as e:
                self.close()
                if fresh:
                    raise BackendUnavailable(
                        f"the portal at {self._address} does not answer: {e}", backend="portal", fix="gandt serve"
                    ) from e
                continue
            self._remember(response)
            return response.status, data
        raise AssertionError("unreachable: the second try returns or raises")

    def _remember(self, response: http.client.HTTPResponse) -> None:
        for line in response.headers.get_all("Set-Cookie") or []:
            try:
                cookies = SimpleCookie(line)
            except CookieError:
                continue
            self._cookies.update({name: morsel.value for name, morsel in cookies.items()})


def _error(status: int, data: bytes, path: str) -> GandtError:
    try:
        said = json.loads(data)["error"]
        message, reason, fix = str(said["message"]), str(said["reason"]), str(said.get("fix", ""))
    except (ValueError, LookupError, TypeError, AttributeError):
        message, reason, fix = f"the portal answered {path} with status {status}", "", ""
    kind = _BY_STATUS.get(status, InvalidInput if status < 500 else BackendUnavailable)
    return kind(message, reason=reason, fix=fix)


@dataclass(slots=True)
class SimulatedWork:
    """What simulated workers did.

    Attributes:
        pages: pages submitted, by worker's name.
        refused: submits that the portal refused (a lease that ran out), by worker's name.
        seconds: time that the submitted pages would have taken a person, by worker's name.
    """

    pages: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def simulate_workers(
    portal_url: str,
    invites: Sequence[str],
    workers: Sequence[SimWorker],
    truth: Mapping[str, Sequence[str]],
    until: Callable[[], bool] | None = None,
    wait: Callable[[float], None] | None = None,
    threads: int = 1,
    on_page: Callable[[str, int], None] | None = None,
) -> SimulatedWork:
    """Let simulated workers label pages through the portal until none is left.

    Each takes a page at its turn, so that they overlap evenly. Every page's HTML is loaded before its form is sent.

    Args:
        invites: one per worker: personal links, or the team's link repeated.
        truth: true labels by image id or URI; an image that is missing makes an honest worker unsure.
        until: True ends the work; asked before each turn of all workers. None ends it when nobody finds a page.
        wait: seconds to let pass before asking again; None is `time.sleep`. A manual
            clock's `sleep` makes it instant.
        threads: how many work at once, each with its share of the workers.
        on_page: told of every submitted page: the worker's name, and its number of pages so far.
    Raises:
        InvalidInput: fewer invites than workers.
        BackendUnavailable: the portal does not answer.
    """
    if len(invites) < len(workers):
        raise InvalidInput(f"{len(workers)} workers need as many invites, not {len(invites)}", field="invites")
    work = SimulatedWork({worker.name: 0 for worker in workers})
    crews = [list(zip(workers, invites, strict=False))[start::threads] for start in range(max(1, threads))]
    failures: list[GandtError] = []

    def run(members: Sequence[tuple[SimWorker, str]]) -> None:
        try:
            _work_shift(portal_url, members, truth, until, wait or time.sleep, work, on_page)
        except GandtError as e:
            failures.append(e)

    others = [threading.Thread(target=run, args=(members,), daemon=True) for members in crews[1:] if members]
    for thread in others:
        thread.start()
    run(crews[0])
    for thread in others:
        thread.join()
    if failures:
        raise failures[0]
    return work


def _work_shift(
    portal_url: str,
    members: Sequence[tuple[SimWorker, str]],
    truth: Mapping[str, Sequence[str]],
    until: Callable[[], bool] | None,
    wait: Callable[[float], None],
    work: SimulatedWork,
    on_page: Callable[[str, int], None] | None,
) -> None:
    clients = [(worker, PortalClient(portal_url)) for worker, _ in members]
    try:
        for (_, client), (_, invite) in zip(clients, members, strict=True):
            client.enter(invite)
        while until is None or not until():
            found = False
            for worker, client in clients:
                if _one_page(worker, client, truth, work):
                    found = True
                    if on_page is not None:
                        on_page(worker.name, work.pages[worker.name])
            if not found:
                if until is None:
                    return
                wait(0.2)
    finally:
        for _, client in clients:
            client.close()


def _one_page(worker: SimWorker, client: PortalClient, truth: Mapping[str, Sequence[str]], work: SimulatedWork) -> bool:
    """Label one page; False when there was none."""
    lease = client.lease()
    if lease is None:
        return False
    client.frame(lease)
    if not lease.tiles:
        client.decline(lease.lease_id, "a simulated worker knows only pages of tiles")
        return True
    form = worker.fill_form(lease.tiles, truth)
    seconds = sum(float(value) for name, value in form.items() if name.startswith("ms-")) / 1000
    try:
        client.submit(lease.lease_id, form, seconds)
    except WrongState as error:
        if disk.is_disk_trouble(error):
            raise
        work.refused[worker.name] = work.refused.get(worker.name, 0) + 1
        return True
    work.pages[worker.name] += 1
    work.seconds[worker.name] = work.seconds.get(worker.name, 0.0) + seconds
    return True
