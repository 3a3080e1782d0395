# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the labeling service from its settings: object store, database, Lambdas, engine, HTTP."""

from __future__ import annotations

import ipaddress
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gandt.adapters.object_stores import open_objects
from gandt.adapters.pillow_images import PillowImages
from gandt.adapters.prometheus_meter import PrometheusMeter
from gandt.adapters.system_clock import SystemClock
from gandt.client.jobcontroller import JobControllerClient
from gandt.domain.errors import InvalidInput, PermissionDenied
from gandt.runtime.application import Application
from gandt.runtime.peers import Peers
from gandt_labeling.app import build_app
from gandt_labeling.lambdas.process_lambdas import ProcessLambdas
from gandt_labeling.liquid_pages import LiquidPages
from gandt_labeling.service.conduct import Conduct
from gandt_labeling.service.engine import Engine
from gandt_labeling.service.jobs import Home, LabelingJobs
from gandt_labeling.service.leases import Leases
from gandt_labeling.service.operator import Operator
from gandt_labeling.service.parts import Limits, Parts
from gandt_labeling.service.ports import METRICS, Controller
from gandt_labeling.service.steady_clock import SteadyClock
from gandt_labeling.service.tokens import Tokens
from gandt_labeling.service.workers import Workers
from gandt_labeling.service.workteams import Workteams
from gandt_labeling.settings import Settings
from gandt_labeling.sigv4 import Verifier
from gandt_labeling.store.database import Database
from gandt_labeling.store.lock import StoreLock
from gandt_labeling.web import Web

OPERATOR_TOKEN_FILE = "labeling.token"
MAX_SHOWN_PIXELS = 50_000_000  # of an image that is converted for the page: 150 MB while that lasts
SECRET_FILE = "labeling.key"


def bootstrap(
    settings: Settings, peers: Peers | None = None, controller: Callable[[], Controller | None] | None = None
) -> Application:
    """The application; its engine starts with `warm_up`.

    Args:
        peers: where the job controller is, for the operator's page; nothing else calls another service.
        controller: instead of what `peers` find.
    Raises:
        InvalidInput: it would listen beyond this machine without an access key.
        WrongState: another process serves the same data folder.
        BackendUnavailable: the database does not open.
    """
    verifier = _verifier(settings)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    # PostgreSQL is shared by design, and the deployment runs one replica; a SQLite file is guarded here.
    lock = None if settings.database_url else StoreLock(settings.data_dir / "labeling.lock")
    tokens = Tokens(_secret(settings).encode())
    clock = SystemClock()
    time = SteadyClock(clock)
    meter = PrometheusMeter(METRICS)
    objects = open_objects(settings.objects, settings.data_dir / "objects", settings.s3_endpoint_url)
    database = Database(settings.database_url or f"sqlite:///{settings.data_dir.absolute() / 'labeling.db'}")
    database.migrate()
    address = _Address(settings)
    lambdas = ProcessLambdas(settings.lambdas, address.lambda_environment)
    limits = Limits(
        settings.batch_size, settings.batch_seconds, settings.grace_seconds, settings.pre_seconds, settings.post_seconds
    )
    pages = LiquidPages()
    engine = Engine(Parts(database, objects, lambdas, pages, time, meter, limits))
    workers = Workers(database, time, tokens)
    home = Home(settings.region, settings.account)
    conduct = Conduct(settings.max_pages_per_worker, settings.least_page_seconds)
    web = Web(
        jobs=LabelingJobs(database, time, tokens, home, engine.wake, engine.disk_trouble),
        workteams=Workteams(database, tokens, home),
        leases=Leases(database, time, meter, limits.grace_seconds, engine.wake, conduct),
        workers=workers,
        operator=Operator(database, time),
        tokens=tokens,
        controller=controller or (lambda: _controller(peers)),
        objects=objects,
        pages=pages,
        clock=clock,
        verifier=verifier,
        operator_token=_operator_token(settings),
        browser_image=PillowImages(max_pixels=MAX_SHOWN_PIXELS).for_browsers,
        public_url=settings.public_url,
        inline_scripts=settings.inline_templates,
        max_object_bytes=settings.max_object_bytes,
        poll_seconds=settings.poll_seconds,
        not_found_as_validation=settings.not_found_as_validation,
    )

    def close() -> None:
        engine.begin_stop()
        lambdas.close()  # the engine may be waiting for one
        engine.stop()
        database.close()
        if lock is not None:
            lock.close()

    return Application(
        name="labeling",
        http=build_app(web, address.seen_at, loopback_only=verifier is None),
        warm_up=engine.start,
        close=close,
        registry=meter.registry,
    )


def _controller(peers: Peers | None) -> Controller | None:
    """The job controller, if one runs; it is not started for the operator's page."""
    if peers is None or not peers.running("jobcontroller"):
        return None
    return JobControllerClient(peers.connect("jobcontroller"))


@dataclass
class _Address:
    """Where we listen: known from the settings, or with port 0 from the first request."""

    settings: Settings
    _seen: str = ""

    def seen_at(self, host: str, port: int, scheme: str) -> None:
        if not self._seen:
            self._seen = f"{scheme}://{_reachable(host)}:{port}"

    def origin(self) -> str:
        settings = self.settings
        if settings.port:
            return f"{'https' if settings.tls_cert_file else 'http'}://{_reachable(settings.host)}:{settings.port}"
        return self._seen

    def lambda_environment(self) -> Mapping[str, str] | None:
        """What a handler's `boto3.client("s3")` needs to find the same objects as we."""
        settings = self.settings
        environment = {"AWS_DEFAULT_REGION": settings.region, "AWS_EC2_METADATA_DISABLED": "true"}
        if settings.objects == "s3":
            if settings.s3_endpoint_url:
                environment["AWS_ENDPOINT_URL_S3"] = settings.s3_endpoint_url
            return {**environment, "AWS_DEFAULT_REGION": os.environ.get("AWS_DEFAULT_REGION", settings.region)}
        if not self.origin():
            return None
        environment["AWS_ENDPOINT_URL_S3"] = f"{self.origin()}/s3"
        environment["AWS_ACCESS_KEY_ID"] = settings.access_key_id or "local"
        environment["AWS_SECRET_ACCESS_KEY"] = settings.secret_access_key.get_secret_value() or "local"
        environment["AWS_SESSION_TOKEN"] = ""
        if settings.tls_cert_file:
            environment["AWS_CA_BUNDLE"] = str(settings.tls_cert_file)
        return environment


def _reachable(host: str) -> str:
    """An address for ourselves: an IP where possible, because boto3 addresses buckets path-style only there."""
    known = {"0.0.0.0": "127.0.0.1", "localhost": "127.0.0.1", "::": "[::1]"}.get(host, host)
    return f"[{known}]" if ":" in known and not known.startswith("[") else known


def _verifier(settings: Settings) -> Verifier | None:
    secret = settings.secret_access_key.get_secret_value()
    if settings.access_key_id and secret:
        return Verifier(settings.access_key_id, secret)
    if settings.access_key_id or secret:
        raise InvalidInput(
            "access_key_id and secret_access_key belong together",
            field="labeling.access_key_id",
            fix="set both, or neither on loopback",
        )
    # A public_url means a proxy in front, which would carry the open API to everybody too.
    if not _is_loopback(settings.host) or settings.public_url:
        raise InvalidInput(
            f"the labeling API would be open to everybody who reaches {settings.public_url or settings.host}",
            field="labeling.host",
            reason="ACCESS_KEY_MISSING",
            fix="set GANDT_LABELING__ACCESS_KEY_ID and GANDT_LABELING__SECRET_ACCESS_KEY, or listen on 127.0.0.1",
        )
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _secret(settings: Settings) -> str:
    if settings.secret is not None:
        if len(settings.secret.get_secret_value().encode()) < 16:
            raise InvalidInput("the signing secret needs at least 16 bytes", field="labeling.secret")
        return settings.secret.get_secret_value()
    return _kept(settings.data_dir / SECRET_FILE)


def _operator_token(settings: Settings) -> str:
    return settings.token.get_secret_value() if settings.token else _kept(settings.data_dir / OPERATOR_TOKEN_FILE)


def _kept(path: Path) -> str:
    """A random text that is made once and kept in a file that only we can read."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if text := path.read_text().strip():
            return text
        handle = os.open(path, os.O_WRONLY | os.O_TRUNC, 0o600)  # a crash left it empty
    except OSError as error:
        raise PermissionDenied(f"{path} cannot be written: {error.strerror}", reason="DATA_DIR_READ_ONLY") from error
    with os.fdopen(handle, "w") as file:
        text = secrets.token_urlsafe(32)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return text
