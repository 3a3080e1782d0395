# SPDX-License-Identifier: GPL-3.0-or-later
"""Serves one project: all services in this process, and `.gandt/serve.json` while they listen."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gandt.runtime.hosting import Addresses
from gandt.runtime.server import run
from gandt_standalone import catalog, serve_file
from gandt_standalone.bootstrap import bootstrap


def serve_project(
    project: Path,
    *,
    names: Iterable[str] = catalog.NAMES,
    sections: Mapping[str, Mapping[str, Any]] | None = None,
    arguments: Mapping[str, Any] | None = None,
    config_file: Path | None = None,
    on_serving: Callable[[serve_file.ServeInfo], None] | None = None,
    load: Callable[[str], catalog.Service] = catalog.load,
) -> int:
    """Runs all services until SIGTERM or SIGINT.

    Args:
        project: folder of the project.
        names: which services.
        sections: as in `bootstrap`.
        arguments: as in `bootstrap`.
        config_file: as in `bootstrap`.
        on_serving: called once everything answers.
        load: finds a service by name.
    Returns:
        0 after a clean stop.
    Raises:
        WrongState: the project is served already, or a port is taken.
    """
    with serve_file.project_lock(project):
        standalone = bootstrap(
            project, names=names, sections=sections, arguments=arguments, config_file=config_file, load=load
        )

        def serving(addresses: Mapping[str, Addresses]) -> None:
            standalone.addresses.update(addresses)
            info = serve_file.ServeInfo(
                pid=os.getpid(),
                started_at=datetime.now(UTC).isoformat(timespec="seconds"),
                endpoints={name: each.service for name, each in addresses.items()},
                health={name: each.health for name, each in addresses.items() if each.health},
                metrics={name: each.metrics for name, each in addresses.items() if each.metrics},
            )
            serve_file.write(project, info)
            if on_serving is not None:
                on_serving(info)

        with contextlib.closing(standalone.peers):
            try:
                return run(standalone.served, serving, on_draining=lambda: serve_file.remove(project, os.getpid()))
            finally:
                serve_file.remove(project, os.getpid())
