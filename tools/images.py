# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the images of the Dockerfile with docker, or with buildah where there is no docker.

Usage: images.py [TARGET...]. GANDT_BASE names the base image (by digest in a release), GANDT_TORCH_INDEX the index of
torch wheels for CPUs (empty: without torch).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILDAH = ("buildah", "--storage-driver", os.environ.get("STORAGE_DRIVER", "vfs"), "bud", "--isolation", "chroot")


def targets() -> list[str]:
    """The images that the Dockerfile makes: its stages from `runtime`."""
    return re.findall(r"^FROM runtime AS (\w+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.M)


def builder() -> list[str]:
    """The command that builds; docker only where its daemon answers.

    Raises:
        SystemExit: there is neither.
    """
    if shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0:
        return ["docker", "build"]
    if shutil.which("buildah"):
        return list(BUILDAH)
    raise SystemExit("images need docker, or buildah (Debian package buildah): neither is here")


def main() -> int:
    wanted = sys.argv[1:] or targets()
    for unknown in set(wanted) - set(targets()):
        raise SystemExit(f"there is no image {unknown}; the Dockerfile has {', '.join(targets())}")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    revision = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    given = {"VERSION": version, "REVISION": revision.stdout.strip() or "unknown"}
    for name, variable in (("BASE", "GANDT_BASE"), ("TORCH_INDEX", "GANDT_TORCH_INDEX")):
        if variable in os.environ:
            given[name] = os.environ[variable]
    command = builder()
    for target in wanted:
        flags = [flag for key, value in given.items() for flag in ("--build-arg", f"{key}={value}")]
        subprocess.run(
            [*command, "--target", target, "-t", f"gandt/{target}:{version}", *flags, "."], cwd=ROOT, check=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
