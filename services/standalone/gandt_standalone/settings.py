# SPDX-License-Identifier: GPL-3.0-or-later
"""What the all-in-one process can be told; the services in it keep their own sections."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from gandt.runtime.settings import SectionSettings


class Settings(SectionSettings):
    """`[standalone]` in gandt.toml, `GANDT_STANDALONE__<KEY>`."""

    model_config = SettingsConfigDict(env_prefix="GANDT_STANDALONE__")

    project: Path = Field(default=Path(), description="Project folder; state lies in its .gandt.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe message that is logged, for all services of the process."
    )
    log_format: Literal["json", "text"] = Field(
        default="json", description="json for collectors, text for reading in a terminal."
    )
