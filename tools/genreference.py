# SPDX-License-Identifier: GPL-3.0-or-later
"""Generates `docs/reference/` from the code, so that no page can forget or invent something.

- errors: each construction of a domain error with its class, reason, text and fix; `gandt explain` reads the same
  collection from `src/gandt/cli/reasons.json`
- cli: the parsers; settings: the settings classes; metrics: what each service declares

    python tools/genreference.py            write all
    python tools/genreference.py --check    exit 1 when a page is stale
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CODE = ("src/gandt", "services", "lambdas")
TARGET = ROOT / "src" / "gandt" / "cli" / "reasons.json"
PAGES = ROOT / "docs" / "reference"
LAYOUT = (3, 11)  # argparse lays help out otherwise in other versions of Python
SERVICES = ("embedding", "vectorsearch", "selection", "aggregation", "jobcontroller", "labeling")
# where each service declares its metrics
DECLARES = {
    "embedding": "gandt_embedding.pipeline",
    "vectorsearch": "gandt_vectorsearch.service",
    "selection": "gandt_selection.service",
    "aggregation": "gandt_aggregation.service",
    "jobcontroller": "gandt_jobcontroller.service.parts",
    "labeling": "gandt_labeling.service.ports",
}


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
    if isinstance(node, ast.IfExp):
        return template(node.body) or template(node.orelse)
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
    for branch in (given.body, given.orelse) if isinstance(given, ast.IfExp) else (given,):
        _note(reasons, template(branch) if branch is not None else classes[name], node, name, keywords)


def _note(
    reasons: dict[str, dict[str, Any]], reason: str, node: ast.Call, name: str, keywords: dict[str, ast.expr]
) -> None:
    if not reason.isupper():
        return
    entry = reasons.setdefault(reason, {"errors": set(), "texts": set(), "fixes": set()})
    entry["errors"].add(name)
    text = template(node.args[0]) if node.args else ""
    if text:
        entry["texts"].add(" ".join(text.split()))
    fix = template(keywords.get("fix"))
    if fix:
        entry["fixes"].add(" ".join(fix.split()))


def errors_page(reasons: dict[str, dict[str, Any]]) -> str:
    """Every reason, with its texts and fixes."""
    lines = [
        "# Errors",
        "",
        "Generated from the code. Each error carries its reason in the CLI's output, in gRPC `ErrorInfo.reason` and in",
        "the logs; `gandt explain REASON` prints the same.",
        "",
    ]
    for reason, entry in reasons.items():
        lines += [f"## {reason}", "", f"Class: {', '.join(f'`{name}`' for name in entry['errors'])}", ""]
        lines += [f"- {text}" for text in entry["texts"]]
        lines += [f"- *fix:* {fix}" for fix in entry["fixes"]]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def cli_page() -> str:
    """The help of every verb."""
    os.environ["COLUMNS"] = "100"
    from gandt.cli.main import VERBS, build_parser, usage

    lines = ["# Command line", "", "Generated from the parsers.", "", "```text", usage(), "```", ""]
    for verb in VERBS:
        lines += [f"## gandt {verb}", "", "```text", build_parser(verb).format_help().rstrip(), "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def settings_page() -> str:
    """Every setting of the CLI and of each service."""
    from gandt.cli.configuration import KEYS

    lines = [
        "# Settings",
        "",
        "Generated from the code. A value comes from flags, then the environment (`GANDT_<SECTION>__<KEY>`), then the",
        "project's `gandt.toml`, then `~/.config/gandt/config.toml`, then the default. `gandt config show` prints all.",
        "",
    ]
    for section, keys in KEYS.items():
        rows = [(key, repr(default) if default != "" else "", text) for key, (default, text) in keys.items()]
        lines += [f"## [{section}]", "", *_table(("key", "default", "what it is"), rows), ""]
    for service in (*SERVICES, "standalone"):
        settings = importlib.import_module(f"gandt_{service}.settings").Settings
        rows = [
            (key, _default(settings.model_fields[key]), settings.model_fields[key].description or "")
            for key in settings.known_keys()
        ]
        lines += [f"## [{service}]", "", *_table(("key", "default", "what it is"), rows), ""]
    return "\n".join(lines).rstrip() + "\n"


def _default(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    return "" if value is None or value == "" else str(value)


def metrics_page() -> str:
    """Every metric of each service."""
    lines = [
        "# Metrics",
        "",
        "Generated from the code. Every service also has `grpc_server_started_total`, `grpc_server_handled_total` and",
        "`grpc_server_handling_seconds` with the labels `grpc_type`, `grpc_service`, `grpc_method` (and `grpc_code`),",
        "and Prometheus' own `process_*` and `python_*`. Labels are bounded: never an image id or a worker id.",
        "",
    ]
    for service, module in DECLARES.items():
        metrics = importlib.import_module(module).METRICS
        rows = [(f"`{m.name}`", m.kind, ", ".join(m.labels), m.help) for m in metrics]
        lines += [f"## {service}", "", *_table(("metric", "type", "labels", "what it is"), rows), ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in [columns, *rows]]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return [lines[0], "|" + "---|" * len(columns), *lines[1:]]


def main() -> int:
    reasons = collect()
    chart = importlib.import_module("genchart")  # beside this file
    wanted = {
        TARGET: json.dumps(reasons, indent=1, ensure_ascii=False) + "\n",
        PAGES / "errors.md": errors_page(reasons),
        PAGES / "settings.md": settings_page(),
        PAGES.parent / "metrics.md": metrics_page(),
        chart.SCHEMA: chart.text(),
        **importlib.import_module("gendashboards").files(),
    }
    if sys.version_info[:2] == LAYOUT:
        wanted[PAGES / "cli.md"] = cli_page()
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
