# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated workers for `--truth`: a small crowd of differing reliability that labels over the real HTTP path."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from gandt.cli.context import Context
from gandt.domain.errors import GandtError, InvalidInput
from gandt.domain.labeling.simulated_worker import SimWorker, WorkerKind

if TYPE_CHECKING:
    from gandt.client.jobcontroller import JobControllerClient

POLL_SECONDS = 0.1
# accuracy of each honest worker, from careful to careless, and one who presses any button
ACCURACIES = (0.98, 0.96, 0.95, 0.93, 0.90, 0.85, 0.75)


def crowd(seed: int) -> list[SimWorker]:
    """The demo's crowd."""
    honest = [SimWorker(f"sim-{n}", seed, accuracy=accuracy) for n, accuracy in enumerate(ACCURACIES, 1)]
    return [*honest, SimWorker(f"sim-{len(honest) + 1}", seed, WorkerKind.RANDOM)]


class SimulatedCrowd:
    """Workers in a thread of their own, until told that the campaign has ended.

    Args:
        truth: true labels by image id.
        ended: set when no more pages will come.
        workers: who labels; () is the demo's crowd.

    Attributes:
        seconds: after `join`, the time that a person would have taken, by worker's name.
    """

    def __init__(
        self,
        ctx: Context,
        truth: Mapping[str, tuple[str, ...]],
        ended: threading.Event,
        workers: Sequence[SimWorker] = (),
    ) -> None:
        self._ended = ended
        self._failure: GandtError | None = None
        self.seconds: Mapping[str, float] = {}
        team, url = list(workers) or crowd(ctx.seed), ctx.labeling_url()
        invites = [ctx.invite(worker.name)[0] for worker in team]

        def work() -> None:
            from gandt.client.labeling_portal import simulate_workers

            try:
                self.seconds = simulate_workers(url, invites, team, truth, ended.is_set, self._wait).seconds
            except GandtError as e:
                self._failure = e

        self._thread = threading.Thread(target=work, name="simulated workers", daemon=True)
        self._thread.start()

    def _wait(self, seconds: float) -> None:
        self._ended.wait(min(seconds, POLL_SECONDS))

    def check(self) -> None:
        """Raise what ended the work, so that nobody waits for workers who are gone."""
        if self._failure is not None:
            raise self._failure

    def join(self) -> None:
        """Waits for the workers to leave."""
        self._thread.join()


def simulate_until(ctx: Context, client: JobControllerClient, truth_file: str, is_over: Callable[[], bool]) -> None:
    """Lets simulated workers label until a condition holds.

    Raises:
        InvalidInput: no image of the catalog is in the truth.
    """
    from gandt.cli.truth import truth_by_id

    truth = truth_by_id(client, truth_file)
    if not truth:
        raise InvalidInput(
            f"{truth_file} names no image of the catalog", field="truth", reason="NO_TRUTH", fix="name images by path"
        )
    ended = threading.Event()
    workers = SimulatedCrowd(ctx, truth, ended)
    try:
        while not is_over():
            workers.check()
            time.sleep(POLL_SECONDS)
    finally:
        ended.set()
        workers.join()
