# SPDX-License-Identifier: GPL-3.0-or-later
"""Flags that a verb has for plain files do nothing in a project, so there they are refused."""

from __future__ import annotations

import argparse
from collections.abc import Collection

from gandt.domain.errors import InvalidInput


def refuse_file_flags(args: argparse.Namespace, verb: str, for_projects: Collection[str], fix: str) -> None:
    """Raise InvalidInput for a flag that was given and counts on files only.

    Args:
        for_projects: names of the verb's own flags that count in a project too.
        fix: what to do instead.
    """
    from gandt.cli.main import build_parser, common_flags

    common = vars(common_flags().parse_args([]))
    blank = vars(build_parser(verb).parse_args([]))
    for name, value in vars(args).items():
        if name not in common and name not in for_projects and value != blank[name]:
            flag = f"--{name.replace('_', '-')}"
            raise InvalidInput(f"{flag} is for files, and no file is named", field=name, reason="USAGE", fix=fix)
