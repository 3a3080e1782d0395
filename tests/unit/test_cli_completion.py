# SPDX-License-Identifier: GPL-3.0-or-later
"""The completion script does what it is for in a real shell."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from gandt.cli.main import VERBS, main


def completed(script: Path, *words: str) -> set[str]:
    """What bash offers after these words."""
    line = " ".join(f"'{word}'" for word in words)
    setup = f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _gandt; "
    ask = setup + "printf '%s\\n' \"${COMPREPLY[@]}\""
    done = subprocess.run(["bash", "--norc", "-c", ask], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.fixture
def script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["completion", "bash"]) == 0
    path = tmp_path / "completion.bash"
    path.write_text(capsys.readouterr().out)
    return path


def test_verbs_flags_and_choices_are_completed(script: Path) -> None:
    assert completed(script, "gandt", "") == set(VERBS)
    assert completed(script, "gandt", "sel") == {"select"}
    assert "--strategy" in completed(script, "gandt", "select", "--st")
    assert completed(script, "gandt", "seed", "--kind", "") == {"seed", "gold", "truth"}
    assert completed(script, "gandt", "vectors", "e") == {"export"}
    assert completed(script, "gandt", "--project", "x", "seed", "--kind", "g") == {"gold"}


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_can_read_their_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in VERBS)
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=text, text=True, check=True)


def test_an_unknown_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 2
    assert "tcsh" in capsys.readouterr().err
