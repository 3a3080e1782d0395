# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints a script with which a shell completes verbs, flags and choices.

  eval "$(gandt completion bash)"                     # in ~/.bashrc
  eval "$(gandt completion zsh)"                      # in ~/.zshrc
  gandt completion fish > ~/.config/fish/completions/gandt.fish

The script is made from the parsers and asks nobody while you type; print it anew after an update.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence

from gandt.cli import exit_codes
from gandt.cli.context import Context

READS_CONFIGURATION = False
VALUES = "values"  # what may follow a verb that takes no flag


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=["bash", "zsh", "fish"], help="for which shell")


def run(args: argparse.Namespace, ctx: Context) -> int:
    from gandt.cli.main import VERBS, build_parser

    words = {verb: words_of(build_parser(verb)) for verb in VERBS}
    script = _fish(words, VERBS) if args.shell == "fish" else _bash(words, zsh=args.shell == "zsh")
    if args.json:
        ctx.out.summary({"shell": args.shell, "script": script})
    else:
        sys.stdout.write(script)
    return exit_codes.DONE


def words_of(parser: argparse.ArgumentParser) -> dict[str, Sequence[str]]:
    """The choices that may follow each flag (none where it takes any value or no value), and under VALUES the choices
    of the arguments without a flag."""
    words: dict[str, Sequence[str]] = {VALUES: ()}
    for action in parser._actions:  # argparse has no public way to list them
        choices = tuple(str(choice) for choice in action.choices or ())
        for flag in action.option_strings:
            words[flag] = choices
        if not action.option_strings and choices:
            words[VALUES] = (*words[VALUES], *choices)
    return words


def _bash(words: Mapping[str, Mapping[str, Sequence[str]]], zsh: bool) -> str:
    lines = ["# gandt completion; made by `gandt completion`"]
    if zsh:
        lines += ["autoload -U +X compinit && compinit", "autoload -U +X bashcompinit && bashcompinit"]
    lines += [
        "_gandt() {",
        '  local current="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" verb="" word words=""',
        '  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do',
        f'    case "$word" in {"|".join(words)}) verb="$word"; break ;; esac',
        "  done",
        '  case "$verb $before" in',
    ]
    for verb, flags in words.items():
        for flag, choices in flags.items():
            if flag != VALUES and choices:
                lines.append(f"    {shlex.quote(f'{verb} {flag}')}) words={shlex.quote(' '.join(choices))} ;;")
    lines += ['    *) case "$verb" in']
    for verb, flags in words.items():
        offered = [*flags[VALUES], *(flag for flag in flags if flag != VALUES)]
        lines.append(f"      {verb}) words={shlex.quote(' '.join(offered))} ;;")
    lines += [
        f"      *) words={shlex.quote(' '.join(words))} ;;",
        "    esac ;;",
        "  esac",
        '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
        "}",
        "complete -o default -F _gandt gandt",
        "",
    ]
    return "\n".join(lines)


def _fish(words: Mapping[str, Mapping[str, Sequence[str]]], purposes: Mapping[str, str]) -> str:
    lines = ["# gandt completion; made by `gandt completion`"]
    for verb, flags in words.items():
        purpose = shlex.quote(purposes[verb])
        lines.append(f"complete -c gandt -n __fish_use_subcommand -a {verb} -d {purpose}")
        here = f"-n '__fish_seen_subcommand_from {verb}'"
        for flag, choices in flags.items():
            given = f" -xa {shlex.quote(' '.join(choices))}" if choices else ""
            if flag == VALUES:
                lines += [f"complete -c gandt {here}{given}"] if choices else []
            elif flag.startswith("--"):
                lines.append(f"complete -c gandt {here} -l {flag[2:]}{given}")
            else:
                lines.append(f"complete -c gandt {here} -s {flag[1:]}{given}")
    return "\n".join([*lines, ""])
