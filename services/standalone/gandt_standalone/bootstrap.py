# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds all services of one project in this process, each finding the others in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gandt.adapters.local_files import LocalFiles
from gandt.adapters.object_stores import open_s3
from gandt.client.connection import Target, Tls
from gandt.domain.errors import BackendUnavailable
from gandt.domain.images import split_uri
from gandt.ports.object_store import ObjectStore
from gandt.runtime.application import Application
from gandt.runtime.hosting import Addresses
from gandt.runtime.listening import authority
from gandt.runtime.peers import EndpointSettings, Peers, configured_targets
from gandt.runtime.service_settings import ServerSettings
from gandt.runtime.settings import layered
from gandt_standalone import catalog
from gandt_standalone.serve_file import STATE_DIR

OBJECTS_DIR = "objects"  # below the state folder; every service's default


@dataclass
class Standalone:
    """All services, built and not yet listening.

    Args:
        served: applications with their settings, in start order.
        peers: what they share to find each other; close it last.
        addresses: to be filled when they listen; it wins over what the settings say.
    """

    served: list[tuple[Application, ServerSettings]]
    peers: Peers
    addresses: dict[str, Addresses]


def bootstrap(
    project: Path,
    *,
    names: Iterable[str] = catalog.NAMES,
    sections: Mapping[str, Mapping[str, Any]] | None = None,
    arguments: Mapping[str, Any] | None = None,
    config_file: Path | None = None,
    load: Callable[[str], catalog.Service] = catalog.load,
) -> Standalone:
    """Builds the services.

    Args:
        project: folder of the project; state goes to its `.gandt`.
        names: which services.
        sections: configuration read already, by service; else `config_file` is read.
        arguments: settings for every one of them, as given by flags.
        config_file: the project's gandt.toml.
        load: finds a service by name.
    Raises:
        InvalidInput: a setting is wrong.
        WrongState: a library is missing, or a store is in use.
    """
    services = [load(name) for name in names]
    given = {**(arguments or {}), **({"config_file": config_file} if config_file else {})}
    settings = {
        service.name: layered(
            service.settings,
            arguments=given,
            section=(sections or {}).get(service.name),
            defaults={"data_dir": project / STATE_DIR, **catalog.ON_ONE_MACHINE.get(service.name, {})},
        )
        for service in services
    }
    addresses: dict[str, Addresses] = {}
    endpoints = EndpointSettings(config_file=config_file)
    peers = Peers(configured_targets(endpoints, lambda name: _local(name, settings, addresses, endpoints)))
    served: list[tuple[Application, ServerSettings]] = []
    try:
        for service in services:
            served.append((service.bootstrap(settings[service.name], peers), settings[service.name]))
    except BaseException:
        for app, _ in reversed(served):
            app.close()
        peers.close()
        raise
    return Standalone(served, peers, addresses)


def mount_photos(project: Path, folder: Path) -> str:
    """Maps a folder of photos onto a bucket of the project's object store, read-only and without copying.

    Args:
        project: folder of the project.
        folder: may lie anywhere; the same one always gets the same bucket.
    Returns:
        The bucket's URI, `s3://<name>-<hash>/`.
    Raises:
        NotFound: there is no such folder.
    """
    return f"s3://{LocalFiles(project / STATE_DIR / OBJECTS_DIR).mount(folder)}/"


def objects_of(project: Path, uri: str) -> ObjectStore:
    """The store that holds an object: the project's own where it has the bucket, else S3 as boto3 is configured.

    Raises:
        InvalidInput: not an S3 URI.
    """
    own = LocalFiles(project / STATE_DIR / OBJECTS_DIR)
    if own.has_bucket(split_uri(uri)[0]):
        return own
    return open_s3()


def _local(
    name: str,
    settings: Mapping[str, ServerSettings],
    addresses: Mapping[str, Addresses],
    endpoints: EndpointSettings,
) -> Target:
    chosen = settings.get(name)
    if chosen is None or (name not in addresses and chosen.port == 0):
        raise BackendUnavailable(
            f"the {name} service is not running in this process", backend=name, reason="NOT_STARTED", fix="call again"
        )
    if name in addresses:
        endpoint = addresses[name].service
    else:
        endpoint = authority(_reachable(chosen.host), chosen.port)
        if name in catalog.HTTP_NAMES:
            endpoint = f"{'https' if chosen.tls_cert_file else 'http'}://{endpoint}"
    token = chosen.token.get_secret_value() if chosen.token else None
    tls = None
    if chosen.tls_cert_file:
        tls = Tls(endpoints.tls_ca_file or chosen.tls_client_ca_file, endpoints.tls_cert_file, endpoints.tls_key_file)
    return Target(endpoint, token, tls)


def _reachable(host: str) -> str:
    """An address that listens everywhere is called on loopback."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
