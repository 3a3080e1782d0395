# SPDX-License-Identifier: GPL-3.0-or-later
"""Where settings come from, which wins, and what a typo says."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from gandt.domain.errors import InvalidInput
from gandt.runtime.peers import Peers
from gandt.runtime.service_settings import ServiceSettings
from gandt.runtime.settings import describe, layered


class Settings(ServiceSettings):
    """A service named toy."""

    model_config = SettingsConfigDict(env_prefix="GANDT_TOY__")

    port: int = 50099
    database_url: str = ""
    max_batch: int = Field(default=32, ge=1, description="Images in one batch.")


@pytest.fixture(autouse=True)
def _no_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    monkeypatch.delenv("GANDT_CONFIG", raising=False)


def _project(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "gandt.toml"
    path.write_text(text)
    return path


def _user(tmp_path: Path, text: str) -> None:
    path = tmp_path / "user" / "gandt" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_each_source_wins_over_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _user(tmp_path, "[toy]\nmax_batch = 1\nport = 1\nworkers = 1\nstreams = 1\n")
    project = _project(tmp_path, "[toy]\nmax_batch = 2\nport = 2\nworkers = 2\n[other]\nx = 1\n")
    monkeypatch.setenv("GANDT_TOY__MAX_BATCH", "3")
    monkeypatch.setenv("gandt_toy__port", "3")
    settings = Settings(config_file=project, max_batch=4)
    assert (settings.max_batch, settings.port, settings.workers, settings.streams) == (4, 3, 2, 1)
    assert settings.queue == 256
    origins = {line.key: line.origin for line in describe(settings, arguments=["max_batch"])}
    assert origins["toy.max_batch"] == "argument"
    assert origins["toy.port"] == "environment GANDT_TOY__PORT"
    assert origins["toy.workers"] == f"{project} [toy]"
    assert origins["toy.streams"].endswith("config.toml [toy]")
    assert origins["toy.queue"] == "default"


def test_the_variable_names_the_project_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANDT_CONFIG", str(_project(tmp_path, "[toy]\nmax_batch = 7\n")))
    assert Settings().max_batch == 7
    monkeypatch.setenv("GANDT_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(InvalidInput):
        Settings()


def test_an_unknown_key_names_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = _project(tmp_path, "[toy]\nmax_bach = 7\n")
    with pytest.raises(InvalidInput) as in_file:
        Settings(config_file=project)
    assert "max_bach" in in_file.value.message
    assert str(project) in in_file.value.message
    assert in_file.value.fix == "did you mean max_batch?"
    monkeypatch.setenv("GANDT_TOY__WORKER", "1")
    with pytest.raises(InvalidInput) as in_environment:
        Settings()
    assert "GANDT_TOY__WORKER" in in_environment.value.message
    assert in_environment.value.fix == "did you mean workers?"
    assert in_environment.value.reason == "UNKNOWN_SETTING"
    monkeypatch.delenv("GANDT_TOY__WORKER")
    with pytest.raises(InvalidInput) as in_arguments:
        cast(Any, Settings)(prot=1)
    assert in_arguments.value.fix == "did you mean port?"


def test_a_bad_value_names_its_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANDT_TOY__PORT", "high")
    with pytest.raises(InvalidInput) as caught:
        Settings()
    assert caught.value.field == "toy.port"
    assert "GANDT_TOY__PORT" in caught.value.message
    monkeypatch.delenv("GANDT_TOY__PORT")
    project = _project(tmp_path, "[toy]\nmax_batch = 0\n")
    with pytest.raises(InvalidInput) as caught:
        Settings(config_file=project)
    assert str(project) in caught.value.message


def test_broken_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"gandt\.toml"):
        Settings(config_file=_project(tmp_path, "[toy\n"))
    with pytest.raises(InvalidInput, match="section"):
        Settings(config_file=_project(tmp_path, "toy = 3\n"))


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANDT_TOY__TOKEN", "open sesame")
    settings = Settings()
    assert settings.token == SecretStr("open sesame")
    assert "sesame" not in str(describe(settings)) + repr(settings)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://gandt:s3%40same@db:5432/gandt", "postgresql+psycopg://gandt:***@db:5432/gandt"),
        ("postgresql+psycopg://gandt@db/gandt", "postgresql+psycopg://gandt@db/gandt"),
        ("sqlite:////data/a@b.db", "sqlite:////data/a@b.db"),
        ("http://127.0.0.1:19530", "http://127.0.0.1:19530"),
    ],
)
def test_passwords_in_urls_are_not_shown(url: str, shown: str) -> None:
    (line,) = (line for line in describe(Settings(database_url=url)) if line.key == "toy.database_url")
    assert line.value == shown


def test_optional_ports_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANDT_TOY__HEALTH_PORT", "")
    assert Settings().health_port is None


def test_every_setting_says_what_it_is_for() -> None:
    assert [line.key for line in describe(ServiceSettings()) if not line.description] == []


def test_layers_of_an_embedding_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANDT_TOY__WORKERS", "3")
    settings = layered(
        Settings,
        arguments={"port": 1},
        section={"workers": 9, "max_batch": 9, "port": 9},
        defaults={"max_batch": 8, "queue": 8, "workers": 8},
    )
    assert (settings.port, settings.workers, settings.max_batch, settings.queue) == (1, 3, 9, 8)
    with pytest.raises(InvalidInput) as caught:
        layered(Settings, section={"que": 1})
    assert caught.value.fix == "did you mean queue?"


def test_configured_peers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GANDT_ENDPOINTS__SELECTION", "selection:50053")
    peers = Peers.configured(_project(tmp_path, '[endpoints]\naggregation = "a:1"\n'))
    assert peers.endpoint("selection") == "selection:50053"
    assert peers.endpoint("aggregation") == "a:1"
    assert peers.connect("selection") is peers.connect("selection")
    with pytest.raises(Exception, match="GANDT_ENDPOINTS__EMBEDDING"):
        peers.endpoint("embedding")
    peers.connect("embedding")  # naming a peer looks nothing up
    peers.close()
