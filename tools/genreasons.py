# SPDX-License-Identifier: GPL-3.0-or-later
"""Collects every error that the code can raise into `src/gandt/cli/reasons.json` and `docs/reference/errors.md`.

Source is the code itself: each construction of a domain error with its class, reason, text and fix. So `gandt explain`
and the reference page cannot forget one.

    python tools/genreasons.py            write both
    python tools/genreasons.py --check    exit 1 when they are stale
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CODE = ("src/gandt", "services", "lambdas")
TARGET = ROOT / "src" / "gandt" / "cli" / "reasons.json"
PAGE = ROOT / "docs" / "reference" / "errors.md"


def error_classes() -> dict[str, str]:
    """Default reason of each domain error class."""
    tree = ast.parse((ROOT / "src/gandt/domain/errors.py").read_text(encoding="utf-8"))
    found = {}
    for node in tree.body:
        if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
            continue
        for statement in node.body:
            if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
                found[node.name] = str(statement.value.value)
    return found


def template(node: ast.AST | None) -> str:
    """The text of a string, with what is filled in shown as `{...}`; "" when it is made elsewhere."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = [str(v.value) if isinstance(v, ast.Constant) else "{…}" for v in node.values]
        return "".join(parts)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return template(node.left) + template(node.right)
    return ""


def collect() -> dict[str, dict[str, Any]]:
    """Reason -> classes, texts and fixes."""
    classes = error_classes()
    reasons: dict[str, dict[str, Any]] = {}
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "/api/" in str(path):
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in classes:
                    _add(reasons, node, node.func.id, classes)
    for entry in reasons.values():
        for key in ("errors", "texts", "fixes"):
            entry[key] = sorted(entry[key])
    return dict(sorted(reasons.items()))


def _add(reasons: dict[str, dict[str, Any]], node: ast.Call, name: str, classes: dict[str, str]) -> None:
    keywords = {k.arg: k.value for k in node.keywords if k.arg}
    given = keywords.get("reason")
    reason = template(given) if given is not None else classes[name]
    if not reason or not reason.isupper():
        return
    entry = reasons.setdefault(reason, {"errors": set(), "texts": set(), "fixes": set()})
    entry["errors"].add(name)
    text = template(node.args[0]) if node.args else ""
    if text:
        entry["texts"].add(" ".join(text.split()))
    fix = template(keywords.get("fix"))
    if fix:
        entry["fixes"].add(" ".join(fix.split()))


def page(reasons: dict[str, dict[str, Any]]) -> str:
    """The reference page."""
    lines = [
        "# Errors",
        "",
        "Generated from the code by `tools/genreasons.py`. Each error carries its reason in the CLI's output, in gRPC",
        "`ErrorInfo.reason` and in the logs; `gandt explain REASON` prints the same.",
        "",
    ]
    for reason, entry in reasons.items():
        lines += [f"## {reason}", "", f"Class: {', '.join(f'`{name}`' for name in entry['errors'])}", ""]
        lines += [f"- {text}" for text in entry["texts"]]
        lines += [f"- *fix:* {fix}" for fix in entry["fixes"]]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    reasons = collect()
    wanted = {TARGET: json.dumps(reasons, indent=1, ensure_ascii=False) + "\n", PAGE: page(reasons)}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"stale: {path.relative_to(ROOT)}; run make reference", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
