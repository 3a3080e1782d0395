# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS, tokens and outages of a Milvus server, against a small server that answers as Milvus' proxy does."""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import SecretStr
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc

from gandt.adapters.milvus_server import Connection, MilvusServer
from gandt.adapters.milvus_session import options_of
from gandt.domain.errors import BackendUnavailable, GandtError, InvalidInput, Overloaded, WrongState

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl command is not here")
TOKEN = "root:secret"


@dataclass
class Proxy(milvus_pb2_grpc.MilvusServiceServicer):  # type: ignore[misc]
    """Lets in who has the token and the collections empty; `trouble` is what it says instead."""

    trouble: Callable[[grpc.ServicerContext], common_pb2.Status | None] = lambda _: None
    seen: list[str] = field(default_factory=list)

    def _enter(self, context: grpc.ServicerContext) -> None:
        given = dict(context.invocation_metadata()).get("authorization", "")
        self.seen.append(base64.b64decode(given).decode())
        if self.seen[-1] != TOKEN:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "auth check failure, please check username and password")

    def Connect(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._enter(context)
        return milvus_pb2.ConnectResponse(status=common_pb2.Status(), identifier=7)

    def GetVersion(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._enter(context)
        return milvus_pb2.GetVersionResponse(status=common_pb2.Status(), version="2.6.15")

    def ShowCollections(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._enter(context)
        return milvus_pb2.ShowCollectionsResponse(status=self.trouble(context) or common_pb2.Status())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem, and server and client certificates that it signed."""
    made = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=made, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    (made / "names").write_text("subjectAltName=DNS:milvus.example")
    for ca in ("ca", "other"):
        openssl("req", "-x509", *key, "-keyout", f"{ca}.key", "-out", f"{ca}.pem", "-days", "2", "-subj", f"/CN={ca}")
    for name in ("server", "client"):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signed)
    return made


@pytest.fixture(params=[False, True], ids=["tls", "mutual"])
def served(request: pytest.FixtureRequest, folder: Path) -> Iterator[tuple[Proxy, str, bool]]:
    """A proxy with TLS, its URI, and whether it asks for our certificate."""

    def read(name: str) -> bytes:
        return (folder / name).read_bytes()

    credentials = grpc.ssl_server_credentials(
        [(read("server.key"), read("server.pem"))],
        root_certificates=read("ca.pem") if request.param else None,
        require_client_auth=request.param,
    )
    proxy, server = Proxy(), grpc.server(futures.ThreadPoolExecutor(2))
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(proxy, server)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield proxy, f"https://127.0.0.1:{port}", request.param
    server.stop(None).wait()


def store(uri: str, folder: Path, mutual: bool, token: str = TOKEN, ca: str = "ca.pem") -> MilvusServer:
    own = (folder / "client.pem", folder / "client.key") if mutual else (None, None)
    options = options_of(uri, folder / ca, own[0], own[1], "milvus.example")
    return MilvusServer(Connection(uri, token, {**options, "timeout": 1.0}, timeout=1.0))


def test_the_token_travels_over_tls(served: tuple[Proxy, str, bool], folder: Path) -> None:
    proxy, uri, mutual = served
    opened = store(uri, folder, mutual)
    assert opened.list_collections() == []
    assert set(proxy.seen) == {TOKEN}
    opened.close()


def test_a_wrong_token_is_named_and_not_shown(served: tuple[Proxy, str, bool], folder: Path) -> None:
    _, uri, mutual = served
    with pytest.raises(WrongState) as caught:
        store(uri, folder, mutual, token="root:wrong").open()
    assert caught.value.reason == "MILVUS_ACCESS_DENIED"
    assert "milvus_token" in caught.value.fix
    assert "wrong" not in str(caught.value)


def test_a_server_of_another_authority_is_not_spoken_to(served: tuple[Proxy, str, bool], folder: Path) -> None:
    proxy, uri, mutual = served
    with pytest.raises(BackendUnavailable):
        store(uri, folder, mutual, ca="other.pem").open()
    assert proxy.seen == []


def test_without_our_certificate_a_server_that_asks_for_it_is_not_reached(
    served: tuple[Proxy, str, bool], folder: Path
) -> None:
    proxy, uri, mutual = served
    if mutual:
        with pytest.raises(BackendUnavailable):
            store(uri, folder, mutual=False).open()
        assert proxy.seen == []


@pytest.mark.parametrize(
    ("uri", "files", "problem"),
    [
        ("http://milvus", {"ca_file": "ca.pem"}, "not https"),
        ("http://milvus", {"server_name": "x"}, "not https"),
        ("https://milvus", {"client_cert_file": "client.pem", "ca_file": "ca.pem"}, "its key"),
        ("https://milvus", {"client_cert_file": "client.pem", "client_key_file": "client.key"}, "milvus_ca_file"),
        ("https://milvus", {"ca_file": "absent.pem"}, "is not a file"),
    ],
)
def test_settings_that_pymilvus_would_pass_over_are_refused(
    folder: Path, uri: str, files: dict[str, str], problem: str
) -> None:
    given: dict[str, Any] = {key: folder / name if key.endswith("file") else name for key, name in files.items()}
    with pytest.raises(InvalidInput, match=problem) as caught:
        options_of(uri, **given)
    assert caught.value.reason == "BAD_SETTING"


def refusal(code: int) -> Callable[[grpc.ServicerContext], common_pb2.Status]:
    return lambda _: common_pb2.Status(code=code, error_code=common_pb2.UnexpectedError, reason="said so")


def aborted(code: grpc.StatusCode) -> Callable[[grpc.ServicerContext], None]:
    return lambda context: context.abort(code, "said so")


@pytest.mark.parametrize(
    ("trouble", "error", "reason"),
    [
        (aborted(grpc.StatusCode.UNAVAILABLE), BackendUnavailable, "VECTOR_STORE_FAILED"),
        (aborted(grpc.StatusCode.RESOURCE_EXHAUSTED), BackendUnavailable, "VECTOR_STORE_FAILED"),
        (aborted(grpc.StatusCode.UNIMPLEMENTED), BackendUnavailable, "VECTOR_STORE_FAILED"),
        (aborted(grpc.StatusCode.PERMISSION_DENIED), WrongState, "MILVUS_ACCESS_DENIED"),
        (refusal(3), WrongState, "MILVUS_QUOTA_EXCEEDED"),
        (refusal(8), Overloaded, "MILVUS_RATE_LIMITED"),
        (refusal(9), WrongState, "MILVUS_QUOTA_EXCEEDED"),
        (refusal(1100), InvalidInput, "REFUSED_BY_MILVUS"),
        (refusal(65535), BackendUnavailable, "VECTOR_STORE_FAILED"),
    ],
)
@pytest.mark.parametrize("served", [False], indirect=True, ids=["tls"])
def test_what_a_server_says_becomes_our_errors(
    served: tuple[Proxy, str, bool], folder: Path, trouble: Any, error: type[GandtError], reason: str
) -> None:
    proxy, uri, _ = served
    opened = store(uri, folder, mutual=False)
    opened.open()
    proxy.trouble = trouble
    with pytest.raises(error, match="said so") as caught:
        opened.list_collections()
    assert caught.value.reason == reason
    opened.close()


@pytest.mark.parametrize("served", [False], indirect=True, ids=["tls"])
def test_an_outage_within_the_deadline_is_only_a_pause(served: tuple[Proxy, str, bool], folder: Path) -> None:
    proxy, uri, _ = served
    opened = store(uri, folder, mutual=False)
    opened.open()
    away = iter([True, True])

    def trouble(context: grpc.ServicerContext) -> None:
        if next(away, False):
            context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")

    proxy.trouble = trouble
    assert opened.list_collections() == []
    opened.close()


def test_the_token_is_not_shown_by_settings() -> None:
    from gandt_vectorsearch.settings import Settings

    assert "secret" not in repr(Settings(milvus_token=SecretStr(TOKEN)))
