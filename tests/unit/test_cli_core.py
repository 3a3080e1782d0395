# SPDX-License-Identifier: GPL-3.0-or-later
"""The frame of the command line: verbs, flags, configuration, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gandt.cli import configuration, exit_codes
from gandt.cli.campaign_flags import slug
from gandt.cli.digits import KNOWN_OTHERS, KNOWN_WANTED, plan_task
from gandt.cli.main import VERBS, main, split_verb
from gandt.cli.output import shown, usd
from gandt.domain import errors
from gandt.domain.errors import GandtError, InvalidInput

HEAVY = ("torch", "pandas", "pymilvus", "boto3", "grpc", "pydantic", "sqlalchemy", "PIL")


def test_help_imports_nothing_heavy() -> None:
    loaded = f"any(m in sys.modules for m in {HEAVY})"
    code = f"import sys; from gandt.cli.main import main; main(['--help']); sys.exit({loaded})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for verb in VERBS:
        assert f"  {verb}" in done.stdout


def test_an_unknown_verb_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ingset"]) == exit_codes.USAGE
    assert "did you mean gandt ingest?" in capsys.readouterr().err


def test_an_unknown_flag_is_one_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "--jsn"]) == exit_codes.USAGE
    err = capsys.readouterr().err
    assert "--jsn" in err
    assert "Traceback" not in err


def test_a_missing_library_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image,worker,label\na,w,x\n")
    run = "import sys; sys.modules['prometheus_client'] = None; from gandt.cli.main import main; "
    run += "sys.exit(main(['aggregate', 'a.csv', '-o', 'l.csv']))"
    done = subprocess.run([sys.executable, "-c", run], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == exit_codes.USAGE
    assert "pip install 'gandt[standalone]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_common_flags_may_stand_before_the_verb() -> None:
    assert split_verb(["--project", "x", "-v", "status", "--json"]) == ("status", ["--project", "x", "-v", "--json"])
    assert split_verb(["--json"]) == ("", ["--json"])


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "--json"]) == exit_codes.DONE
    assert json.loads(capsys.readouterr().out)["version"]


def test_flags_that_can_only_fail_later_are_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        ("--method", "two-coin"): (exit_codes.USAGE, "METHOD_NEEDS_MULTI_LABEL"),
        ("--strategy", "find-more"): (exit_codes.USAGE, "STRATEGY_NEEDS_TARGET"),
        ("--strategy", "fnd-more"): (exit_codes.USAGE, "UNKNOWN_STRATEGY"),
        ("--budget", "0.01", "--price-per-page", "0.5"): (exit_codes.REFUSED, "BUDGET_BELOW_ONE_PAGE"),
        ("--max-answers", "1"): (exit_codes.USAGE, "OUT_OF_RANGE"),
        ("--max-rounds", "-1"): (exit_codes.USAGE, "OUT_OF_RANGE"),
    }
    for flags, (code, reason) in cases.items():
        assert main(["init", "--project", str(tmp_path), "--classes", "owl,hawk", *flags]) == code
        assert reason in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []


def test_instructions_may_come_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "told.txt").write_text("Look at the beak.\nThen decide.\n", encoding="utf-8")
    init = ["init", "--project", str(tmp_path / "p"), "--classes", "owl,hawk", "--instructions"]
    assert main([*init, f"@{tmp_path / 'none.txt'}"]) == exit_codes.USAGE
    assert "none.txt cannot be read: No such file" in capsys.readouterr().err
    assert main([*init, f"@{tmp_path / 'told.txt'}"]) == exit_codes.DONE
    told = configuration.load(tmp_path / "p").get("project", "instructions")
    assert told == "Look at the beak.\nThen decide.\n"


def test_init_writes_a_configuration_that_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["init", "--project", str(tmp_path), "--classes", "owl,hawk", "--target", "owl", "--budget", "20"]
    assert main(arguments) == exit_codes.DONE
    settings = configuration.load(tmp_path)
    assert settings.get("project", "classes") == ["owl", "hawk"]
    assert settings.get("project", "budget_usd") == 20.0
    assert settings.get("project", "other_label") == "Other"
    assert main(arguments) == exit_codes.FAILED
    assert "PROJECT_EXISTS" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--classes", "a|b"], "may not contain '|'"),
        (["--classes", "a,A"], "the same but for case"),
        (["--classes", ""], "no classes"),
        (["--classes", "owl", "--target", "ow"], "not among the classes"),
        (["--classes", "owl", "--budget", "-1"], "0 or more US dollars"),
        (["--classes", "owl", "--seed", "-1"], "--seed is -1"),
    ],
)
def test_a_campaign_that_cannot_work_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], part: str
) -> None:
    assert main(["init", "--project", str(tmp_path / "p"), *flags]) == exit_codes.USAGE
    assert part in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


def test_layers_of_configuration(tmp_path: Path) -> None:
    (tmp_path / "gandt.toml").write_text("[project]\nround_size = 60\ngroup_size = 10\n[embedding]\nmodel = 'hog'\n")
    environment = {"GANDT_PROJECT__GROUP_SIZE": "5", "XDG_CONFIG_HOME": str(tmp_path / "none")}
    settings = configuration.load(tmp_path, environment=environment)
    assert settings.get("project", "round_size") == 60
    assert settings.get("project", "group_size") == 5
    origins = {key: value.origin for _, key, value in settings.items()}
    assert origins["group_size"] == "environment"
    assert origins["round_size"].endswith("gandt.toml")
    assert origins["budget_usd"] == "default"
    assert settings.services["embedding"] == {"model": "hog"}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[project]\nround_siez = 1\n", "did you mean round_size?"),
        ("[projct]\n", "did you mean project?"),
        ("[project]\nround_size = 'many'\n", "must be a whole number"),
        ("round_size = 1\n", "outside any section"),
        ("[project\n", "not valid TOML"),
    ],
)
def test_a_wrong_configuration_names_the_place(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "gandt.toml").write_text(text)
    with pytest.raises(InvalidInput) as caught:
        configuration.load(tmp_path, environment={"XDG_CONFIG_HOME": str(tmp_path / "none")})
    assert part in str(caught.value)
    assert "gandt.toml" in str(caught.value)


@pytest.mark.parametrize("verb", [["status"], ["aggregate", "none.csv", "-o", "out.csv"], ["report"]])
def test_a_wrong_key_of_a_service_stops_every_verb(
    verb: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ["--project", str(tmp_path)]
    (tmp_path / "gandt.toml").write_text('[vectorsearch]\nmilvus_url = "x"\n')
    assert main([*verb, *place]) == exit_codes.USAGE
    assert "milvus_uri" in capsys.readouterr().err
    (tmp_path / "gandt.toml").write_text("[aggregation]\nport = 70000\n")
    assert main([*verb, *place]) == exit_codes.USAGE
    assert "aggregation.port" in capsys.readouterr().err
    (tmp_path / "gandt.toml").unlink()
    monkeypatch.setenv("GANDT_LABELING__PROT", "9000")
    assert main([*verb, *place]) == exit_codes.USAGE
    assert "labeling.prot" in capsys.readouterr().err


def test_an_error_is_explained_also_where_the_configuration_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gandt.toml").write_text("[nonsense]\n")
    assert main(["explain", "UNKNOWN_SETTING", "--project", str(tmp_path)]) == exit_codes.DONE
    assert main(["version", "--project", str(tmp_path)]) == exit_codes.DONE
    assert not capsys.readouterr().err


def test_the_section_of_the_process_that_runs_all_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gandt.toml").write_text('[standalone]\nlog_level = "debug"\n')
    assert main(["config", "show", "standalone", "--project", str(tmp_path), "--json"]) == exit_codes.DONE
    shown = {row["key"]: (row["value"], row["origin"]) for row in json.loads(capsys.readouterr().out)["settings"]}
    assert shown["standalone.log_level"] == ("debug", f"{tmp_path / 'gandt.toml'} [standalone]")
    assert shown["standalone.log_format"] == ("json", "default")


def test_every_error_has_an_exit_code() -> None:
    assert exit_codes.exit_code(errors.OverBudget("x")) == exit_codes.REFUSED
    assert exit_codes.exit_code(errors.BackendUnavailable("x")) == exit_codes.UNREACHABLE
    assert exit_codes.exit_code(InvalidInput("x")) == exit_codes.USAGE
    assert exit_codes.exit_code(GandtError("x", reason="NOTHING_TO_DO")) == exit_codes.NOTHING
    assert exit_codes.exit_code(GandtError("x")) == exit_codes.FAILED


def test_numbers_for_people() -> None:
    assert [shown(v) for v in (None, float("nan"), True, 12345, 0.123456, ["a", "b"])] == [
        "-",
        "-",
        "yes",
        "12,345",
        "0.1235",
        "a, b",
    ]
    assert [usd(m) for m in (1_200_000, 36_000, -500_000)] == ["$1.20", "$0.0360", "-$0.50"]
    assert slug("My Photos (2026)!") == "my-photos-2026"
    assert slug("???") == "campaign"


def test_the_demo_thins_the_wanted_digits() -> None:
    digits = [n % 10 for n in range(1797)]
    for wanted in ([3], [3, 8]):
        task = plan_task(digits, wanted, "wanted", "Other", 0)
        rare = [name for name, label in task.truth.items() if label == "wanted"]
        pool = len(task.truth) - len(task.seeds)
        in_pool = len(rare) - KNOWN_WANTED
        assert 0.018 <= in_pool / pool <= 0.022
        assert sum(label == "wanted" for label in task.seeds.values()) == KNOWN_WANTED
        assert len(task.seeds) == KNOWN_WANTED + KNOWN_OTHERS
        assert task.seeds.items() <= task.truth.items()
        assert task == plan_task(digits, wanted, "wanted", "Other", 0)
        assert task != plan_task(digits, wanted, "wanted", "Other", 1)
        known = {digits[int(name[6:10])] for name, label in task.seeds.items() if label == "wanted"}
        assert known == set(wanted)


def test_limits_of_a_campaign_by_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    init = ["init", "--project", str(tmp_path / "p"), "--classes", "owl,hawk"]
    assert main([*init, "--round-size", "0"]) == exit_codes.USAGE
    assert main([*init, "--confidence", "0"]) == exit_codes.USAGE
    assert "a round has at least one image" in capsys.readouterr().err
    assert main([*init, "--prove"]) == exit_codes.USAGE  # nothing is wanted
    assert "a proof of recall needs a wanted label" in capsys.readouterr().err
    assert main([*init, "--target", "owl", "--prove", "1.0"]) == exit_codes.USAGE
    capsys.readouterr()
    flags = ["--target", "owl", "--prove", "--min-yield", "0.02", "--part-size", "20"]
    assert main([*init, *flags]) == exit_codes.DONE
    written = tomllib.loads((tmp_path / "p" / "gandt.toml").read_text())["project"]
    assert (written["prove_recall"], written["min_yield"], written["part_size"]) == (0.8, 0.02, 20)


def test_an_evaluation_is_compared_by_the_runs_that_all_reached_the_target() -> None:
    from gandt.cli.evaluate import compared
    from gandt.domain.selection.records import EvaluateRun

    runs = [EvaluateRun("a", 0, 10, (5, 9), (10, 20)), EvaluateRun("a", 1, 30, (5, 9), (20, 40))]
    runs += [EvaluateRun("random", n, 60, (1,), (60,)) for n in range(2)]
    runs += [EvaluateRun("lucky", 0, 5, (9,), (5,)), EvaluateRun("lucky", 1, 0, (1,), (60,))]
    first, second, third = compared(runs)
    assert (first["strategy"], first["labels"], first["ratio"]) == ("a", 20, 3.0)
    assert (second["strategy"], second["ratio"]) == ("random", 1.0)
    assert (third["strategy"], third["labels"], third["reached"]) == ("lucky", None, 1)
