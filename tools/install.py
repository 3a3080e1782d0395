# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs the pinned tools beyond Python into the tools cache, and links it as `.tools`.

buf and helm are built by the Go client from pinned versions; with CI=true, or --kube, also a Kubernetes control plane
from the module tools/kube, and kwok.
With CI=true a missing tool is an error, Debian packages (Chromium, PostgreSQL) are installed, and of others (Prometheus
with promtool, etcd) the programs are unpacked. Otherwise nothing calls apt, and what is missing is listed: the tests
that need it skip.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GO_TOOLS = {"buf": "github.com/bufbuild/buf/cmd/buf@v1.75.0", "helm": "helm.sh/helm/v4/cmd/helm@v4.2.4"}
KUBE = ROOT / "tools/kube"
KUBE_VERSION = "1.35.4"
KUBE_TOOLS = {
    **{
        name: f"k8s.io/kubernetes/cmd/{name}"
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
    },
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
}
KWOK = "sigs.k8s.io/kwok/cmd/kwok@v0.7.0"  # its own module: it does not compile with the newer libraries of the others
DEBIAN = {"chromium": ("chromium", "fonts-dejavu-core"), "postgres": ("postgresql",)}
UNPACKED = {"promtool": "prometheus", "prometheus": "prometheus", "etcd": "etcd-server"}
"""Programs by Debian package. They are not installed: the packages would start their daemons."""
CI = os.environ.get("CI", "").lower() == "true"


def tools_folder() -> Path:
    """`~/.cache/gandt/tools/<hash>`: one folder a set of pins."""
    pinned = repr((sorted(GO_TOOLS.items()), sorted(UNPACKED.items()), KUBE_VERSION, KWOK)).encode()
    pins = hashlib.sha256(pinned + (KUBE / "go.sum").read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "gandt" / "tools" / pins


def build_go_tools(folder: Path) -> list[str]:
    """Builds what is not there yet and returns what cannot be built."""
    named = {name: ["install", package] for name, package in GO_TOOLS.items()}
    pinned = {}
    if CI or "--kube" in sys.argv[1:]:  # seven minutes of two processors when nothing is cached
        named["kwok"] = ["install", KWOK]
        pinned = {name: ["build", "-o", str(folder / name), package] for name, package in KUBE_TOOLS.items()}
    missing = []
    for name, (verb, *what) in {**named, **pinned}.items():
        if (folder / name).exists():
            continue
        if shutil.which("go") is None:
            missing.append(f"{name} (needs Go)")
            continue
        print(f"building {name}", file=sys.stderr)
        env = dict(
            os.environ, GOBIN=str(folder), GOTOOLCHAIN="local", GOFLAGS="-trimpath", CGO_ENABLED="0", GOMAXPROCS="2"
        )
        command = ["go", verb, "-ldflags", linked(name), *what]
        done = subprocess.run(command, env=env, cwd=KUBE, capture_output=True, text=True, check=False)
        if done.returncode:
            missing.append(f"{name} ({done.stderr.strip().splitlines()[-1] if done.stderr else 'go failed'})")
    return missing


def linked(name: str) -> str:
    """Linker flags: without them Kubernetes does not know its own version."""
    if name not in KUBE_TOOLS:
        return "-s -w"
    major, minor, _ = KUBE_VERSION.split(".")
    facts = {"gitVersion": f"v{KUBE_VERSION}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    places = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join(["-s -w", *(f"-X {place}.{key}={value}" for place in places for key, value in facts.items())])


def unpack_debian(folder: Path) -> list[str]:
    """Takes programs out of Debian packages in CI and returns those that are missing."""
    absent = [name for name in UNPACKED if not (folder / name).exists() and shutil.which(name) is None]
    if absent and CI and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-qq"], check=True, stdout=sys.stderr)
        with tempfile.TemporaryDirectory() as place:
            packages = sorted({UNPACKED[name] for name in absent})
            subprocess.run(["apt-get", "download", "-qq", *packages], cwd=place, check=True, stdout=sys.stderr)
            for package in Path(place).glob("*.deb"):
                subprocess.run(["dpkg-deb", "-x", str(package), place], check=True)
            for name in absent:
                shutil.copy(Path(place) / "usr/bin" / name, folder / name)
    return [name for name in UNPACKED if not (folder / name).exists() and shutil.which(name) is None]


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
    missing = build_go_tools(folder) + install_debian() + unpack_debian(folder)
    for name in missing:
        print(f"not here: {name}; the tests that need it are left out", file=sys.stderr)
    return 1 if missing and CI else 0


if __name__ == "__main__":
    sys.exit(main())
