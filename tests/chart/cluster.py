# SPDX-License-Identifier: GPL-3.0-or-later
"""A Kubernetes control plane of our own: etcd, API server, controllers, scheduler are real, kwok plays the kubelets.

No container runs in it, and no network plugin: what it proves is admission, scheduling, roll-outs and rights.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.chart.rendering import tool
from tests.conftest import free_port

TOKEN = "test-admin"
START_SECONDS = 90.0


class Cluster:
    """A running control plane; close it.

    Args:
        home: folder for its data, keys and logs.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._processes: list[subprocess.Popen[bytes]] = []
        self.kubeconfig = home / "kubeconfig"
        self._port = free_port()

    def start(self) -> None:
        """Starts everything; returns when the API answers and its controllers work."""
        home = self._home
        key, public = home / "sa.key", home / "sa.pub"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        subprocess.run(["openssl", "rsa", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
        (home / "tokens.csv").write_text(f'{TOKEN},admin,admin,"system:masters"\n', encoding="utf-8")
        self._write_kubeconfig()
        store, peer = free_port(), free_port()
        store_url = f"http://127.0.0.1:{store}"
        self._run(
            "etcd", "--unsafe-no-fsync", f"--data-dir={home / 'etcd'}", f"--listen-client-urls={store_url}",
            f"--advertise-client-urls={store_url}", f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}", f"--initial-cluster=default=http://127.0.0.1:{peer}",
        )  # fmt: skip
        self._run(
            "kube-apiserver", f"--etcd-servers={store_url}", f"--secure-port={self._port}", "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1", f"--cert-dir={home / 'certs'}", "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={public}",
            f"--service-account-signing-key-file={key}", "--authorization-mode=RBAC",
            f"--token-auth-file={home / 'tokens.csv'}", "--endpoint-reconciler-type=none",
            "--feature-gates=WatchList=false",
        )  # fmt: skip
        self.wait(lambda: self.kubectl("get", "--raw", "/readyz", check=False).returncode == 0, "the API server")
        config = f"--kubeconfig={self.kubeconfig}"
        self._run(
            "kube-controller-manager", config, "--leader-elect=false", "--node-monitor-grace-period=24h",
            f"--service-account-private-key-file={key}", "--secure-port=0",
            f"--root-ca-file={home / 'certs/apiserver.crt'}",
        )  # fmt: skip
        self._run("kube-scheduler", config, "--leader-elect=false", "--secure-port=0")
        self._run("kwok", config, "--manage-all-nodes=true")
        account = ("get", "serviceaccount", "default", "-n", "default")
        self.wait(lambda: self.kubectl(*account, check=False).returncode == 0, "the controllers")

    def add_node(self, name: str, labels: dict[str, str] | None = None, gpus: int = 0) -> None:
        """A node; with GPUs it carries the taint and the label of a GPU pool."""
        node: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
            "spec": {},
        }
        sizes = {"cpu": "16", "memory": "64Gi", "pods": "110"}
        if gpus:
            node["metadata"]["labels"]["nvidia.com/gpu.present"] = "true"
            node["spec"]["taints"] = [{"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}]
            sizes["nvidia.com/gpu"] = str(gpus)
        node["status"] = {"allocatable": sizes, "capacity": sizes}
        self.apply(node)

    def add_volumes(self, count: int, size: str = "20Gi") -> None:
        """Volumes for claims without a class."""
        for i in range(count):
            self.apply(
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolume",
                    "metadata": {"name": f"volume-{i}"},
                    "spec": {
                        "capacity": {"storage": size},
                        "accessModes": ["ReadWriteOnce"],
                        "persistentVolumeReclaimPolicy": "Retain",
                        "hostPath": {"path": f"/data/{i}"},
                    },
                }
            )

    def add_namespace(self, name: str) -> None:
        """A namespace that refuses what the restricted Pod Security Standard forbids."""
        labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})

    def apply(self, *objects: Any) -> None:
        """Creates or changes objects."""
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Runs kubectl as the administrator."""
        done = self._command(tool("kubectl"), arguments, stdin)
        assert not check or done.returncode == 0, done.stderr
        return done

    def helm(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs helm as the administrator."""
        done = self._command(tool("helm"), arguments, None)
        assert not check or done.returncode == 0, done.stderr + done.stdout
        return done

    def objects(self, kind: str, namespace: str, *flags: str) -> list[dict[str, Any]]:
        """All objects of a kind."""
        found: list[dict[str, Any]] = json.loads(
            self.kubectl("get", kind, "-n", namespace, "-o", "json", *flags).stdout
        )["items"]
        return found

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
        """Polls; fails when time is up or a process of the control plane has ended."""
        deadline = time.monotonic() + seconds
        while not condition():
            ended = [process.args for process in self._processes if process.poll() is not None]
            assert not ended, f"{ended} ended; its log lies in {self._home}"
            assert time.monotonic() < deadline, f"{what} did not come within {seconds} s; logs lie in {self._home}"
            time.sleep(0.2)

    def close(self) -> None:
        """Ends all processes, the store last."""
        for process in reversed(self._processes):
            process.kill()
            process.wait()

    def _run(self, name: str, *flags: str) -> None:
        log = (self._home / f"{name}.log").open("wb")
        # Debian's etcd is older than what lists by watching need; clients would retry for a minute.
        environment = {**os.environ, "KUBE_FEATURE_WatchListClient": "false"}
        command = [tool(name), *flags]
        self._processes.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=self._home, env=environment))
        log.close()

    def _command(self, program: str, arguments: Sequence[str], stdin: str | None) -> subprocess.CompletedProcess[str]:
        places = {f"HELM_{kind}_HOME": str(self._home / "helm") for kind in ("CONFIG", "CACHE", "DATA")}
        environment = {**os.environ, **places, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self._home)}
        return subprocess.run(
            [program, *arguments], input=stdin, capture_output=True, text=True, check=False, env=environment
        )

    def _write_kubeconfig(self) -> None:
        server = {"server": f"https://127.0.0.1:{self._port}", "insecure-skip-tls-verify": True}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": server}],
            "users": [{"name": "admin", "user": {"token": TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "current-context": "test",
        }
        self.kubeconfig.write_text(yaml.safe_dump(config), encoding="utf-8")
