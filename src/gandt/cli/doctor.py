# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks what G&T needs here, one line a check: ok, warn or fail, with what to do.

  gandt doctor                     this machine and the project in this folder
  gandt doctor --project photos    another project

It changes nothing, starts no service and spends nothing. Exit status 1 when a check fails.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import platform
import shutil
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gandt.cli import configuration, exit_codes
from gandt.cli.configuration import SERVICES, Config
from gandt.cli.context import Context
from gandt.cli.service_sections import check_sections, load_section
from gandt.domain.errors import GandtError

READS_CONFIGURATION = False  # a broken one is a finding here, and the other checks still run
LEAST_PYTHON = (3, 11)
LOW_DISK, NO_DISK = 2 << 30, 100 << 20  # bytes: SQLite and Milvus Lite stop in the middle of a write without any
SECONDS = 3.0
LIBRARIES = {  # one that only this service needs
    "embedding": ("torch", "openvino"),
    "vectorsearch": ("pymilvus",),
    "selection": ("scipy",),
    "aggregation": ("scipy",),
    "jobcontroller": ("sqlalchemy",),
    "labeling": ("starlette",),
}


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        state: ok, warn or fail.
        fix: what to do; "" when nothing is to be done.
    """

    name: str
    state: str
    said: str
    fix: str = ""


def configure(parser: argparse.ArgumentParser) -> None:
    """No flags of its own."""


def run(args: argparse.Namespace, ctx: Context) -> int:
    project = Path(args.project)
    checks = [_python(), *_libraries(), *_disk(project)]
    try:
        config = configuration.load(project, args.config)
        check_sections(config)
    except GandtError as error:
        checks.append(Check("configuration", "fail", error.message, error.fix))
    else:
        checks.append(Check("configuration", "ok", str(config.file or "no gandt.toml: defaults")))
        with Context(project, ctx.out, config, 0, "") as here:
            checks += _of_project(here, config)
    ctx.out.table(("check", "state", "finding"), [(c.name, c.state, c.said) for c in checks])
    for check in checks:
        if check.fix:
            ctx.out.note(f"{check.name}: {check.fix}")
    failed = sum(check.state == "fail" for check in checks)
    warned = sum(check.state == "warn" for check in checks)
    ctx.out.summary(
        {"checks": [asdict(check) for check in checks], "failed": failed, "warned": warned},
        f"{len(checks)} checks, {failed} failed, {warned} to look at",
    )
    return exit_codes.FAILED if failed else exit_codes.DONE


def _python() -> Check:
    said = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info >= LEAST_PYTHON:
        return Check("python", "ok", said)
    return Check("python", "fail", said, "install Python 3.11 or newer")


def _libraries() -> Iterator[Check]:
    """Which services could start in a process here."""
    missing = [
        name
        for name, libraries in LIBRARIES.items()
        if not any(importlib.util.find_spec(library) for library in libraries)
    ]
    if missing:
        extras = ",".join(missing)
        yield Check(
            "libraries",
            "warn",
            f"these services cannot start here: {', '.join(missing)}",
            f"pip install 'gandt[{extras}]'",
        )
    else:
        yield Check("libraries", "ok", "every service can start here")


def _disk(project: Path) -> Iterator[Check]:
    """Whether the project's folder can be written to, and how much room there is."""
    folder = next(parent for parent in (project / ".gandt", project, *project.resolve().parents) if parent.is_dir())
    if not os.access(folder, os.W_OK):
        yield Check("folder", "fail", f"{folder} cannot be written to", "use a folder of your own with --project DIR")
        return
    yield Check("folder", "ok", str(folder))
    yield room(folder, shutil.disk_usage(folder).free)


def room(folder: Path, free: int) -> Check:
    """Whether so many free bytes are enough."""
    said = f"{free / (1 << 30):.1f} GiB free for {folder}"
    if free < LOW_DISK:
        return Check("disk", "fail" if free < NO_DISK else "warn", said, "free some space, or use another disk")
    return Check("disk", "ok", said)


def _of_project(ctx: Context, config: Config) -> Iterator[Check]:
    checks: list[Callable[[], Iterator[Check]]] = [
        lambda: _weights(config),
        lambda: _money(config),
        lambda: _services(ctx, config),
        lambda: _images(ctx),
        lambda: _backend(ctx, config),
    ]
    for check in checks:
        try:
            yield from check()
        except ModuleNotFoundError:
            continue  # said under libraries
        except GandtError as error:
            yield Check(error.reason.lower().replace("_", " "), "fail", error.message, error.fix)


def _weights(config: Config) -> Iterator[Check]:
    settings: Any = load_section(config, "embedding")
    weights = str(settings.weights)
    if not weights and settings.model != "hog":
        yield Check("model", "fail", f"{settings.model} has no weights", "set embedding.weights")
    elif weights and _is_file(weights) and not os.access(weights, os.R_OK):
        yield Check(
            "model", "fail", f"the weights of {settings.model} cannot be read: {weights}", "correct embedding.weights"
        )
    else:
        yield Check("model", "ok", f"{settings.model}, weights: {weights}" if weights else settings.model)


def _is_file(weights: str) -> bool:
    """Whether they name a local file, and neither an object nor weights that the library downloads."""
    return not weights.startswith("s3://") and bool("/" in weights or Path(weights).suffix)


def _money(config: Config) -> Iterator[Check]:
    budget = config.get("project", "budget_usd")
    if budget or not config.get("project", "price_per_page_usd"):
        yield Check("budget", "ok", f"${budget:,.2f}" if budget else "no price a page, so nothing to spend")
    else:
        yield Check("budget", "warn", "a page has a price and there is no budget", "set project.budget_usd")


def _services(ctx: Context, config: Config) -> Iterator[Check]:
    """Health of the services that run; where none does, whether their ports are free."""
    served = ctx.served()
    for name in SERVICES:
        endpoint = str(config.get("endpoints", name) or (served.endpoints.get(name, "") if served else ""))
        if endpoint:
            yield _health(ctx, name, endpoint)
        else:
            yield _port(name, load_section(config, name))


def _health(ctx: Context, name: str, endpoint: str) -> Check:
    if endpoint.startswith("http"):
        try:
            with urllib.request.urlopen(f"{endpoint.rstrip('/')}/readyz", timeout=SECONDS) as answer:
                return Check(name, "ok" if answer.status == 200 else "fail", f"{endpoint} answers {answer.status}")
        except (urllib.error.URLError, OSError) as error:
            return Check(name, "fail", f"{endpoint}: {error}", "start it, or correct [endpoints]")
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    try:
        with ctx.channel(name, endpoint) as channel:
            asked = health_pb2.HealthCheckRequest()
            state = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=SECONDS).status
    except GandtError as error:
        return Check(name, "fail", error.message, error.fix or "start it, or correct [endpoints]")
    word = health_pb2.HealthCheckResponse.ServingStatus.Name(state)
    return Check(name, "ok" if word == "SERVING" else "fail", f"{endpoint} is {word.lower()}")


def _port(name: str, settings: Any) -> Check:
    """Whether `gandt serve` could listen where it is told to."""
    if not settings.port:
        return Check(name, "ok", "not running; it will take a free port")
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            return Check(
                name,
                "warn",
                f"{settings.host}:{settings.port} cannot be used: {error.strerror}",
                f"set GANDT_{name.upper()}__PORT for gandt serve; single commands need no port",
            )
    return Check(name, "ok", f"not running; port {settings.port} is free")


def _images(ctx: Context) -> Iterator[Check]:
    """One image of the catalog, read through the store as the labeling page reads it."""
    if not (ctx.has_server() and ctx.state_dir.is_dir()):
        return
    from gandt_standalone.bootstrap import objects_of

    first = next(iter(ctx.connect("jobcontroller").list_images()), None)
    if first is None:
        yield Check("images", "warn", "the catalog is empty", "gandt ingest DIR")
        return
    uri = first.uris[0]
    size = len(objects_of(ctx.project_dir, uri).get(uri))
    if size == first.size:
        yield Check("images", "ok", f"{uri} can be read")
    else:
        yield Check("images", "fail", f"{uri} has {size:,} bytes, it had {first.size:,}", "gandt ingest DIR again")


def _backend(ctx: Context, config: Config) -> Iterator[Check]:
    """Who we are at AWS, where its Ground Truth labels."""
    settings: Any = load_section(config, "jobcontroller")
    if settings.backend != "ground-truth":
        return
    import boto3
    from botocore.config import Config as ClientConfig
    from botocore.exceptions import BotoCoreError, ClientError

    limits = ClientConfig(connect_timeout=SECONDS, read_timeout=SECONDS, retries={"max_attempts": 1})
    try:
        identity = boto3.client("sts", region_name=settings.region, config=limits).get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        yield Check("aws", "fail", str(error), "give credentials in one of boto3's usual places (AWS_PROFILE, ...)")
        return
    yield Check("aws", "ok", str(identity["Arn"]))
    client = boto3.client("s3", region_name=settings.region, config=limits)
    try:
        client.get_bucket_cors(Bucket=settings.bucket)
    except (BotoCoreError, ClientError) as error:
        yield Check(
            "images at aws",
            "fail",
            f"bucket {settings.bucket} has no CORS rule that can be read: {error}",
            "workers' browsers show no image without one; see docs/how-to/label-with-ground-truth.md",
        )
    else:
        yield Check("images at aws", "ok", f"bucket {settings.bucket} has a CORS rule")
