# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user sees of a full disk, and of workers who are gone while a campaign stands still."""

from __future__ import annotations

import errno
import io
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from gandt_labeling.web import error_response
from gandt_standalone import serve_file

from gandt.cli import exit_codes, steps
from gandt.cli.main import main
from gandt.client.jobcontroller import JobControllerClient
from gandt.domain import disk
from gandt.domain.errors import BackendUnavailable, GandtError, WrongState

FULL_DISK = disk.disk_trouble("/p/.gandt/controller.db", disk.FULL, "the disk is full")


class StandsStill:
    """A controller whose campaign does not change; `watch` may end with an error."""

    def __init__(self, error: GandtError | None = None) -> None:
        self.error = error
        self.over = threading.Event()

    def get_campaign(self, campaign_id: str) -> Any:
        return None

    def watch_campaign(self, campaign_id: str) -> Iterator[Any]:
        if self.error is not None:
            raise self.error
        self.over.wait(60)
        yield from ()


class FullFile(io.StringIO):
    """A file on a full disk."""

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def follow(controller: StandsStill, check: Any) -> None:
    steps.follow(cast(JobControllerClient, controller), "c", lambda *_: None, check, poll_seconds=0.001)


def test_dead_workers_end_the_command_though_the_campaign_stands_still() -> None:
    controller, asked = StandsStill(), [0]

    def check() -> None:
        asked[0] += 1
        if asked[0] == 3:
            raise BackendUnavailable("the portal does not answer")

    with pytest.raises(BackendUnavailable, match="the portal does not answer"):
        follow(controller, check)
    controller.over.set()


def test_the_watchs_own_error_ends_the_command() -> None:
    with pytest.raises(WrongState) as caught:
        follow(StandsStill(FULL_DISK), lambda: None)
    assert exit_codes.exit_code(caught.value) == exit_codes.FAILED


def test_a_full_disk_is_one_error_and_no_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", FullFile())
    assert main(["version", "--json"]) == exit_codes.FAILED
    sys.stdout.close()  # what main has put in its place
    err = capsys.readouterr().err
    assert "error DISK_FULL: a file of gandt version cannot be written: the disk is full" in err
    assert "fix: free some space, then run it again" in err
    assert "INTERNAL" not in err


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.ENOSPC, "DISK_FULL"), (errno.EDQUOT, "DISK_FULL"), (errno.EROFS, "DISK_READ_ONLY"), (errno.ENOENT, "")],
)
def test_errors_of_the_operating_system(number: int, reason: str) -> None:
    found = disk.of_os_error(OSError(number, "said"), "/p/report.html")
    assert (found.reason if found else "") == reason
    assert disk.unwritable(OSError(number, "said"), "/p/report.html").reason == (reason or "DISK_READ_ONLY")


def test_serve_json_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    info = serve_file.ServeInfo(1, "2026-01-01T00:00:00+00:00", {})
    with pytest.raises(WrongState, match=r"\.gandt/serve\.json cannot be written: No such file") as caught:
        serve_file.write(tmp_path, info)  # without its .gandt
    assert caught.value.reason == "DISK_READ_ONLY"


def test_a_workers_page_is_told_to_keep_the_answer() -> None:
    response = error_response(FULL_DISK)
    assert response.status_code == 507  # 5xx: the page keeps the answer and sends it again; 409 would drop it
    assert response.headers["Retry-After"] == "2"
    assert json.loads(bytes(response.body))["error"]["reason"] == "DISK_FULL"
