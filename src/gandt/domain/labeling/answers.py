# SPDX-License-Identifier: GPL-3.0-or-later
"""One answer per worker and image in a job."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from gandt.domain.datasets import Answer

_NEVER = datetime.min.replace(tzinfo=UTC)


def latest_answers(answers: Iterable[Answer]) -> tuple[list[Answer], list[Answer]]:
    """The latest answer of each worker on each image within a job, and the earlier ones.

    A worker who answers twice must not count as two. Answers without a time are older than those with one; of
    equals the last in order wins. Both lists keep the order of the input.
    """
    kept: dict[tuple[str, str, str], tuple[int, Answer]] = {}
    dropped: list[tuple[int, Answer]] = []
    for position, answer in enumerate(answers):
        key = (answer.job, answer.image_id, answer.worker_id)
        before = kept.get(key)
        if before is None:
            kept[key] = (position, answer)
        elif (answer.answered_at or _NEVER) >= (before[1].answered_at or _NEVER):
            dropped.append(before)
            kept[key] = (position, answer)
        else:
            dropped.append((position, answer))
    by_position = sorted(kept.values(), key=lambda item: item[0])
    return [answer for _, answer in by_position], [answer for _, answer in sorted(dropped, key=lambda item: item[0])]
