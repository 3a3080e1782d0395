# SPDX-License-Identifier: GPL-3.0-or-later
"""`gandt serve` of a project with one echo service, as a process: `python toy_project.py FOLDER`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gandt_standalone import catalog
from gandt_standalone.project import serve_project

from gandt.domain.errors import GandtError

sys.path.insert(0, str(Path(__file__).parent))
from echo_app import EchoService, Settings, application  # type: ignore[import-not-found]


def load(name: str) -> catalog.Service:
    """The echo service, whatever the name."""
    return catalog.Service(name, Settings, lambda *_: application(EchoService()))


if __name__ == "__main__":
    try:
        sys.exit(
            serve_project(
                Path(sys.argv[1]),
                names=["echo"],
                load=load,
                on_serving=lambda info: print(info.pid == os.getpid(), flush=True),  # noqa: T201
            )
        )
    except GandtError as error:
        print(error.reason, error, file=sys.stderr)  # noqa: T201
        sys.exit(1)
