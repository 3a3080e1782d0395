# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the values of settings come from.

Order: arguments (the CLI's flags) > environment `GANDT_<SERVICE>__<KEY>` > section
`[<service>]` of the project's gandt.toml > the same section of the user's file > defaults.
A key that nobody knows is an error that names the nearest known one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from gandt.domain.errors import InvalidInput
from gandt.runtime.config_files import read_config, unknown_setting, user_config

CONFIG_VARIABLE = "GANDT_CONFIG"
_PASSWORD = re.compile(r"(://[^/:@\s]*:)[^/@\s]+@")  # in a URL, as database_url has it

S = TypeVar("S", bound="SectionSettings")


@dataclass(frozen=True)
class SettingValue:
    """One line of `gandt config show`.

    Args:
        key: `<section>.<key>`.
        value: as text; secrets and passwords in URLs as asterisks.
        origin: `argument`, `environment NAME`, `FILE [section]` or `default`.
        description: what it is for, its unit and when to change it.
    """

    key: str
    value: str
    origin: str
    description: str


class SectionSettings(BaseSettings):
    """One section of the configuration. Subclasses set `env_prefix`, which names the section.

    Args:
        config_file: the project's gandt.toml; by default what the variable GANDT_CONFIG names, else none.

    Raises:
        InvalidInput: a key is unknown or a value is malformed (names the key and where it was found), or the
            configuration file does not exist.
    """

    model_config = SettingsConfigDict(extra="forbid", frozen=True, validate_default=True)
    config_file: Path | None = Field(
        default=None, description="The project's gandt.toml. Set by --config, --project or GANDT_CONFIG."
    )

    def __init__(self, **values: Any) -> None:
        if values.get("config_file") is None and os.environ.get(CONFIG_VARIABLE):
            values["config_file"] = Path(os.environ[CONFIG_VARIABLE])
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise self._explain(error, values) from None
        _check_environment(type(self))

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any, info: ValidationInfo) -> Any:
        """An environment variable cannot hold None, so an empty one means it where None is allowed."""
        allowed = get_args(cls.model_fields[info.field_name or ""].annotation)
        return None if value == "" and type(None) in allowed else value

    @classmethod
    def section(cls) -> str:
        """Name of the section: `GANDT_EMBEDDING__` gives `embedding`."""
        return cls.model_config.get("env_prefix", "").removeprefix("GANDT_").removesuffix("__").lower()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (pydantic calls it by name)
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, environment, project file, user file; no .env and no secrets folder."""
        given = init_settings.init_kwargs if isinstance(init_settings, InitSettingsSource) else {}
        files = [
            InitSettingsSource(settings_cls, read_section(path, cls.section(), known=cls.known_keys()))
            for path in _files(given.get("config_file"))
        ]
        return (init_settings, env_settings, *files)

    @classmethod
    def known_keys(cls) -> list[str]:
        """Every key that a file or the environment may set."""
        return [key for key in cls.model_fields if key != "config_file"]

    @classmethod
    def _explain(cls, error: ValidationError, values: Mapping[str, Any]) -> InvalidInput:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        top = str(first["loc"][0]) if first["loc"] else ""
        name = f"{cls.section()}.{key}" if key else cls.section()
        if first["type"] == "extra_forbidden":
            return unknown_setting(f"key {cls.section()}.{top}", top, cls.known_keys(), "the arguments")
        origin = _origin(cls, top, values, values.get("config_file"))
        return InvalidInput(
            f"setting {name} from {origin} is not valid: {first['msg']}", field=name, reason="INVALID_SETTING"
        )


def read_section(path: Path, section: str, known: Iterable[str]) -> dict[str, Any]:
    """One section of a configuration file; empty when the file lacks it.

    Raises:
        InvalidInput: the file cannot be read, or the section has a key that is not `known`.
    """
    content = read_config(path).get(section, {})
    if not isinstance(content, dict):
        raise InvalidInput(f"{section} in {path} is not a section", field=section, fix=f"write it as [{section}]")
    for key in content:
        if key not in set(known):
            raise unknown_setting(f"key {section}.{key}", key, known, str(path))
    return content


def describe(settings: SectionSettings, arguments: Iterable[str] = ()) -> list[SettingValue]:
    """Every setting with its value and where that came from, for `config show`.

    Args:
        settings: a loaded section.
        arguments: keys that were given by flags.
    """
    given = dict.fromkeys(arguments)
    cls = type(settings)
    return [
        SettingValue(
            f"{cls.section()}.{key}",
            _shown(getattr(settings, key)),
            _origin(cls, key, given, settings.config_file),
            cls.model_fields[key].description or "",
        )
        for key in cls.known_keys()
    ]


def layered(
    cls: type[S],
    *,
    arguments: Mapping[str, Any] | None = None,
    section: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> S:
    """Settings of a service that another program starts.

    Args:
        cls: the service's settings.
        arguments: win over everything.
        section: content of the service's configuration section, read already; loses to the environment.
        defaults: win over the class's own defaults only.
    Raises:
        InvalidInput: as the class itself.
    """
    for key in section or {}:
        if key not in cls.known_keys():
            raise unknown_setting(f"key {cls.section()}.{key}", key, cls.known_keys(), "the configuration")
    weak = {**(defaults or {}), **(section or {})}
    unset = {key: value for key, value in weak.items() if not _in_environment(cls, key)}
    return cls(**{**unset, **(arguments or {})})


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(str(part) for part in value)
    return "" if value is None else _PASSWORD.sub(r"\1***@", str(value))


def _files(config_file: Path | str | None) -> list[Path]:
    project = [Path(config_file)] if config_file else []
    return project + ([user_config()] if user_config().exists() else [])


def _in_environment(cls: type[SectionSettings], key: str) -> bool:
    variable = f"{cls.model_config.get('env_prefix', '')}{key}".upper()
    return any(name.upper() == variable for name in os.environ)


def _origin(cls: type[SectionSettings], key: str, given: Mapping[str, Any], config_file: Path | str | None) -> str:
    variable = f"{cls.model_config.get('env_prefix', '')}{key}".upper()
    if key in given:
        return "argument"
    if _in_environment(cls, key):
        return f"environment {variable}"
    for path in _files(config_file):
        if key in read_config(path).get(cls.section(), {}):
            return f"{path} [{cls.section()}]"
    return "default"


def _check_environment(cls: type[SectionSettings]) -> None:
    prefix = cls.model_config.get("env_prefix", "").upper()
    for name in os.environ:
        key = name.upper().removeprefix(prefix).lower()
        if prefix and name.upper().startswith(prefix) and key not in cls.known_keys():
            raise unknown_setting(f"key {cls.section()}.{key}", key, cls.known_keys(), f"environment {name}")
