# SPDX-License-Identifier: GPL-3.0-or-later
"""What campaigns wait for that somebody has to mend: kept in memory, because a full disk may not take a message."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from gandt.domain.disk import PATIENCE_SECONDS
from gandt.domain.errors import GandtError

EVERY_CAMPAIGN = ""  # the loop itself cannot work


@dataclass(frozen=True, slots=True)
class _Trouble:
    error: GandtError
    since: float  # monotonic seconds of the first failure, and of the last
    last: float


class Troubles:
    """Disk troubles by campaign; written by the loop, read by those who watch. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[str, _Trouble] = {}

    def note(self, campaign_id: str, error: GandtError, now: float) -> bool:
        """Another try has failed at `now`, in monotonic seconds; returns whether that is news."""
        with self._lock:
            before = self._found.get(campaign_id)
            found = _Trouble(error, now, now) if before is None else replace(before, error=error, last=now)
            self._found[campaign_id] = found
            return before is None or str(before.error) != str(error)

    def clear(self, campaign_id: str) -> bool:
        """The trouble is over; returns whether there was one."""
        with self._lock:
            return self._found.pop(campaign_id, None) is not None

    def of(self, campaign_id: str) -> GandtError | None:
        """What a campaign waits for, or the whole loop."""
        found = self._get(campaign_id)
        return None if found is None else found.error

    def lasting(self, campaign_id: str, watched_since: float) -> GandtError | None:
        """The same, when tries have failed for PATIENCE_SECONDS while somebody watched."""
        found = self._get(campaign_id)
        if found is None or found.last < max(found.since, watched_since) + PATIENCE_SECONDS:
            return None
        return found.error

    def _get(self, campaign_id: str) -> _Trouble | None:
        with self._lock:
            return self._found.get(EVERY_CAMPAIGN) or self._found.get(campaign_id)
