# SPDX-License-Identifier: GPL-3.0-or-later
"""A server's TLS files, read again when they change, so that a renewed certificate needs no restart."""

from __future__ import annotations

import logging
from pathlib import Path

import grpc

from gandt.domain.errors import InvalidInput
from gandt.runtime.service_settings import ServerSettings

log = logging.getLogger(__name__)

Stamp = tuple[tuple[int, int], ...]


def server_credentials(settings: ServerSettings) -> grpc.ServerCredentials | None:
    """TLS or mTLS as the settings say; None for plaintext.

    Raises:
        InvalidInput: a file cannot be read, or one of a pair is missing.
    """
    if settings.tls_cert_file is None and settings.tls_key_file is None:
        if settings.tls_client_ca_file is not None:
            raise InvalidInput("tls_client_ca_file needs tls_cert_file and tls_key_file", field="tls_client_ca_file")
        return None
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        raise InvalidInput("tls_cert_file and tls_key_file go together", field="tls_key_file")
    files = _Files(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)
    return grpc.dynamic_ssl_server_credentials(
        files.read(),
        files.changed,  # type: ignore[arg-type]  # it may return None, which the typing does not know
        require_client_authentication=settings.tls_client_ca_file is not None,
    )


class _Files:
    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._paths = {"tls_cert_file": certificate, "tls_key_file": key}
        if client_ca is not None:
            self._paths["tls_client_ca_file"] = client_ca
        self._seen: Stamp = ()

    def read(self) -> grpc.ServerCertificateConfiguration:
        self._seen = self._stamp()
        pair = (self._pem("tls_key_file"), self._pem("tls_cert_file"))
        client_ca = self._pem("tls_client_ca_file") if "tls_client_ca_file" in self._paths else None
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=client_ca)

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Asked by gRPC at each handshake; None keeps what it has, also while files are being replaced."""
        try:
            return None if self._stamp() == self._seen else self.read()
        except InvalidInput as error:
            log.warning("keeping the certificate in use", extra={"reason": error.reason, "error": error.message})
            return None

    def _stamp(self) -> Stamp:
        """Time and size of each file; a mounted secret changes both at once."""
        return tuple(_stat(key, path) for key, path in self._paths.items())

    def _pem(self, key: str) -> bytes:
        try:
            return self._paths[key].read_bytes()
        except OSError as error:
            raise _unreadable(key, self._paths[key], error) from error


def _stat(key: str, path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise _unreadable(key, path, error) from error
    return stat.st_mtime_ns, stat.st_size


def _unreadable(key: str, path: Path, error: OSError) -> InvalidInput:
    return InvalidInput(f"{key} {path} cannot be read: {error.strerror}", field=key, reason="TLS_FILE")
