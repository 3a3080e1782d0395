# SPDX-License-Identifier: GPL-3.0-or-later
"""Ground Truth's rules for an input manifest: each line is checked, and a refusal names the line."""

from __future__ import annotations

import json

from gandt.domain.errors import InvalidInput

MAX_LINES = 100_000
MAX_LINE = 100_000  # characters
MAX_ATTRIBUTE = 20_000  # characters


def read_manifest(data: bytes) -> list[str]:
    """The lines of an input manifest, without line ends; blank lines are left out.

    Raises:
        InvalidInput: not UTF-8, empty, too many lines, or a line that breaks a rule (the text names it, from 1).
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the input manifest is not UTF-8 (byte {error.start})", field="ManifestS3Uri") from error
    lines = []
    # Only "\n" ends a line: str.splitlines would also cut at U+2028 inside a JSON string.
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip("\r ")
        if not line:
            continue
        _check_line(number, line)
        lines.append(line)
        if len(lines) > MAX_LINES:
            raise InvalidInput(f"the input manifest has more than {MAX_LINES} lines", field="ManifestS3Uri")
    if not lines:
        raise InvalidInput("the input manifest has no lines", field="ManifestS3Uri")
    return lines


def _check_line(number: int, line: str) -> None:
    if len(line) > MAX_LINE:
        raise _refused(number, f"it is {len(line)} characters long; the limit is {MAX_LINE}")
    try:
        value = json.loads(line)
    except ValueError as error:
        raise _refused(number, f"it is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise _refused(number, "it is not a JSON object")
    if ("source" in value) == ("source-ref" in value):
        raise _refused(number, "it needs exactly one of the keys source and source-ref")
    for key, attribute in value.items():
        if key.startswith("$"):
            raise _refused(number, f"the key {key!r} starts with '$'")
        size = len(attribute) if isinstance(attribute, str) else len(json.dumps(attribute))
        if size > MAX_ATTRIBUTE:
            raise _refused(number, f"{key!r} is {size} characters long; the limit is {MAX_ATTRIBUTE}")
    if not isinstance(value.get("source", ""), str) or not isinstance(value.get("source-ref", ""), str):
        raise _refused(number, "source and source-ref must be text")


def _refused(number: int, why: str) -> InvalidInput:
    return InvalidInput(
        f"line {number} of the input manifest cannot be used: {why}", field=f"line {number}", reason="MANIFEST_INVALID"
    )
