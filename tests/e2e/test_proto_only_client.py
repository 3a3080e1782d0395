# SPDX-License-Identifier: GPL-3.0-or-later
"""A client generated from `proto/` alone, in a Python without gandt, makes the loop's calls to `gandt serve`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.processes import serving

ROOT = Path(__file__).resolve().parent.parent.parent


def pictures(folder: Path) -> list[str]:
    """Twelve images of two kinds: upright and level stripes."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    names = []
    for number in range(12):
        stripes = np.tile((np.arange(64) // 8 % 2 * 200).astype(np.uint8), (64, 1))
        pixels = (stripes if number < 6 else stripes.T) + draw.integers(0, 40, (64, 64)).astype(np.uint8)
        names.append(str(folder / f"{number:02}.png"))
        Image.fromarray(pixels).save(names[-1])
    return names


def test_a_client_made_only_from_proto(tmp_path: Path) -> None:
    asked = subprocess.run(
        [sys.executable, ROOT / "tools" / "genproto.py", "--generator"], capture_output=True, text=True, check=True
    )
    python = asked.stdout.strip()
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    protos = [str(p) for p in (ROOT / "proto").rglob("*.proto")]
    outs = [f"--python_out={stubs}", f"--grpc_python_out={stubs}"]
    subprocess.run([python, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", *outs, *protos], check=True)
    project = tmp_path / "project"
    with serving(project) as serve_json:
        done = subprocess.run(
            [python, ROOT / "examples" / "proto_only_client.py", serve_json, *pictures(tmp_path)],
            env={"PYTHONPATH": str(stubs), "PATH": ""},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result["nearest_to_first"]) <= {f"{n:02}.png" for n in range(1, 6)}
    assert len(result["picks"]) == 4
    assert set(result["labels"]) == set(result["picks"])
