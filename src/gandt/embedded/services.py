# SPDX-License-Identifier: GPL-3.0-or-later
"""The services inside the caller's process: same servicers, same contracts, no server to start first.

Each is built and started the first time somebody asks for it, on a unix domain socket that
only this user can open; the labeling page gets a free loopback port for the browser.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gandt_standalone import catalog
from gandt_standalone.serve_file import STATE_DIR

from gandt.client.connection import Target
from gandt.domain.errors import GandtError, WrongState
from gandt.runtime.application import Application
from gandt.runtime.hosting import Addresses, Host
from gandt.runtime.loop_thread import LoopThread
from gandt.runtime.peers import EndpointSettings, Peers, configured_targets
from gandt.runtime.server import make_host
from gandt.runtime.service_settings import ServerSettings
from gandt.runtime.settings import layered

log = logging.getLogger(__name__)

_DRAIN_SECONDS = 5.0


class EmbeddedServices:
    """Starts services on demand and finds them for each other. Thread-safe; close it to drain them.

    Args:
        project_dir: project whose `.gandt` holds their state; None keeps it in a temporary folder.
        sections: configuration by service, read already; loses to the environment.
        config_file: else the gandt.toml to read.
        load: finds a service by name.
    """

    def __init__(
        self,
        project_dir: Path | None = None,
        sections: Mapping[str, Mapping[str, Any]] | None = None,
        config_file: Path | None = None,
        load: Callable[[str], catalog.Service] = catalog.load,
    ) -> None:
        self._load = load
        self._sections = sections or {}
        self._config_file = config_file
        self._folder = Path(tempfile.mkdtemp(prefix="gandt-"))  # short: a socket's path has at most 107 bytes
        self._data_dir = project_dir / STATE_DIR if project_dir is not None else self._folder / "data"
        endpoints = EndpointSettings(config_file=config_file)
        self._peers = Peers(
            configured_targets(endpoints, self._target),
            running=lambda name: str(getattr(endpoints, name, "")) or self._address(name),
        )
        self._locks: dict[str, threading.Lock] = {}
        self._starting = threading.local()
        self._hosts: dict[str, _StoppableHost] = {}  # also those that are still starting
        self._running: dict[str, tuple[Host, Addresses, Mapping[str, Any]]] = {}
        self._loop = LoopThread.acquire()
        self._closed = False

    def endpoint(self, name: str, **overrides: Any) -> str:
        """Where a service listens; starts it and what it needs.

        Args:
            name: short name.
            overrides: settings that win over all others; they count when the service starts.
        Raises:
            InvalidInput: no such service, or a wrong setting.
            WrongState: it runs with other settings, its libraries are missing, or its store is in use.
        """
        asked: list[str] = self._starting.__dict__.setdefault("names", [])
        if name in asked:
            chain = " -> ".join([*asked, name])
            raise WrongState(f"services wait for each other while they start: {chain}", kind="service", id=name)
        asked.append(name)
        try:
            with self._locks.setdefault(name, threading.Lock()):
                return self._endpoint(name, overrides)
        finally:
            asked.pop()

    def _endpoint(self, name: str, overrides: Mapping[str, Any]) -> str:
        if self._closed:
            raise WrongState("the embedded services are closed", kind="service", id=name, state="closed")
        found = self._running.get(name)
        if found is None:
            found = self._running[name] = (*self._start(name, overrides), overrides)
        elif overrides and dict(overrides) != dict(found[2]):
            raise WrongState(
                f"the {name} service runs in this process with other settings",
                kind="service",
                id=name,
                state="running",
                reason="OTHER_SETTINGS",
            )
        return found[1].service

    def settings(self, name: str, **overrides: Any) -> Any:
        """The settings that a service would start with here, for what is used without its server.

        Args:
            name: short name.
            overrides: settings that win over all others.
        Raises:
            InvalidInput: no such service, or a wrong setting.
        """
        return self._settings(self._load(name), name, overrides)

    def _settings(self, service: catalog.Service, name: str, overrides: Mapping[str, Any]) -> Any:
        return layered(
            service.settings,
            arguments={**overrides, **({"config_file": self._config_file} if self._config_file else {})},
            section=self._sections.get(name),
            defaults={"data_dir": self._data_dir, **catalog.ON_ONE_MACHINE.get(name, {})},
        )

    def _start(self, name: str, overrides: Mapping[str, Any]) -> tuple[Host, Addresses]:
        service = self._load(name)
        settings = self._settings(service, name, overrides).model_copy(
            update=_LOCAL if name in catalog.HTTP_NAMES else {**_LOCAL, **_PRIVATE}
        )
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        app = service.bootstrap(settings, self._peers)
        return self._host(name, app, settings)

    def _host(self, name: str, app: Application, settings: ServerSettings) -> tuple[Host, Addresses]:
        host = _StoppableHost(make_host(app, settings, self._folder))
        self._hosts[name] = host
        try:
            return host.host, self._loop.run(host.start())
        except BaseException as error:  # a Ctrl-C too, and then the start still runs on the loop
            if self._closed:
                if not isinstance(error, Exception):
                    raise
                raise WrongState("the embedded services are closed", kind="service", id=name, state="closed") from error
            self._stop(host)
            del self._hosts[name]
            raise

    def _address(self, name: str) -> str:
        found = self._running.get(name)
        return "" if found is None else found[1].service

    def _target(self, name: str) -> Target:
        return Target(self.endpoint(name))

    def close(self) -> None:
        """Drains the services, callers before the called, and removes what was temporary; logs what goes wrong."""
        if self._closed:
            return
        self._closed = True
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
            stack.callback(_logged, self._loop.release)
            stack.callback(_logged, self._peers.close)
            hosts = list(self._hosts.items())  # other threads may still add theirs
            for _, host in sorted(hosts, key=lambda each: _start_order(each[0])):
                stack.callback(self._stop, host)  # unwound backwards: callers stop first

    def _stop(self, host: _StoppableHost) -> None:
        _logged(lambda: self._loop.run(host.stop()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _StoppableHost:
    """A host that can be stopped while it starts. Its coroutines run on the one loop.

    Args:
        host: what to start.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self._starting: asyncio.Task[Any] | None = None
        self._stopped = False

    async def start(self) -> Addresses:
        """Starts the host. Raises WrongState when it was stopped before."""
        if self._stopped:
            raise WrongState("the embedded services are closed", kind="service", state="closed")
        self._starting = asyncio.current_task()
        return await self.host.start()

    async def stop(self) -> None:
        """Ends a start that is under way, which stops what it began; else drains."""
        self._stopped = True
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
            await asyncio.wait((self._starting,))
        await self.host.stop(_DRAIN_SECONDS)


def _logged(close: Callable[[], object]) -> None:
    """Closes one thing; the others must still be closed."""
    try:
        close()
    except GandtError as error:
        log.warning("an embedded service did not close cleanly: %s", error, extra={"reason": error.reason})
    except Exception:  # logged with its trace; an error here would hide the caller's own
        log.exception("an embedded service did not close")


def _start_order(name: str) -> int:
    return catalog.NAMES.index(name) if name in catalog.NAMES else len(catalog.NAMES)


# Settings of a server that do not apply inside one process: its ports, and on a private socket its locks.
_LOCAL: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 0,
    "health_port": None,
    "metrics_port": None,
    "tls_cert_file": None,
    "tls_key_file": None,
    "tls_client_ca_file": None,
}
_PRIVATE: dict[str, Any] = {"token": None, "reflection": False}
