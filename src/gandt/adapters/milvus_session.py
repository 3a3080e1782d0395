# SPDX-License-Identifier: GPL-3.0-or-later
"""A pymilvus client whose calls end, and that gets over what a running server does now and then."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gandt.adapters import milvus_client as milvus
from gandt.adapters.milvus_errors import is_not_loaded
from gandt.domain.errors import InvalidInput

log = logging.getLogger(__name__)
TIMEOUT_SECONDS = 30.0
CONNECT_SECONDS = 5.0


class MilvusSession:
    """All methods of MilvusClient, under two more rules.

    - Each call has a deadline. Without one pymilvus tries 75 times, for minutes; within it, it tries again while the
      server is away, so that a restart of the server is a pause.
    - A collection that is not loaded (someone released it, or the server lost a query node) is loaded and the call
      repeated, once.

    Args:
        client: a MilvusClient.
        timeout: seconds of one call.
    """

    def __init__(self, client: Any, timeout: float = TIMEOUT_SECONDS) -> None:
        self._client = client
        self._timeout = timeout

    def __getattr__(self, method: str) -> Callable[..., Any]:
        call = getattr(self._client, method)

        def limited(*args: Any, **options: Any) -> Any:
            options.setdefault("timeout", self._timeout)
            try:
                return call(*args, **options)
            except Exception as error:
                if not is_not_loaded(error) or not args:
                    raise
                log.warning("collection %s is not loaded; loading it", args[0])
                self._client.load_collection(args[0], timeout=options["timeout"])
                return call(*args, **options)

        return limited if method not in ("create_schema", "prepare_index_params", "close") else call


def options_of(
    uri: str,
    ca_file: Path | None = None,
    client_cert_file: Path | None = None,
    client_key_file: Path | None = None,
    server_name: str = "",
    database: str = "",
) -> dict[str, Any]:
    """Options of MilvusClient for a secured server.

    Args:
        uri: of the server.
        ca_file: PEM that the server's certificate is checked against; None takes the system's.
        client_cert_file, client_key_file: PEM of our own certificate and key, for a server that asks for one.
        server_name: name in the server's certificate where it is not the host of the URI.
        database: on the server; "" is its default.
    Raises:
        InvalidInput: an option that pymilvus would pass over: without https, or a certificate without key or CA.
    """
    files = {"milvus_ca_file": ca_file, "milvus_client_cert_file": client_cert_file}
    files["milvus_client_key_file"] = client_key_file
    given = [name for name, path in files.items() if path is not None] + (["milvus_server_name"] if server_name else [])
    if given and not uri.startswith("https://"):
        raise _bad(given[0], f"{given[0]} is set and milvus_uri {uri} is not https, so that nothing would be encrypted")
    if (client_cert_file is None) != (client_key_file is None) or (client_cert_file and ca_file is None):
        raise _bad("milvus_client_cert_file", "a client certificate needs its key and milvus_ca_file beside it")
    for name, path in files.items():
        if path is not None and not path.is_file():
            raise _bad(name, f"{name} {path} is not a file")
    options: dict[str, Any] = {"dedicated": True}  # else pymilvus shares a connection made with other certificates
    if client_cert_file is not None:
        # With server_pem_path pymilvus leaves our certificate out; ca_pem_path is for both.
        options |= {"ca_pem_path": str(ca_file), "client_pem_path": str(client_cert_file)}
        options["client_key_path"] = str(client_key_file)
    elif ca_file is not None:
        options["server_pem_path"] = str(ca_file)
    if server_name:
        options["server_name"] = server_name
    if database:
        options["db_name"] = database
    return options


def connect(uri: str, token: str, options: dict[str, Any]) -> Any:
    """A MilvusClient. Raises what pymilvus raises."""
    return milvus.client_class()(uri, token=token, **{"timeout": CONNECT_SECONDS, **options})


def _bad(field: str, problem: str) -> InvalidInput:
    return InvalidInput(problem, field=field, reason="BAD_SETTING")
