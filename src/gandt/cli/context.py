# SPDX-License-Identifier: GPL-3.0-or-later
"""What a verb needs: the project, its configuration, the output, and clients of the services."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from gandt.cli import configuration
from gandt.cli.output import Output
from gandt.cli.service_sections import check_sections
from gandt.domain.errors import InvalidInput, WrongState

if TYPE_CHECKING:
    from gandt.client.aggregation import AggregationClient
    from gandt.client.connection import Channel
    from gandt.client.embedding import EmbeddingClient
    from gandt.client.jobcontroller import JobControllerClient
    from gandt.client.selection import SelectionClient
    from gandt.client.vectorsearch import VectorSearchClient
    from gandt.embedded.attach import ServeInfo

_CLIENTS = {
    "embedding": "EmbeddingClient",
    "vectorsearch": "VectorSearchClient",
    "selection": "SelectionClient",
    "aggregation": "AggregationClient",
    "jobcontroller": "JobControllerClient",
}


class Context:
    """Opened for one command; closing it drains the services that it started.

    Attributes:
        project_dir: folder of the project (it need not be one yet).
        out: where results, notes and errors go.
        config: layered configuration.
        seed: seed of all randomness.
        endpoint: HOST:PORT given on the command line, or "".
    """

    def __init__(
        self, project_dir: Path, out: Output, settings: configuration.Config, seed: int, endpoint: str
    ) -> None:
        self.project_dir = project_dir
        self.out = out
        self.config = settings
        self.seed = seed
        self.endpoint = endpoint
        self._stack = ExitStack()
        self._embedded: Any = None
        self._holds = False

    @classmethod
    def of(cls, args: argparse.Namespace, out: Output, reads_configuration: bool = True) -> Context:
        """The context that the common flags ask for; without `reads_configuration` all settings are defaults."""
        project = Path(args.project)
        if project.exists() and not project.is_dir():
            raise InvalidInput(f"--project {project} is not a folder", field="project", reason="NOT_A_FOLDER")
        if reads_configuration:
            settings = configuration.load(project, args.config)
            check_sections(settings)
        else:
            settings = configuration.defaults()
        seed = settings.get("project", "seed") if args.seed is None else args.seed
        if not 0 <= seed < 2**63:
            raise InvalidInput(f"--seed is {seed}, it must be 0 or more", field="seed", reason="BAD_SEED")
        return cls(project, out, settings, seed, args.endpoint or "")

    @property
    def state_dir(self) -> Path:
        """The project's `.gandt` folder."""
        return self.project_dir / ".gandt"

    def require_project(self) -> None:
        """Raise WrongState unless `gandt init` (or `run`) has been here."""
        if not self.state_dir.is_dir() and not self.endpoint and not self.config.get("endpoints", "jobcontroller"):
            raise WrongState(
                f"{self.project_dir.resolve()} is no gandt project",
                kind="project",
                id=str(self.project_dir),
                reason="NO_PROJECT",
                fix="run gandt init there, or name the project with --project DIR",
            )

    @overload
    def connect(self, service: Literal["embedding"], overrides: Mapping[str, Any] | None = None) -> EmbeddingClient: ...
    @overload
    def connect(
        self, service: Literal["vectorsearch"], overrides: Mapping[str, Any] | None = None
    ) -> VectorSearchClient: ...
    @overload
    def connect(self, service: Literal["selection"], overrides: Mapping[str, Any] | None = None) -> SelectionClient: ...
    @overload
    def connect(
        self, service: Literal["aggregation"], overrides: Mapping[str, Any] | None = None
    ) -> AggregationClient: ...
    @overload
    def connect(
        self, service: Literal["jobcontroller"], overrides: Mapping[str, Any] | None = None
    ) -> JobControllerClient: ...
    def connect(self, service: str, overrides: Mapping[str, Any] | None = None) -> Any:
        """A typed client of a service.

        It calls --endpoint, else the configured endpoint, else the running `gandt serve` of this
        project, else the service started inside this process.

        Args:
            service: its name.
            overrides: settings of the service for this command; only for one started in this process.
        """
        client = getattr(importlib.import_module(f"gandt.client.{service}"), _CLIENTS[service])
        remote = self.endpoint or self.config.get("endpoints", service)
        address = remote or self._local(service, overrides or {})
        return client(self._stack.enter_context(self.channel(service, address)))

    def channel(self, service: str, address: str) -> Channel:
        """A connection with the configured token and TLS; closing it is the caller's."""
        from gandt.client.connection import connect

        if address.startswith("unix:"):  # in this process: nobody else can call
            return connect(address, service=service)
        return connect(address, self.config.get("endpoints", "token") or None, self._tls(), service=service)

    def _tls(self) -> Any:
        from gandt.client.connection import Tls

        files = [self.config.get("endpoints", key) for key in ("tls_ca_file", "tls_cert_file", "tls_key_file")]
        ca, cert, key = (Path(f) if f else None for f in files)
        return Tls(ca, cert, key) if ca else None

    def at(self, folder: Path) -> Context:
        """The same for another project folder, with that folder's own configuration."""
        settings = configuration.load(folder)
        check_sections(settings)
        return Context(folder, self.out, settings, self.seed, "")

    def hold_project(self) -> None:
        """Keep the project for this command until it ends, before it writes; not where services run elsewhere.

        Commands that only look (`status`, `report`) do not ask for it.

        Raises:
            WrongState: another command holds it.
        """
        remote = self.endpoint or self.config.get("endpoints", "jobcontroller")
        if remote or self._holds or not self.state_dir.is_dir() or self.served() is not None:
            return
        from gandt_standalone.serve_file import project_lock

        self._stack.enter_context(project_lock(self.project_dir))
        self._holds = True

    def has_server(self) -> bool:
        """Whether the services outlive this command, so that people can label."""
        remote = self.endpoint or self.config.get("endpoints", "jobcontroller")
        return bool(remote) or self.served() is not None

    def labels_here(self) -> bool:
        """Whether people label in our own labeling service, and not where another backend asks them."""
        setting = self.config.services["jobcontroller"].get("backend", "labeling")
        return str(os.environ.get("GANDT_JOBCONTROLLER__BACKEND", setting)) == "labeling"

    def labeling_url(self) -> str:
        """Address of the labeling service: configured, of `gandt serve`, or started in this process."""
        configured = str(self.config.get("endpoints", "labeling"))
        return configured or ("" if self.endpoint else self._local("labeling", {}))

    def invite(self, name: str = "") -> tuple[str, str]:
        """An invitation to label: its code and its link.

        Args:
            name: a worker's name, for a personal one; "" for the team's link.
        Raises:
            Unauthenticated: the labeling service is elsewhere and its token is not here.
        """
        from gandt.client.labeling_operator import create_invite

        url = self.labeling_url()
        token_file = self.state_dir / "labeling.token"
        token = str(self.config.get("endpoints", "labeling_token"))
        if not token and token_file.exists():
            token = token_file.read_text(encoding="utf-8").strip()
        return create_invite(url, token, name)

    def served(self) -> ServeInfo | None:
        """What `gandt serve` of this project says of itself; None when it does not run."""
        from gandt.embedded.attach import read

        return read(self.project_dir)

    def _local(self, service: str, overrides: Mapping[str, Any]) -> str:
        served = self.served()
        if served is not None and not overrides and service in served.endpoints:
            return str(served.endpoints[service])
        return str(self.embedded().endpoint(service, **overrides))

    def embedded(self) -> Any:
        """The services of this process; started on first use."""
        if self._embedded is None:
            from gandt.embedded.services import EmbeddedServices

            project = self.project_dir if self.state_dir.is_dir() else None
            services = EmbeddedServices(project, self.config.services, self.config.file)
            self._embedded = self._stack.enter_context(services)
        return self._embedded

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, tb)
