# SPDX-License-Identifier: GPL-3.0-or-later
"""The services' sections of the configuration, checked by each service's own rules."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

from gandt.cli.configuration import ALL_IN_ONE, SERVICES, Config

if TYPE_CHECKING:
    from gandt.runtime.settings import SectionSettings


def load_section(config: Config, section: str) -> SectionSettings:
    """The settings that a service of this machine would start with.

    Raises:
        InvalidInput: a key is unknown or a value is not valid.
        ModuleNotFoundError: the service's libraries are not installed.
    """
    settings = importlib.import_module(f"gandt_{section}.settings").Settings
    from gandt_standalone.catalog import ON_ONE_MACHINE

    from gandt.runtime.settings import layered

    is_elsewhere = section in SERVICES and config.get("endpoints", section)
    own = {} if is_elsewhere else ON_ONE_MACHINE.get(section, {})
    loaded: SectionSettings = layered(
        settings, arguments={"config_file": config.file}, section=config.services.get(section), defaults=own
    )
    return loaded


def check_sections(config: Config) -> None:
    """Checks the sections that the user set, whether or not this command starts their services.

    Without that a wrong key would be an error in one command and silence in the next. An installation without the
    services' libraries has nothing that these sections could set, so there they are left alone.

    Raises:
        InvalidInput: as `load_section`.
    """
    for section in (*SERVICES, ALL_IN_ONE):
        prefix = f"GANDT_{section.upper()}__"
        if config.services.get(section) or any(name.upper().startswith(prefix) for name in os.environ):
            try:
                load_section(config, section)
            except ModuleNotFoundError:
                return
