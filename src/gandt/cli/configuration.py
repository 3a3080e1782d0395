# SPDX-License-Identifier: GPL-3.0-or-later
"""The CLI's configuration: flags > environment > the project's gandt.toml > the user's file > defaults.

`[project]` and `[endpoints]` are known here key by key. The sections of the services are
handed to them and checked there, by the same rule: an unknown key names the nearest one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gandt.domain.errors import InvalidInput
from gandt.runtime.config_files import read_config, unknown_setting, user_config

SERVICES = ("embedding", "vectorsearch", "selection", "aggregation", "jobcontroller", "labeling")
ALL_IN_ONE = "standalone"  # the process that runs them all has a section too
SECRETS = {("endpoints", "token"), ("endpoints", "labeling_token")}

# section -> key -> (default, what it is)
KEYS: dict[str, dict[str, tuple[Any, str]]] = {
    "project": {
        "name": ("", "name of the campaign; the folder's name when empty"),
        "images": ([], "folders that `gandt ingest` reads when none is given"),
        "classes": ([], "label space, in the order that people see"),
        "other_label": ("", "the label that means none of these"),
        "multi_label": (False, "whether an image may carry several labels"),
        "target_labels": ([], "labels to find more of"),
        "instructions": ("", "what workers are told"),
        "budget_usd": (0.0, "most money in all, US dollars"),
        "price_per_page_usd": (0.0, "pay for one page by one worker, US dollars"),
        "fee_per_page_usd": (0.0, "the backend's fee for one labeled page, US dollars"),
        "round_size": (40, "images a round"),
        "group_size": (20, "images a page"),
        "workers_per_image": (3, "workers an image at first"),
        "max_workers_per_image": (5, "most workers an image, with repeats of doubtful ones"),
        "strategy": ("", "selection strategy; auto when empty"),
        "control_fraction": (0.1, "share of a round drawn uniformly, in [0, 1]"),
        "method": ("", "aggregation method; auto when empty"),
        "gold_fraction": (0.0, "share of a page's tiles that are gold, in [0, 0.5]"),
        "max_rounds": (0, "most rounds; 0 is no limit"),
        "max_labels": (0, "most labels bought; 0 is no limit"),
        "max_answers": (0, "most answers bought; 0 is no limit"),
        "min_yield": (0.05, "share of targets among main picks below which a round is poor; two poor rounds end it"),
        "prove_recall": (0.0, "share of the wanted images that is to be proven found, in [0, 1); 0 proves nothing"),
        "confidence": (0.9, "confidence of every proven bound, over all looks together"),
        "part_size": (0, "images selected at a time; a larger round is topped up from the answers so far; 0 is whole"),
        "workteam_arn": ("", "work team at the labeling backend; the configured one when empty"),
        "seed": (0, "seed of all randomness"),
    },
    "endpoints": {
        **{name: ("", f"HOST:PORT of the {name} service; started in this process when empty") for name in SERVICES},
        "token": ("", "bearer token for all of them; better in GANDT_ENDPOINTS__TOKEN than in a file"),
        "labeling_token": ("", "operator's token of the labeling service; the project's own when empty"),
        "tls_ca_file": ("", "PEM of their CA; with it all calls use TLS"),
        "tls_cert_file": ("", "PEM client certificate for mTLS"),
        "tls_key_file": ("", "PEM key of tls_cert_file"),
    },
}


@dataclass(frozen=True, slots=True)
class Value:
    """A setting and where it came from."""

    value: Any
    origin: str


class Config:
    """Settings of the sections that the CLI knows, each with its origin, and the services' raw sections."""

    def __init__(
        self, values: dict[str, dict[str, Value]], services: dict[str, dict[str, Any]], file: Path | None
    ) -> None:
        self._values = values
        self.services = services
        self.file = file

    def get(self, section: str, key: str) -> Any:
        """The value of a known key."""
        return self._values[section][key].value

    def section(self, name: str) -> dict[str, Any]:
        """All values of a known section."""
        return {key: v.value for key, v in self._values[name].items()}

    def items(self) -> list[tuple[str, str, Value]]:
        """(section, key, value with origin) of all known keys."""
        return [(section, key, v) for section, keys in self._values.items() for key, v in keys.items()]


def load(project: Path, file: str | None = None, environment: Mapping[str, str] | None = None) -> Config:
    """Reads all layers.

    Args:
        project: folder whose gandt.toml is read when it is there.
        file: read this instead; must exist.
    Raises:
        InvalidInput: unreadable TOML, an unknown section or key (names the nearest), a value of the wrong type.
    """
    environment = os.environ if environment is None else environment
    values, services = _defaults()
    main_file = Path(file) if file else project / "gandt.toml"
    for path, needed in ((user_config(environment), False), (main_file, bool(file))):
        for section, content in _read(path, needed).items():
            _apply(section, content, str(path), values, services)
    for section in KEYS:
        prefix = f"GANDT_{section.upper()}__"
        found = {k[len(prefix) :].lower(): v for k, v in environment.items() if k.startswith(prefix)}
        _apply(
            section, {k: _from_text(section, k, v, prefix) for k, v in found.items()}, "environment", values, services
        )
    return Config(values, services, main_file if main_file.exists() else None)


def defaults() -> Config:
    """No file and no environment, for commands that must work also where those are wrong."""
    return Config(*_defaults(), None)


def _defaults() -> tuple[dict[str, dict[str, Value]], dict[str, dict[str, Any]]]:
    values = {s: {k: Value(default, "default") for k, (default, _) in keys.items()} for s, keys in KEYS.items()}
    return values, {name: {} for name in (*SERVICES, ALL_IN_ONE)}


def _read(path: Path, needed: bool) -> dict[str, Any]:
    try:
        return read_config(path)
    except InvalidInput as error:
        if error.reason == "CONFIG_NOT_FOUND" and not needed:
            return {}
        raise


def _apply(
    section: str, content: Any, origin: str, values: dict[str, dict[str, Value]], services: dict[str, dict[str, Any]]
) -> None:
    if not isinstance(content, dict):
        raise InvalidInput(
            f"{origin}: {section!r} stands outside any section", reason="INVALID_SETTING", fix="put it under [project]"
        )
    if section in services:
        services[section].update(content)
        return
    if section not in values:
        raise unknown_setting(f"section [{section}]", section, [*values, *services], origin)
    for key, value in content.items():
        if key not in values[section]:
            raise unknown_setting(f"key {section}.{key}", key, list(values[section]), origin)
        values[section][key] = Value(_typed(section, key, value, origin), origin)


def _typed(section: str, key: str, value: Any, origin: str) -> Any:
    default = KEYS[section][key][0]
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not type(default):
        kind = {str: "text", int: "a whole number", float: "a number", bool: "true or false", list: "a list"}[
            type(default)
        ]
        raise InvalidInput(
            f"{origin}: {section}.{key} is {value!r}, it must be {kind}", field=key, reason="INVALID_SETTING"
        )
    return value


def _from_text(section: str, key: str, text: str, prefix: str) -> Any:
    default = KEYS[section].get(key, ("",))[0]
    try:
        if isinstance(default, bool):
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if isinstance(default, list):
            return [part.strip() for part in text.split(",") if part.strip()]
        return type(default)(text)
    except (ValueError, KeyError):
        raise InvalidInput(
            f"environment: {prefix}{key.upper()} is {text!r}", field=key, reason="INVALID_SETTING"
        ) from None
