# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples in docstrings of the core say the truth."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import gandt.domain

MODULES = [info.name for info in pkgutil.walk_packages(gandt.domain.__path__, "gandt.domain.")]
MODULES += ["gandt.tables.paths"]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
