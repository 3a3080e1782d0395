# SPDX-License-Identifier: GPL-3.0-or-later
"""The thread that hears of jobs that have ended, so that the loop looks at once and not at its next turn."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from gandt.domain.errors import GandtError
from gandt.ports.job_events import JobEvents

LONGEST_WAIT_SECONDS = 60.0
_log = logging.getLogger(__name__)


class Listener:
    """Listens until it is closed; trouble with the news delays nothing but the news.

    Args:
        events: where news comes from.
        on_news: told that there is some.
    """

    def __init__(self, events: JobEvents, on_news: Callable[[], None]) -> None:
        self._events = events
        self._on_news = on_news
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gandt-job-events", daemon=True)

    def start(self) -> None:
        """Begin in a thread of its own."""
        self._thread.start()

    def close(self) -> None:
        """End, as soon as the wait under way allows."""
        self._ending.set()
        self._events.close()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        wait = 0.0
        while not self._ending.wait(wait):
            try:
                news = self._events.wait()
            except GandtError as error:
                wait = min(LONGEST_WAIT_SECONDS, max(1.0, wait * 2))
                _log.warning("no news of labeling jobs: %s", error, extra={"reason": error.reason})
                continue
            wait = 0.0
            if news:
                self._on_news()
