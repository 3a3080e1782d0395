# SPDX-License-Identifier: GPL-3.0-or-later
"""Generates `src/gandt/api` from `proto/`.

The generator is pinned and old on purpose: code made by grpcio-tools X needs grpcio >= X
and the protobuf of its time, so an old generator keeps the clients' floor low. It lives in
an environment of its own in the tools cache, since its protobuf is not the runtime's.

    python tools/genproto.py            write the code
    python tools/genproto.py --check    exit 1 when the committed code is stale
    python tools/genproto.py --generator    print the python that has grpc_tools
"""

from __future__ import annotations

import argparse
import filecmp
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

PINS = ("grpcio-tools==1.71.2", "mypy-protobuf==3.6.0", "setuptools==80.9.0")
ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
API = ROOT / "src" / "gandt" / "api"
HEADER = "# GENERATED from proto/ by tools/genproto.py; never edited.\n"


def generator() -> Path:
    """The python of the pinned generator's environment, made on first use."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "gandt" / "tools"
    home = cache / ("genproto-" + re.sub(r"[^0-9.]+", "-", "".join(PINS)).strip("-"))
    python = home / "bin" / "python"
    if not (home / ".complete").exists():
        venv.create(home, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PINS], check=True)
        (home / ".complete").touch()
    return python


def generate(target: Path) -> None:
    """Writes the whole api package below `target`."""
    python = generator()
    protos = sorted(str(p.relative_to(PROTO)) for p in PROTO.rglob("*.proto"))
    env = dict(os.environ, PATH=f"{python.parent}{os.pathsep}{os.environ['PATH']}")
    with tempfile.TemporaryDirectory() as scratch:
        outs = [f"--{kind}_out={scratch}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
        subprocess.run(
            [python, "-m", "grpc_tools.protoc", f"-I{PROTO}", *outs, *protos],
            check=True,
            env=env,
            stderr=subprocess.PIPE,
        )
        for made in sorted(Path(scratch).rglob("*.py*")):
            out = target / made.relative_to(Path(scratch) / "gandt")
            if made.stem.endswith("_pb2_grpc") and "_SERVICE" not in made.stem and "type" in made.stem:
                continue  # messages only: nothing to call
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(HEADER + relocate(made.read_text()))
    for folder in [target, *(p for p in target.rglob("*") if p.is_dir())]:
        (folder / "__init__.py").touch()


def relocate(text: str) -> str:
    """Moves module names from `gandt.X.v1` to `gandt.api.X.v1`; in the builder call too, else nothing pickles."""
    text = re.sub(r"\b(from|import) gandt\.(\w+)\.v1\b", r"\1 gandt.api.\2.v1", text)
    text = re.sub(r"(BuildTopDescriptorsAndMessages\(DESCRIPTOR, ')gandt\.", r"\1gandt.api.", text)
    return re.sub(r"\bgandt\.(\w+)\.v1\.(\w+_pb2)\b", r"gandt.api.\1.v1.\2", text)


def differences(left: Path, right: Path) -> list[str]:
    """Files that are missing on a side or differ, relative to both."""
    names = {
        str(p.relative_to(side)) for side in (left, right) for p in side.rglob("*.py*") if "__pycache__" not in p.parts
    }
    return sorted(n for n in names if not _same(left / n, right / n))


def _same(left: Path, right: Path) -> bool:
    return left.is_file() and right.is_file() and filecmp.cmp(left, right, shallow=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only")
    parser.add_argument("--generator", action="store_true", help="print the generator's python")
    args = parser.parse_args()
    if args.generator:
        print(generator())
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch) / "api"
        fresh.mkdir()
        generate(fresh)
        stale = differences(fresh, API)
        if args.check:
            for name in stale:
                print(f"stale: src/gandt/api/{name}; run make proto", file=sys.stderr)
            return 1 if stale else 0
        shutil.rmtree(API, ignore_errors=True)
        shutil.copytree(fresh, API)
    return 0


if __name__ == "__main__":
    sys.exit(main())
