# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration files as the CLI and the services read them; the standard library is all it takes."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gandt.domain.errors import InvalidInput
from gandt.domain.nearest_name import nearest_name


def user_config(environment: Mapping[str, str] | None = None) -> Path:
    """The user's own file, `$XDG_CONFIG_HOME/gandt/config.toml`; it need not exist."""
    base = (os.environ if environment is None else environment).get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "gandt" / "config.toml"


def read_config(path: Path) -> dict[str, Any]:
    """A whole configuration file.

    Raises:
        InvalidInput: there is no such file (CONFIG_NOT_FOUND), or it cannot be read as TOML (INVALID_SETTING).
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidInput(f"there is no configuration file {path}", reason="CONFIG_NOT_FOUND") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not valid TOML: {error}", field=str(path), reason="INVALID_SETTING") from error
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be read: {error.strerror}", field=str(path), reason="INVALID_SETTING"
        ) from error


def unknown_setting(what: str, name: str, known: Iterable[str], where: str) -> InvalidInput:
    """The error for a section or key that nobody reads.

    Args:
        what: as in `key project.clases`.
        where: the file, or the environment.
    """
    return InvalidInput(
        f"{where}: there is no {what}", field=name, reason="UNKNOWN_SETTING", fix=nearest_name(name, known)
    )
