# SPDX-License-Identifier: GPL-3.0-or-later
"""An output never takes the place of an input, or of another output."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gandt.cli import exit_codes
from gandt.cli.main import VERBS, build_parser, main
from gandt.cli.output_places import INPUTS, OUTPUTS
from gandt.tables.files import replacing, write_rows

FILES = ("FILE", "PATH", "DIR", "ANSWERS", "LABELS", "TABLE")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a file of every kind; what they hold does not matter: nothing may read them."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", "b.csv", "v.parquet", "gandt.toml", "m.xml", "m.bin"):
        Path(name).write_text("" if name == "gandt.toml" else "precious")
    Path("job").mkdir()
    Path("link.csv").symlink_to("a.csv")
    os.link("v.parquet", "hard.parquet")
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        "embed a.csv -o a.csv",
        "embed job --manifest v.parquet -o v.parquet",
        "dedupe --vectors v.parquet -o v.parquet",
        "dedupe --vectors v.parquet -o hard.parquet",
        "dedupe --vectors v.parquet -o job/../v.parquet",
        "filter --labeled a.csv --vectors v.parquet --discard 0.5 -o a.csv",
        "filter --labeled a.csv --vectors v.parquet --discard 0.5 -o v.parquet",
        "select --vectors v.parquet --labeled a.csv -o a.csv",
        "select --vectors v.parquet --labeled a.csv --exclude b.csv -o b.csv",
        "select --vectors v.parquet --labeled a.csv --groups b.csv -o b.csv",
        "aggregate a.csv -o a.csv",
        "aggregate a.csv -o link.csv",
        "aggregate link.csv -o a.csv",
        "aggregate a.csv -o l.csv --workers-out a.csv",
        "aggregate a.csv -o l.csv --relabel-out a.csv",
        "aggregate a.csv --gold b.csv -o b.csv",
        "aggregate a.csv --previous b.csv -o b.csv",
        "manifest --images a.csv --classes x,y -o a.csv",
        "answers a.csv -o a.csv",
        "plot a.csv -o a.csv",
        "export -o gandt.toml",
        "export --config b.csv -o b.csv",
        "report -o gandt.toml",
        "run job --truth a.csv --classes x,y -o a.csv",
        "run job --seed-labels a.csv --classes x,y -o a.csv",
        "run job --instructions @b.csv --classes x,y -o b.csv",
        "vectors export -o gandt.toml",
        "model export --weights m.bin -o m.xml",
    ],
)
def test_an_input_is_not_overwritten(here: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command.split()) == exit_codes.USAGE
    err = capsys.readouterr().err
    assert "OUTPUT_IS_INPUT" in err
    assert "fix: name another file to write" in err
    assert {Path(name).read_text() for name in ("a.csv", "b.csv", "v.parquet", "m.bin")} == {"precious"}
    assert not Path(".gandt").exists()


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("aggregate a.csv -o l.csv --workers-out l.csv", "--output and --workers-out both write l.csv"),
        ("aggregate a.csv -o l.csv --workers-out ./l.csv", "both write ./l.csv"),
        ("aggregate a.csv -o l.csv --workers-out w.csv --relabel-out w.csv", "--workers-out and --relabel-out"),
        ("aggregate a.csv --workers-out -", "--output and --workers-out both write to stdout"),
        ("report -o r.json", "both write r.json"),
    ],
)
def test_two_outputs_do_not_share_a_file(
    here: Path, command: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.split()) == exit_codes.USAGE
    err = capsys.readouterr().err
    assert "OUTPUT_TWICE" in err
    assert part in err
    assert not Path("l.csv").exists()


def test_every_flag_that_names_a_file_is_known() -> None:
    for verb in VERBS:
        named = {
            action.dest
            for action in build_parser(verb)._actions
            if isinstance(action.metavar, str) and action.metavar.split("|")[0] in FILES
        }
        assert named <= {*INPUTS, *OUTPUTS, "project"}, verb


def test_a_folder_may_hold_its_own_output(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["answers", "job", "-o", "job/answers.csv"])
    assert "NO_ANSWERS_FOUND" in capsys.readouterr().err


def test_a_link_stays_a_link(here: Path) -> None:
    write_rows("link.csv", ("a",), [{"a": 1}])
    assert Path("link.csv").is_symlink()
    assert Path("a.csv").read_text() == "a\n1\n"


def test_a_pipe_is_written_to_and_not_replaced(here: Path) -> None:
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    with replacing("pipe") as place, place.open("w") as stream:
        stream.write("here")
    assert os.read(reader, 10) == b"here"
    os.close(reader)
    assert Path("pipe").is_fifo()
