# SPDX-License-Identifier: GPL-3.0-or-later
"""How a service finds the others: by configured endpoint, by serve.json, or embedded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from gandt.client.connection import Channel, Tls, connect
from gandt.domain.errors import BackendUnavailable
from gandt.runtime.settings import SectionSettings

Resolve = Callable[[str], str]
"""Service name -> endpoint (`host:port`, `unix:PATH`, or a URL for the labeling service); raises BackendUnavailable."""


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
    tls_ca_file: Path | None = Field(default=None, description="PEM of their CA. With it all calls use TLS.")
    tls_cert_file: Path | None = Field(default=None, description="PEM client certificate for mTLS.")
    tls_key_file: Path | None = Field(default=None, description="PEM key of tls_cert_file.")


class Peers:
    """Channels to the other services, made when first asked for and shared.

    Args:
        resolve: finds an endpoint; asked once a service, from a worker thread.
        token: bearer token for all of them.
        tls: None for plaintext.
    """

    def __init__(self, resolve: Resolve, token: str | None = None, tls: Tls | None = None) -> None:
        self._resolve = resolve
        self._token = token
        self._tls = tls
        self._channels: dict[str, Channel] = {}
        self._lock = threading.Lock()

    @classmethod
    def configured(cls, config_file: Path | None = None) -> Peers:
        """Peers at the endpoints that environment and gandt.toml name.

        Raises:
            InvalidInput: a key of `[endpoints]` is unknown.
        """
        settings = EndpointSettings(config_file=config_file)
        tls = Tls(settings.tls_ca_file, settings.tls_cert_file, settings.tls_key_file) if settings.tls_ca_file else None
        token = settings.token.get_secret_value() if settings.token else None
        return cls(lambda name: str(getattr(settings, name, "")) or _raise_unknown(name), token, tls)

    def endpoint(self, name: str) -> str:
        """Where a service is.

        Raises:
            BackendUnavailable: nobody said where.
        """
        return self._resolve(name)

    def connect(self, name: str) -> Channel:
        """The channel to a service; the first call on it connects.

        Raises:
            BackendUnavailable: nobody said where it is.
        """
        with self._lock:
            channel = self._channels.get(name)
        if channel is not None:
            return channel
        # Outside the lock: an embedded service starts here, and may itself ask for a peer.
        fresh = connect(self._resolve(name), self._token, self._tls, service=name)
        with self._lock:
            channel = self._channels.setdefault(name, fresh)
        if channel is not fresh:
            fresh.close()
        return channel

    def close(self) -> None:
        """Closes all channels."""
        with self._lock:
            channels = list(self._channels.values())
            self._channels.clear()
        for channel in channels:
            channel.close()


def _raise_unknown(name: str) -> str:
    raise BackendUnavailable(
        f"no endpoint of the {name} service is configured",
        backend=name,
        reason="NO_ENDPOINT",
        fix=f"set GANDT_ENDPOINTS__{name.upper()}, or run all services with `gandt serve`",
    )
