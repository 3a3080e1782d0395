# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs one Lambda file as Lambda does: zipped, alone, in another interpreter where gandt cannot be imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

LAMBDAS = Path(__file__).resolve().parents[2] / "lambdas" / "gandt_lambdas"
RUNNER = """
import json, sys
archive, module, libraries, clean = sys.argv[1:]
if clean == "no":
    sys.path.append(libraries)          # boto3; an editable gandt hangs on a .pth file, which -S leaves unread
sys.path.insert(0, archive)
import importlib
handler = importlib.import_module(module).lambda_handler
for name in ("gandt", "gandt_lambdas"):
    try:
        importlib.import_module(name)
    except ImportError:
        continue
    sys.exit(f"{name} can be imported: the test proves nothing")
try:
    answer = {"answer": handler(json.load(sys.stdin), None)}
except Exception as e:
    answer = {"error": type(e).__name__, "message": str(e)}
json.dump(answer, sys.stdout)
"""
Invoke = Callable[..., Any]


@pytest.fixture
def invoke(tmp_path: Path) -> Invoke:
    """`invoke(module, event, env={}, clean=False)`: the handler's answer; `clean` hides boto3 too."""

    def call(module: str, event: Any, env: Mapping[str, str] | None = None, clean: bool = False) -> Any:
        archive = tmp_path / f"{module}.zip"
        with zipfile.ZipFile(archive, "w") as file:
            file.write(LAMBDAS / f"{module}.py", f"{module}.py")
        spec = find_spec("boto3")
        assert spec is not None
        assert spec.origin is not None
        libraries = str(Path(spec.origin).parents[1])
        command = [sys.executable, "-I", "-S", "-c", RUNNER, str(archive), module, libraries, "yes" if clean else "no"]
        variables = {"PATH": os.environ.get("PATH", ""), **(env or {})}
        done = subprocess.run(
            command, input=json.dumps(event), capture_output=True, text=True, env=variables, cwd=tmp_path, check=False
        )
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        if "error" in answer:
            pytest.fail(f"{answer['error']}: {answer['message']}")
        return answer["answer"]

    return call


@pytest.fixture
def s3() -> Iterator[tuple[dict[str, bytes], dict[str, str]]]:
    """A dictionary `bucket/key -> bytes` served as S3's GetObject, and the environment that points boto3 at it."""
    objects: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = objects.get(unquote(urlsplit(self.path).path).lstrip("/"))
            body = b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>" if data is None else data
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    environment = {
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{server.server_address[1]}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "local-1",
        "AWS_DEFAULT_REGION": "local-1",
    }
    yield objects, environment
    server.shutdown()
    thread.join()
    server.server_close()
