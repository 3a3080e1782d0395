# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS and mTLS with certificates made for the test."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gandt.client.connection import Tls, connect
from gandt.domain.errors import BackendUnavailable, InvalidInput

ECHO = "/gandt.echo.v1.EchoService/Echo"

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl command is not here")


@dataclass(frozen=True)
class Certificates:
    """PEM files of one CA and of a server and a client that it signed."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test ca")
    for name in ("server", "client"):
        openssl("req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / "san").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "san")
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signed)
    names = ("ca.pem", "server.pem", "server.key", "client.pem", "client.key")
    return Certificates(*(folder / name for name in names))


def _call(address: str, tls: Tls | None) -> Any:
    with connect(address, tls=tls, service="echo", connect_seconds=1.0) as channel:
        return channel.unary_unary(ECHO)(b"x", timeout=5)


def test_tls(start_echo: Any, certificates: Certificates) -> None:
    echo = start_echo(tls_cert_file=certificates.server_cert, tls_key_file=certificates.server_key, health_port=0)
    assert _call(echo.addresses.service, Tls(certificates.ca)) == b"x"
    with pytest.raises(BackendUnavailable):
        _call(echo.addresses.service, None)
    assert echo.health(address=echo.addresses.health) == 1, "probes speak plaintext"


def test_without_a_client_certificate_the_handshake_fails(start_echo: Any, certificates: Certificates) -> None:
    echo = start_echo(
        tls_cert_file=certificates.server_cert,
        tls_key_file=certificates.server_key,
        tls_client_ca_file=certificates.ca,
    )
    ours = Tls(certificates.ca, certificates.client_cert, certificates.client_key)
    assert _call(echo.addresses.service, ours) == b"x"
    with pytest.raises(BackendUnavailable):
        _call(echo.addresses.service, Tls(certificates.ca))
    credentials = grpc.ssl_channel_credentials(certificates.ca.read_bytes())
    with grpc.secure_channel(echo.addresses.service, credentials) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_renewed_certificate_is_used_without_a_restart(
    start_echo: Any, certificates: Certificates, tmp_path: Path
) -> None:
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    shutil.copy(certificates.server_cert, certificate)
    shutil.copy(certificates.server_key, key)
    echo = start_echo(tls_cert_file=certificate, tls_key_file=key)
    host, port = echo.addresses.service.split(":")
    assert _served(host, int(port)) == certificates.server_cert.read_text().strip()
    certificate.unlink()  # half-way through the renewal
    assert _call(echo.addresses.service, Tls(certificates.ca)) == b"x"
    shutil.copy(certificates.client_cert, certificate)
    shutil.copy(certificates.client_key, key)
    assert _served(host, int(port)) == certificates.client_cert.read_text().strip()
    assert _call(echo.addresses.service, Tls(certificates.ca)) == b"x"


def _served(host: str, port: int) -> str:
    return ssl.get_server_certificate((host, port), timeout=5).strip()


def test_a_missing_file_is_named(start_echo: Any, certificates: Certificates, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        start_echo(tls_cert_file=certificates.server_cert, tls_key_file=tmp_path / "none.key")
    assert caught.value.field == "tls_key_file"
    assert "none.key" in str(caught.value)


def test_half_a_pair_is_refused(start_echo: Any, certificates: Certificates) -> None:
    with pytest.raises(InvalidInput):
        start_echo(tls_cert_file=certificates.server_cert)
    with pytest.raises(InvalidInput):
        start_echo(tls_client_ca_file=certificates.ca)
