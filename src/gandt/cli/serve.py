# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the services: all of them for this project, or one by name.

Without NAME every command in the project finds them through .gandt/serve.json. With NAME
no project is needed: the service keeps its state below GANDT_<SERVICE>__DATA_DIR.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gandt.cli.configuration import SERVICES
from gandt.cli.context import Context
from gandt.domain.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gandt.embedded.attach import ServeInfo
    from gandt.runtime.hosting import Addresses


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's flags."""
    parser.add_argument("name", nargs="?", metavar="NAME", help=f"one of {', '.join(SERVICES)} (default: all)")
    parser.add_argument("--host", metavar="ADDRESS", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, metavar="N", help="service port; needs NAME")


def run(args: argparse.Namespace, ctx: Context) -> int:
    """Serves until SIGTERM or Ctrl-C."""
    arguments = {key: getattr(args, key) for key in ("host", "port") if getattr(args, key) is not None}
    if args.name is not None:
        return _run_one(args.name, arguments, ctx)
    if args.port is not None:
        raise InvalidInput(
            "--port needs the NAME of a service",
            field="port",
            reason="USAGE",
            fix="gandt serve NAME --port N, or set GANDT_<SERVICE>__PORT for each",
        )
    return _run_all(arguments, ctx)


def _run_all(arguments: dict[str, Any], ctx: Context) -> int:
    from gandt_standalone.project import serve_project

    from gandt.runtime.logs import configure_logging

    ctx.require_project()
    configure_logging("info" if ctx.out.verbose else "warning", _log_format())

    def serving(info: ServeInfo) -> None:
        for name, endpoint in info.endpoints.items():
            ctx.out.note(f"{name:<14} {endpoint}")
        _say(ctx, {"pid": info.pid, "endpoints": info.endpoints, "health": info.health, "metrics": info.metrics})

    return serve_project(ctx.project_dir, sections=ctx.config.services, arguments=arguments, on_serving=serving)


def _run_one(name: str, arguments: dict[str, Any], ctx: Context) -> int:
    import contextlib

    from gandt_standalone import catalog

    from gandt.runtime.logs import configure_logging
    from gandt.runtime.peers import Peers
    from gandt.runtime.server import run as run_until_signal
    from gandt.runtime.settings import layered

    service = catalog.load(name)
    defaults = {"log_format": _log_format()}
    settings = layered(service.settings, arguments=arguments, section=ctx.config.services.get(name), defaults=defaults)
    configure_logging(settings.log_level, settings.log_format)

    def serving(addresses: Mapping[str, Addresses]) -> None:
        found = addresses[name]
        ctx.out.note(f"{name:<14} {found.service}")
        _say(
            ctx,
            {
                "endpoints": {name: found.service},
                "health": _given(name, found.health),
                "metrics": _given(name, found.metrics),
            },
        )

    with contextlib.closing(Peers.configured(Path(ctx.config.file) if ctx.config.file else None)) as peers:
        return run_until_signal([(service.bootstrap(settings, peers), settings)], serving)


def _say(ctx: Context, values: dict[str, Any]) -> None:
    """The one JSON object of --json, as soon as the services answer: scripts wait for it."""
    ctx.out.summary(values, human="serving; stop with Ctrl-C")


def _given(name: str, address: str) -> dict[str, str]:
    return {name: address} if address else {}


def _log_format() -> str:
    return "text" if sys.stderr.isatty() else "json"
