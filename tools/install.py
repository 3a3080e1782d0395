# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs the pinned tools beyond Python into the tools cache, and links it as `.tools`.

buf is built by the Go client from a pinned version. With CI=true a missing tool is an error and Debian packages
(Chromium, PostgreSQL) are installed; otherwise nothing calls apt, and what is missing is listed: the tests that need
it skip.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GO_TOOLS = {"buf": "github.com/bufbuild/buf/cmd/buf@v1.75.0"}
DEBIAN = {"chromium": ("chromium", "fonts-dejavu-core"), "postgres": ("postgresql",)}
CI = os.environ.get("CI", "").lower() == "true"


def tools_folder() -> Path:
    """`~/.cache/gandt/tools/<hash>`: one folder a set of pins."""
    pins = hashlib.sha256(repr(sorted(GO_TOOLS.items())).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "gandt" / "tools" / pins


def build_go_tools(folder: Path) -> list[str]:
    """Builds what is not there yet and returns what cannot be built."""
    missing = []
    for name, package in GO_TOOLS.items():
        if (folder / name).exists():
            continue
        if shutil.which("go") is None:
            missing.append(f"{name} (needs Go)")
            continue
        print(f"building {package}", file=sys.stderr)
        env = dict(
            os.environ, GOBIN=str(folder), GOTOOLCHAIN="local", GOFLAGS="-trimpath", CGO_ENABLED="0", GOMAXPROCS="2"
        )
        done = subprocess.run(["go", "install", package], env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            missing.append(f"{name} ({done.stderr.strip().splitlines()[-1] if done.stderr else 'go install failed'})")
    return missing


def program(name: str) -> str | None:
    """Where a program is; Debian keeps PostgreSQL's server programs outside PATH."""
    found = shutil.which(name)
    return found or next((str(p) for p in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None)


def install_debian() -> list[str]:
    """Installs Debian packages in CI and returns the programs that are missing."""
    absent = {name: packages for name, packages in DEBIAN.items() if program(name) is None}
    if absent and CI and shutil.which("apt-get"):
        packages = [package for group in absent.values() for package in group]
        env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        subprocess.run(["apt-get", "update", "-qq"], env=env, check=True, stdout=sys.stderr)
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
        subprocess.run(install, env=env, check=True, stdout=subprocess.DEVNULL)
    return [name for name in DEBIAN if program(name) is None]


def main() -> int:
    folder = tools_folder()
    folder.mkdir(parents=True, exist_ok=True)
    link = ROOT / ".tools"
    if not link.is_symlink() or link.resolve() != folder.resolve():
        link.unlink(missing_ok=True)
        link.symlink_to(folder)
    missing = build_go_tools(folder) + install_debian()
    for name in missing:
        print(f"not here: {name}; the tests that need it are left out", file=sys.stderr)
    return 1 if missing and CI else 0


if __name__ == "__main__":
    sys.exit(main())
