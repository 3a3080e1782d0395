# SPDX-License-Identifier: GPL-3.0-or-later
"""200 simulated workers at the labeling service, open loop: latency of page and submit, and every answer exactly once.

Usage: benchmarks/labeling_load.py [--rate 100] [--seconds 60] [--workers 200] [--pages 10000] [--slots 3]

The job has the issue's size, 10,000 pages of 20 images at three workers each; the time is scaled: at the target rate
the whole job takes five minutes, here its first `--seconds`. Arrivals are a Poisson process that does not wait for
the service: a page visit that finds all workers busy is late, and its lateness counts in its latency. A visit is what a
browser does: lease, page, (think) and submit, each over HTTP with the worker's own session on a kept connection.
The service runs in a process of its own with its shipped settings (SQLite, synchronous=FULL), the workers in this one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

TILES = 20
THINK_SECONDS = 2.0


class Session:
    """One worker's kept connection, with just enough HTTP."""

    def __init__(self, port: int) -> None:
        self.port, self.cookie = port, ""
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        assert self.reader is not None
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", f"Content-Length: {len(data)}"]
        lines += [f"Cookie: {self.cookie}"] if self.cookie else []
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        if "set-cookie" in fields:
            self.cookie = head.split("et-cookie: ", 1)[1].split(";")[0]
        content = await self.reader.readexactly(int(fields.get("content-length", "0")))
        return int(head.split(" ", 2)[1]), content


def make_job(url: str, pages: int, slots: int) -> None:
    """The job as a controller makes it: images by id, our template, both Lambdas."""
    import boto3
    import gandt_labeling
    from botocore.config import Config

    config = Config(s3={"addressing_style": "path"}, proxies={}, read_timeout=120)
    keys: dict[str, Any] = {"aws_access_key_id": "a", "aws_secret_access_key": "a", "region_name": "local-1"}
    s3: Any = boto3.client("s3", endpoint_url=url + "/s3", config=config, **keys)
    sagemaker: Any = boto3.client("sagemaker", endpoint_url=url, config=config, **keys)
    lines = []
    for page in range(pages):
        group: list[dict[str, Any]] = [
            {"id": f"image-{i}", "source-ref": f"s3://gandt/photos/{i:07d}.jpg", "index": i - page * TILES}
            for i in range(page * TILES, (page + 1) * TILES)
        ]
        group[0] |= {"event_names": ["cat", "dog", "bird"], "other_category_label": "Other", "multi_label": False}
        lines.append(json.dumps({"source": json.dumps(group), "gandt-task": f"t-{page}"}))
    template = Path(gandt_labeling.__file__).parent / "templates" / "grid.liquid.html"
    s3.put_object(Bucket="gandt", Key="in/m", Body="\n".join(lines).encode())
    s3.put_object(Bucket="gandt", Key="in/t", Body=template.read_bytes())
    arn = "arn:aws:lambda:local-1:000000000000:function:gandt-{}-LabelingFunction"
    sagemaker.create_labeling_job(
        LabelingJobName="load",
        LabelAttributeName="labels",
        InputConfig={"DataSource": {"S3DataSource": {"ManifestS3Uri": "s3://gandt/in/m"}}},
        OutputConfig={"S3OutputPath": "s3://gandt/out"},
        RoleArn="arn:aws:iam::000000000000:role/gandt",
        Tags=[{"Key": "gandt:campaign", "Value": "load"}],
        HumanTaskConfig={
            "WorkteamArn": "arn:aws:sagemaker:local-1:000000000000:workteam/private-crowd/gandt",
            "UiConfig": {"UiTemplateS3Uri": "s3://gandt/in/t"},
            "PreHumanTaskLambdaArn": arn.format("pre"),
            "AnnotationConsolidationConfig": {"AnnotationConsolidationLambdaArn": arn.format("post")},
            "TaskTitle": "load",
            "TaskDescription": "load",
            "NumberOfHumanWorkersPerDataObject": slots,
            "TaskTimeLimitInSeconds": 900,
        },
    )
    while sagemaker.describe_labeling_job(LabelingJobName="load")["LabelingJobStatus"] == "Initializing":
        time.sleep(0.2)


async def run(port: int, token: str, args: argparse.Namespace) -> dict[str, Any]:
    """Work for `args.seconds` and return the figures."""
    opener = Session(port)
    _, made = await opener.call("POST", "/api/invites", {}, Authorization=f"Bearer {token}")
    invite = json.loads(made)["invite"]
    free: asyncio.Queue[Session] = asyncio.Queue()
    for _ in range(args.workers):
        session = Session(port)
        await session.call("POST", "/api/session", {"invite": invite})
        free.put_nowait(session)
    rng = random.Random(7)
    lease_ms: list[float] = []
    page_ms: list[float] = []
    submit_ms: list[float] = []
    late_ms: list[float] = []
    acknowledged: list[str] = []
    failures: list[str] = []

    async def visit(due: float) -> None:
        session = await free.get()
        try:
            late_ms.append(1000 * max(0.0, time.perf_counter() - due))
            begin = time.perf_counter()
            status, data = await session.call("POST", "/api/leases", {})
            if status != 200:
                failures.append(f"lease {status}")
                return
            leased = time.perf_counter()
            lease = json.loads(data)
            status, _ = await session.call("GET", lease["frame_url"])
            if status != 200:
                failures.append(f"page {status}")
            shown = time.perf_counter()
            lease_ms.append(1000 * (leased - begin))
            page_ms.append(1000 * (shown - begin))
            await asyncio.sleep(rng.uniform(0.5, 1.5) * args.think)
            tiles = lease["task"]["taskObject"]
            answer: dict[str, str] = {}
            for tile in tiles:
                answer |= {f"labels-{tile['index']}": '["cat"]', f"state-{tile['index']}": "answered"}
                answer[f"ms-{tile['index']}"] = "400"
            begin = time.perf_counter()
            path = f"/api/leases/{lease['lease']}/submit"
            status, data = await session.call("POST", path, {"answer": answer, "active_s": 8.0})
            submit_ms.append(1000 * (time.perf_counter() - begin))
            if status == 200:
                acknowledged.append(json.loads(data)["answer_id"])
            else:
                failures.append(f"submit {status}")
        finally:
            free.put_nowait(session)

    running: list[asyncio.Task[None]] = []
    began = time.perf_counter()
    due = began
    while due - began < args.seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        running.append(asyncio.create_task(visit(due)))
        due += rng.expovariate(args.rate)
    arrivals = time.perf_counter() - began
    await asyncio.gather(*running)
    return {
        "arrivals_a_second": round(len(running) / arrivals, 1),
        "submits": len(acknowledged),
        "submits_a_second": round(len(acknowledged) / (time.perf_counter() - began), 1),
        "distinct_receipts": len(set(acknowledged)),
        "failures": {kind: failures.count(kind) for kind in set(failures)},
        "lease_ms": _quantiles(lease_ms),
        "page_ms": _quantiles(page_ms),
        "submit_ms": _quantiles(submit_ms),
        "waited_for_a_worker_ms": _quantiles(late_ms),
    }


def _quantiles(values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=100)
    return {
        "p50": round(cuts[49], 1),
        "p95": round(cuts[94], 1),
        "p99": round(cuts[98], 1),
        "max": round(max(values), 1),
    }


def stored(database: Path) -> dict[str, int]:
    """What the service's database says afterwards."""
    import sqlite3

    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    one = "SELECT COUNT(*), COUNT(DISTINCT answer_id), COUNT(DISTINCT task_no || '/' || worker_id) FROM assignments"
    answers, ids, pairs = connection.execute(one + " WHERE state = 'done'").fetchone()
    connection.close()
    return {"stored_answers": answers, "distinct_ids": ids, "distinct_worker_and_page": pairs}


def main() -> int:
    """Run once and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=100.0, help="page visits a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--pages", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=3)
    parser.add_argument("--think", type=float, default=THINK_SECONDS / 2, help="mean seconds between page and submit")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        environment = {**os.environ, "GANDT_LABELING__DATA_DIR": str(data), "GANDT_LABELING__METRICS_PORT": ""}
        environment["GANDT_LABELING__LOG_LEVEL"] = "warning"
        command = [sys.executable, "-m", "gandt", "serve", "labeling", "--port", "0", "--json"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            while "endpoints" not in line:
                line = server.stdout.readline()
            url = json.loads(line)["endpoints"]["labeling"]
            make_job(url, args.pages, args.slots)
            time.sleep(5)  # the first thousand pages open
            figures = asyncio.run(run(int(url.rsplit(":", 1)[1]), (data / "labeling.token").read_text(), args))
        finally:
            server.terminate()
            server.wait()
        print(json.dumps({"rate": args.rate, "workers": args.workers, **figures, **stored(data / "labeling.db")}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
