# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints every setting in force and where its value comes from.

gandt config show                 all sections
gandt config show embedding       one section
"""

from __future__ import annotations

import argparse

from gandt.cli import exit_codes
from gandt.cli.configuration import ALL_IN_ONE, KEYS, SECRETS, SERVICES
from gandt.cli.context import Context
from gandt.cli.service_sections import load_section
from gandt.domain.errors import InvalidInput
from gandt.domain.nearest_name import nearest_name


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["show"], help="what to do")
    parser.add_argument("section", nargs="?", metavar="SECTION", help="only this section")


def run(args: argparse.Namespace, ctx: Context) -> int:
    known = [*KEYS, *SERVICES, ALL_IN_ONE]
    if args.section and args.section not in known:
        raise InvalidInput(
            f"there is no section {args.section!r}", reason="UNKNOWN_SETTING", fix=nearest_name(args.section, known)
        )
    rows = [row for section in known if args.section in (None, section) for row in _rows(section, ctx)]
    ctx.out.table(("setting", "value", "from"), [row[:3] for row in rows])
    if args.json:
        ctx.out.summary(
            {"settings": [dict(zip(("key", "value", "origin", "description"), r, strict=True)) for r in rows]}
        )
    return exit_codes.DONE


def _rows(section: str, ctx: Context) -> list[tuple[str, str, str, str]]:
    """(key, value, origin, description) of one section."""
    if section in KEYS:
        return [
            (f"{section}.{key}", _shown(section, key, value.value), value.origin, KEYS[section][key][1])
            for name, key, value in ctx.config.items()
            if name == section
        ]
    try:
        from gandt.runtime.settings import describe

        loaded = load_section(ctx.config, section)
    except ModuleNotFoundError as e:
        ctx.out.note(f"section [{section}] is left out: the Python package {e.name} is not installed")
        return []
    return [(v.key, v.value, v.origin, v.description) for v in describe(loaded)]


def _shown(section: str, key: str, value: object) -> str:
    if (section, key) in SECRETS:
        return "**********" if value else ""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
