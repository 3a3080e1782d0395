# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration files as the CLI and the services read them; the standard library is all it takes."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gandt.domain.errors import InvalidInput


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


def nearest(name: str, known: Iterable[str]) -> str:
    """What to do about a name that nobody knows: the nearest known one, or all of them."""
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"


def unknown_setting(what: str, name: str, known: Iterable[str], where: str) -> InvalidInput:
    """The error for a section or key that nobody reads.

    Args:
        what: as in `key project.clases`.
        where: the file, or the environment.
    """
    return InvalidInput(f"{where}: there is no {what}", field=name, reason="UNKNOWN_SETTING", fix=nearest(name, known))
