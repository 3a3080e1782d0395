# SPDX-License-Identifier: GPL-3.0-or-later
"""The services there are, each loaded only when asked for: embedding alone costs seconds of torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from gandt.domain.errors import InvalidInput, WrongState
from gandt.domain.nearest_name import nearest_name
from gandt.runtime.application import Application
from gandt.runtime.peers import Peers
from gandt.runtime.service_settings import ServerSettings

NAMES = ("embedding", "vectorsearch", "selection", "aggregation", "jobcontroller", "labeling")
"""In start order: a service comes after those it calls, and people come last."""

ON_ONE_MACHINE: dict[str, dict[str, object]] = {"jobcontroller": {"poll_seconds": 0.2}}
"""Defaults where all services share a machine: asking our own labeling service how far it is costs a millisecond."""

HTTP_NAMES = ("labeling",)
"""Those that speak HTTP: their endpoint is a URL, and browsers reach it."""


@dataclass(frozen=True)
class Service:
    """How to build one service.

    Args:
        name: short name.
        settings: its settings class.
        bootstrap: builds the application from settings and peers.
    """

    name: str
    settings: type[ServerSettings]
    bootstrap: Callable[[ServerSettings, Peers], Application]


def load(name: str) -> Service:
    """Imports a service.

    Raises:
        InvalidInput: there is no such service; names the nearest.
        WrongState: its libraries are not installed; names the extra.
    """
    if name not in NAMES:
        raise InvalidInput(
            f"there is no service {name!r}", field="name", reason="UNKNOWN_SERVICE", fix=nearest_name(name, NAMES)
        )
    try:
        settings = importlib.import_module(f"gandt_{name}.settings").Settings
        bootstrap = importlib.import_module(f"gandt_{name}.bootstrap").bootstrap
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("gandt"):
            raise
        raise WrongState(
            f"the {name} service needs the Python package {error.name}, which is not installed",
            kind="service",
            id=name,
            state="not installed",
            reason="EXTRA_NOT_INSTALLED",
            fix=f"pip install 'gandt[{name}]' (or gandt[standalone] for all services)",
        ) from error
    return Service(name, settings, bootstrap)
