# SPDX-License-Identifier: GPL-3.0-or-later
"""Probes on the service's own port, and in plaintext on `health_port`."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from gandt_labeling.bootstrap import bootstrap
from gandt_labeling.settings import Settings

from gandt.runtime.server import ServerThread


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_probes_have_a_port_of_their_own(tmp_path: Path) -> None:
    settings = Settings(port=0, health_port=0, metrics_port=None, data_dir=tmp_path, drain_seconds=1)
    thread = ServerThread([bootstrap(settings)], settings)
    addresses = thread.start()["labeling"]
    assert addresses.health not in ("", addresses.service)
    for origin in (addresses.health, addresses.service):
        assert get(origin + "/healthz") == get(origin + "/readyz") == (200, "serving")
    assert get(addresses.health + "/work")[0] == 404, "nothing else is there"
    thread.stop()
    with pytest.raises(OSError):
        get(addresses.health + "/healthz")


def test_without_a_health_port_there_is_none(service: Any) -> None:
    assert get(service.url + "/readyz") == (200, "serving")
