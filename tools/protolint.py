# SPDX-License-Identifier: GPL-3.0-or-later
"""Lints `proto/` by buf's STANDARD and COMMENTS rules; without buf by an equal check of the rules that matter most.

The check without buf: package equals folder; every service, method, message, field and enum value has a comment; enum
values carry their enum's prefix and begin with `_UNSPECIFIED` at zero; each method has its own XRequest and XResponse.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def problems(path: Path) -> list[str]:
    """What the small check finds in one file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found: list[str] = []
    package = next((m[1] for line in lines if (m := re.match(r"package ([\w.]+);", line))), "")
    if package.replace(".", "/") != str(path.parent.relative_to(ROOT / "proto")):
        found.append(f"{path}: package {package} does not equal its folder")
    prefix = ""
    for number, line in enumerate(lines, 1):
        text = line.strip()
        where = f"{path}:{number}"
        if m := re.match(r"enum (\w+)", text):
            prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", m[1]).upper() + "_"
        if m := re.match(r"([A-Z][A-Z0-9_]*) = (\d+);", text):
            if not m[1].startswith(prefix):
                found.append(f"{where}: enum value {m[1]} lacks the prefix {prefix}")
            if m[2] == "0" and m[1] != prefix + "UNSPECIFIED":
                found.append(f"{where}: value zero of an enum is called {prefix}UNSPECIFIED")
        m = re.match(r"rpc (\w+)\((?:stream )?(\w+)\) returns \((?:stream )?(\w+)\)", text)
        if m and (m[2], m[3]) != (m[1] + "Request", m[1] + "Response"):
            found.append(f"{where}: {m[1]} must take {m[1]}Request and return {m[1]}Response")
        declares = re.match(r"(service|rpc|message|enum|oneof) \w+|[\w.<>, ]+ \w+ = \d+;", text)
        if declares and not text.startswith("option") and not lines[number - 2].strip().startswith("//"):
            found.append(f"{where}: no comment above `{text[:40]}`")
    return found


def main() -> int:
    buf = ROOT / ".tools" / "buf"
    if buf.exists():
        return subprocess.run([buf, "lint"], cwd=ROOT, check=False).returncode
    if os.environ.get("CI", "").lower() == "true":
        print("buf is not here; run make tools", file=sys.stderr)
        return 1
    found = [problem for path in sorted((ROOT / "proto").rglob("*.proto")) for problem in problems(path)]
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
