# SPDX-License-Identifier: GPL-3.0-or-later
"""Headless Chromium. Missing, it skips; in CI (CI=true) that is a failure."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.people import WAIT, Labeling, Person

ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A running browser. It ends with its module: while it runs, this thread counts as inside an event loop."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Chromium is not installed; the browser tests need it in CI")
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def labeling(tmp_path: Path) -> Iterator[Callable[..., Labeling]]:
    """Starts a service with a job: `labeling(pages=2, tiles=20, multi=False)`; `settings` are the service's."""
    started: list[Labeling] = []

    def start(settings: dict[str, Any] | None = None, **job: Any) -> Labeling:
        started.append(Labeling(tmp_path, settings=settings or {}))
        started[-1].start()
        started[-1].create(**job)
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.fixture
def person(chromium: Any, labeling: Callable[..., Labeling]) -> Iterator[Callable[..., Person]]:
    """Opens a window on a fresh job: `person(pages=2)`; `window` is what the browser's context is made with."""
    contexts: list[Any] = []

    def visit(
        window: dict[str, Any] | None = None, at: Labeling | None = None, state: str = "working", **job: Any
    ) -> Person:
        contexts.append(chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **(window or {})}))
        contexts[-1].set_default_timeout(WAIT)
        visitor = Person(contexts[-1].new_page(), at or labeling(**job))
        visitor.open(f"/work?invite={visitor.labeling.invite()}", state)
        return visitor

    yield visit
    for context in contexts:
        context.close()
