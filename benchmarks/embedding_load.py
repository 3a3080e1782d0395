# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedding service under open-loop load: latency at 80 % of its capacity, and what it does at twice of it.

    python benchmarks/embedding_load.py [--rounds 5] [--seconds 6]

Unary calls of one 640x480 JPEG each, mobilenet_v2 in float32 on one thread, batches of at most 8, no cache. Capacity is
what 24 callers in a closed loop get. It is measured before and after both loads of a round, and a round's latencies
are divided by its own time of a full batch, for a shared machine changes its pace. A round counts as steady when both
capacities agree within STEADY: in others 80 % was another share. Figures of steady rounds come beside those of all.
Arrivals are Poisson, seeded; latency counts from the moment a call was due, whether or not the client was late; a
refusal's from its sending.
"""

from __future__ import annotations

import argparse
import asyncio
import os

os.environ["OMP_NUM_THREADS"] = "1"  # the server inherits it

import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from _embedding import Server, mobilenet, photos, serving

from gandt.domain.embedding import ImageInput
from gandt.wire import embedding as wire

CALLERS = 24
BATCH = 8
STEADY = 0.1
DEADLINE_BATCHES = 6  # the deadline of each call at overload, in times of a full batch
Answer = tuple[str, float, float]
"""gRPC code, and seconds since the call was due and since it was sent."""


def main() -> None:
    """Prints the figures with their bars."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each load in a round")
    args = parser.parse_args()
    images = [wire.embed_request_message([ImageInput(str(n), data)], "", None) for n, data in enumerate(photos(256))]
    with tempfile.TemporaryDirectory() as name, serving(Path(name), **mobilenet(Path(name)), cache_bytes=0) as server:
        asyncio.run(measure(server, images, args.rounds, args.seconds))


async def measure(server: Server, images: list[Any], rounds: int, seconds: float) -> None:
    """Rounds of capacity, 80 % and 200 % of it."""
    measured: list[Round] = []
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = wire.Stub(channel)
        await closed(stub, images, 2)
        now = await capacity(server, stub, images, seconds / 2)
        for n in range(rounds):
            rate, batch = before = now
            calm = await opened(stub, images, 0.8 * rate, seconds, None, seed=n)
            busy = await opened(stub, images, 2 * rate, seconds, DEADLINE_BATCHES * batch, seed=100 + n)
            now = await capacity(server, stub, images, seconds / 2)
            assert all(code == "OK" for code, _, _ in calm)
            measured.append(Round(before, now, calm, busy, seconds))
            print(
                f"{before[0]:.0f} -> {now[0]:.0f} images a second, a full batch takes {1e3 * batch:.0f} ms", flush=True
            )
    for name, chosen in (("all", measured), ("steady", [one for one in measured if one.is_steady])):
        print(f"{name}, {len(chosen)} rounds:")
        if chosen:
            report(chosen)


@dataclass(frozen=True)
class Round:
    """Both loads between two measurements of the capacity: images a second, and seconds of a full batch."""

    before: tuple[float, float]
    after: tuple[float, float]
    calm: list[Answer]
    busy: list[Answer]
    seconds: float

    @property
    def is_steady(self) -> bool:
        """Whether the machine kept its pace."""
        return abs(self.after[0] / self.before[0] - 1) <= STEADY


def report(rounds: list[Round]) -> None:
    """Prints the figures of some rounds."""
    calm, refusals = list[float](), list[float]()  # times of a full batch; seconds
    codes: Counter[str] = Counter()
    possible = 0.0
    for one in rounds:
        rate, batch = ((first + last) / 2 for first, last in zip(one.before, one.after, strict=True))
        calm += [late / batch for _, late, _ in one.calm]
        codes.update(code for code, _, _ in one.busy)
        refusals += [took for code, _, took in one.busy if code == "RESOURCE_EXHAUSTED"]
        possible += rate * one.seconds
    p50, p99 = np.percentile(calm, (50, 99))
    print(f"  80 %: {len(calm)} calls, latency p50 {p50:.2f}, p99 {p99:.2f} full batches (at most 3)")
    ok, expired = codes["OK"], codes["DEADLINE_EXCEEDED"]
    print(f"  200 %: {codes.total()} calls with a deadline of {DEADLINE_BATCHES} full batches: {dict(codes)}")
    print(f"    goodput / peak {ok / possible:.3f} (at least 0.95)")
    print(f"    refusals p50 {1e3 * np.median(refusals):.1f} ms, p99 {1e3 * np.percentile(refusals, 99):.1f} ms (50)")
    print(f"    of the admitted, expired {100 * expired / (ok + expired):.2f} % (1)")


async def capacity(server: Server, stub: Any, images: list[Any], seconds: float) -> tuple[float, float]:
    """Images a second in a closed loop, and the seconds of a full batch meanwhile."""
    names = ('gandt_embedding_stage_seconds_sum{stage="device"}', "gandt_embedding_batch_size_sum")
    first = [server.metric(name) for name in names]
    rate = await closed(stub, images, seconds)
    device, done = (server.metric(name) - value for name, value in zip(names, first, strict=True))
    return rate, BATCH * device / done


async def closed(stub: Any, images: list[Any], seconds: float) -> float:
    """Answers a second to callers who call again as soon as they have one."""
    began = time.perf_counter()
    done = 0

    async def caller(first: int) -> None:
        nonlocal done
        for n in range(first, 10**9, CALLERS):
            if time.perf_counter() - began > seconds:
                return
            await stub.Embed(images[n % len(images)])
            done += 1

    await asyncio.gather(*map(caller, range(CALLERS)))
    return done / (time.perf_counter() - began)


async def opened(
    stub: Any, images: list[Any], rate: float, seconds: float, deadline: float | None, seed: int
) -> list[Answer]:
    """One answer for each call of a Poisson process."""
    rng = np.random.default_rng(seed)
    due = np.cumsum(rng.exponential(1 / rate, int(2 * rate * seconds) + 50))
    began = time.perf_counter()

    async def call(n: int, at: float) -> Answer:
        sent = time.perf_counter()
        try:
            await stub.Embed(images[n % len(images)], timeout=deadline)
            code = "OK"
        except grpc.aio.AioRpcError as error:
            code = error.code().name
        ended = time.perf_counter()
        return code, ended - began - at, ended - sent

    calls = []
    for n, at in enumerate(due[due < seconds]):
        await asyncio.sleep(max(0.0, began + at - time.perf_counter()))
        calls.append(asyncio.ensure_future(call(n, float(at))))
    return list(await asyncio.gather(*calls))


if __name__ == "__main__":
    main()
