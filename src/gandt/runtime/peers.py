# SPDX-License-Identifier: GPL-3.0-or-later
"""How a service finds the others: by configured endpoint, by serve.json, or embedded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from gandt.client.connection import Channel, Target, Tls
from gandt.domain.errors import BackendUnavailable
from gandt.runtime.settings import SectionSettings

Resolve = Callable[[str], Target]
"""Service name -> where it is; raises BackendUnavailable. A URL for the labeling service, which speaks HTTP."""


class EndpointSettings(SectionSettings):
    """Where the other services are: `[endpoints]` in gandt.toml, `GANDT_ENDPOINTS__<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="GANDT_ENDPOINTS__")

    embedding: str = Field(default="", description="host:port of the embedding service.")
    vectorsearch: str = Field(default="", description="host:port of the vector search service.")
    selection: str = Field(default="", description="host:port of the selection service.")
    aggregation: str = Field(default="", description="host:port of the aggregation service.")
    jobcontroller: str = Field(default="", description="host:port of the job controller.")
    labeling: str = Field(default="", description="URL of the labeling service.")
    token: SecretStr | None = Field(default=None, description="Bearer token for all of them.")
    labeling_token: SecretStr | None = Field(
        default=None, description="Operator's token of the labeling service, for the CLI's invitations."
    )
    tls_ca_file: Path | None = Field(default=None, description="PEM of their CA. With it all calls use TLS.")
    tls_cert_file: Path | None = Field(default=None, description="PEM client certificate for mTLS.")
    tls_key_file: Path | None = Field(default=None, description="PEM key of tls_cert_file.")


class Peers:
    """Channels to the other services, shared. Naming a peer starts nothing: the first call looks it up.

    Args:
        resolve: finds a service, and may start it; asked from a worker thread, at the first call to it.
        running: where a service is if it runs now, else ""; starts nothing. By default what `resolve` says.
    """

    def __init__(self, resolve: Resolve, running: Callable[[str], str] | None = None) -> None:
        self._resolve = resolve
        self._running = running
        self._channels: dict[str, Channel] = {}
        self._lock = threading.Lock()

    @classmethod
    def configured(cls, config_file: Path | None = None) -> Peers:
        """Peers at the endpoints that environment and gandt.toml name.

        Raises:
            InvalidInput: a key of `[endpoints]` is unknown.
        """
        return cls(configured_targets(EndpointSettings(config_file=config_file), unknown_peer))

    def endpoint(self, name: str) -> str:
        """Where a service is, now; use it inside a call, not in a bootstrap. The labeling service's is its URL.

        Raises:
            BackendUnavailable: nobody said where.
        """
        return self._resolve(name).endpoint

    def running(self, name: str) -> str:
        """Where a service is if it runs now, else "". Starts nothing, so it may be asked anywhere."""
        if self._running is not None:
            return self._running(name)
        try:
            return self._resolve(name).endpoint
        except BackendUnavailable:
            return ""

    def connect(self, name: str) -> Channel:
        """The channel to a service; the first call on it looks the service up and connects."""
        with self._lock:
            channel = self._channels.get(name)
            if channel is None:
                channel = self._channels[name] = Channel(lambda: self._resolve(name), service=name)
            return channel

    def close(self) -> None:
        """Closes all channels."""
        with self._lock:
            channels = list(self._channels.values())
        for channel in channels:
            channel.close()


def configured_targets(settings: EndpointSettings, otherwise: Resolve) -> Resolve:
    """Finds services by configuration first.

    Args:
        settings: the `[endpoints]` section.
        otherwise: asked for the services without a configured endpoint.
    """
    tls = Tls(settings.tls_ca_file, settings.tls_cert_file, settings.tls_key_file) if settings.tls_ca_file else None
    token = settings.token.get_secret_value() if settings.token else None

    def resolve(name: str) -> Target:
        endpoint = str(getattr(settings, name, ""))
        return Target(endpoint, token, tls) if endpoint else otherwise(name)

    return resolve


def unknown_peer(name: str) -> Target:
    """The end of the search. Always raises BackendUnavailable."""
    raise BackendUnavailable(
        f"no endpoint of the {name} service is configured",
        backend=name,
        reason="NO_ENDPOINT",
        fix=f"set GANDT_ENDPOINTS__{name.upper()}, or run all services with `gandt serve`",
    )
