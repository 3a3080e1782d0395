# SPDX-License-Identifier: GPL-3.0-or-later
"""The error table names every class that may be raised."""

from __future__ import annotations

import importlib
import pkgutil

import gandt.domain
import gandt.ports
from gandt.domain.errors import GandtError
from gandt.wire.errors import CODES, code_of


def _subclasses(cls: type[GandtError]) -> set[type[GandtError]]:
    found = set(cls.__subclasses__())
    return found.union(*(_subclasses(sub) for sub in found))


def test_every_error_has_a_row() -> None:
    for package in (gandt.domain, gandt.ports):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    ours = {cls for cls in _subclasses(GandtError) if cls.__module__.startswith("gandt")}
    public = {cls for cls in ours if not cls.__name__.startswith("_")}
    assert public <= set(CODES), "add the new error to the table in gandt.wire.errors"


def test_an_unlisted_subclass_takes_its_base_classs_row() -> None:
    class Odd(GandtError):
        pass

    assert code_of(Odd("x")) is CODES[GandtError]
