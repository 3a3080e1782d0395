# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation holds: links lead somewhere, and every `gandt` command in it parses."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gandt.cli.main import VERBS, build_parser, split_verb
from gandt.domain.errors import GandtError

ROOT = Path(__file__).resolve().parent.parent.parent
GENERATED = {"docs/reference/cli.md", "docs/reference/errors.md", "docs/reference/settings.md", "docs/metrics.md"}
SHELLS = {"", "sh", "bash", "shell", "console"}
FENCE = re.compile(r"^\s*(`{3,}|~{3,})\s*(\w*)")
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
OPERATORS = set("|&;<>()")


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Line:
    """A line of a page, and the language of the code block that it is in; None in prose."""

    number: int
    text: str
    language: str | None


def lines(text: str) -> Iterator[Line]:
    """The lines of a page: fenced blocks with their language, indented ones with none."""
    fence, language, is_block = "", "", False
    after_blank = True
    for number, line in enumerate(text.splitlines(), 1):
        found = FENCE.match(line)
        if fence:
            if found and found[1].startswith(fence):
                fence = ""
            else:
                yield Line(number, line, language)
            continue
        if found:
            fence, language = found[1], found[2].lower()
            continue
        is_block = line.startswith("    ") and (is_block or after_blank)
        after_blank = not line.strip()
        yield Line(number, line, "" if is_block else None)


def commands(text: str) -> Iterator[tuple[int, list[str]]]:
    """The arguments of each `gandt` command in the shell blocks of a page, with its line."""
    start, joined = 0, ""
    for line in lines(text):
        if line.language not in SHELLS:
            start, joined = 0, ""
            continue
        start = start or line.number
        joined += line.text.strip().removeprefix("$ ")
        if joined.endswith("\\"):
            joined = joined[:-1] + " "
            continue
        for argv in parts(joined):
            if argv and argv[0].rpartition("/")[2] == "gandt":
                yield start, argv[1:]
        start, joined = 0, ""


def parts(line: str) -> Iterator[list[str]]:
    """The simple commands of a shell line, without assignments, redirections and comments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        tokens = list(lexer)
    except ValueError:  # not shell: an open quote of a picture or a sentence
        return
    command: list[str] = []
    skip = False
    for token in tokens:
        if skip:
            skip = False
        elif set(token) <= OPERATORS:
            if set(token) & set("<>"):
                skip = True  # the file that follows
                if command and command[-1].isdigit():
                    command.pop()  # the 2 of 2>
            else:
                yield command
                command = []
        elif command or not re.match(r"^[A-Za-z_]\w*=", token):
            command.append(token)
    yield command


def slug(heading: str) -> str:
    """The anchor that is made of a heading."""
    plain = re.sub(r"[^\w\- ]", "", re.sub(r"`|\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower())
    return plain.strip().replace(" ", "-")


@pytest.mark.parametrize("page", pages(), ids=name)
def test_relative_links_resolve(page: Path) -> None:
    broken = []
    for line in lines(page.read_text(encoding="utf-8")):
        if line.language is not None:
            continue
        for target in LINK.findall(re.sub(r"(`+)[^`]+\1(?!\])", "", line.text)):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            if not there.exists():
                broken.append(f"{name(page)}, line {line.number}: {target} is not there")
            elif anchor and there.suffix == ".md" and anchor not in anchors(there):
                broken.append(f"{name(page)}, line {line.number}: {target} has no such heading")
    assert not broken, "\n".join(broken)


def anchors(page: Path) -> set[str]:
    text = page.read_text(encoding="utf-8")
    return {slug(line.text.lstrip("#")) for line in lines(text) if line.language is None and line.text.startswith("#")}


@pytest.mark.parametrize("page", [p for p in pages() if name(p) not in GENERATED], ids=name)
def test_commands_parse(page: Path) -> None:
    wrong = []
    for number, arguments in commands(page.read_text(encoding="utf-8")):
        problem = fault(arguments)
        if problem:
            wrong.append(f"{name(page)}, line {number}: gandt {shlex.join(arguments)}: {problem}")
    assert not wrong, "\n".join(wrong)


def fault(arguments: list[str]) -> str:
    """Why a command is refused before it begins; "" when it is not."""
    if arguments in ([], ["--help"], ["--version"]):
        return ""
    verb, rest = split_verb(arguments)
    if verb not in VERBS:
        return f"there is no verb {verb!r}"
    try:
        build_parser(verb).parse_args([argument for argument in rest if argument not in ("-h", "--help")])
    except GandtError as error:
        return "" if "--help" in rest else str(error)
    return ""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("```sh\ngandt run photos \\\n    --open   # look\n```", [["run", "photos", "--open"]]),
        ("see:\n\n    $ A=b .venv/bin/gandt embed x -o v.parquet && gandt status > s.txt", [
            ["embed", "x", "-o", "v.parquet"], ["status"]]),
        ("```sh\ncat a.csv | gandt aggregate - 2> log\ngandt serve &\n```", [["aggregate", "-"], ["serve"]]),
        ("```text\ngandt nothing\n```\ngandt in prose", []),
        ("```sh\npip install gandt\n```", []),
    ],
)  # fmt: skip
def test_commands_are_found(text: str, found: list[list[str]]) -> None:
    assert [arguments for _, arguments in commands(text)] == found


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["invent"], "no verb"),
        (["run", "photos", "--clases", "a"], "--clases"),
        (["export"], "--output"),
        (["seed", "a.csv", "--kind", "silver"], "silver"),
        (["status", "--json"], ""),
    ],
)
def test_faults_are_noticed(arguments: list[str], part: str) -> None:
    problem = fault(arguments)
    assert part in problem
    assert bool(problem) == bool(part)


def test_pages_have_commands() -> None:
    """The reader of code blocks has not gone blind."""
    found = [verb for page in pages() for _, (verb, *_) in commands(page.read_text(encoding="utf-8")) if verb]
    assert len(found) > 40
    assert {"run", "select", "launch", "aggregate", "serve"} <= set(found)
