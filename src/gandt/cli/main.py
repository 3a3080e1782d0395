# SPDX-License-Identifier: GPL-3.0-or-later
"""`gandt`: finds the verb, parses its flags, runs it and turns errors into exit codes.

Only the module of the verb that was asked for is imported, so that `gandt --help` and
`gandt status` stay quick. A verb module has `configure(parser)` and `run(args, ctx)`.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gandt.cli import exit_codes
from gandt.cli.context import Context
from gandt.cli.output import Output
from gandt.cli.output_places import check_outputs
from gandt.domain import disk
from gandt.domain.errors import GandtError, InvalidInput

VERBS = {
    # in the order of the loop
    "init": "create a project in a folder",
    "ingest": "read images into the project's catalog",
    "embed": "turn images into vectors (the project's, or files)",
    "dedupe": "find near-duplicate images",
    "seed": "import labels that are known already (seed, gold or truth)",
    "select": "pick the images to label next",
    "quote": "say what a round will cost",
    "launch": "start a labeling job for a round",
    "status": "show where the project stands",
    "watch": "follow a campaign until it ends",
    "collect": "read the answers of a round",
    "aggregate": "turn answers into labels",
    "review": "list doubtful labels, or decide them",
    "export": "write the labeled dataset",
    "report": "write the report as one HTML file",
    "run": "run the whole loop on a folder of images",
    "simulate": "rehearse a campaign: cost, time and accuracy before spending",
    "evaluate": "replay a finished project to compare strategies",
    "demo": "run the whole loop on handwritten digits",
    "serve": "run the services",
    "pause": "pause a campaign",
    "resume": "resume a campaign",
    "cancel": "end a campaign; answers are kept",
    "invite": "make a link for somebody who labels",
    "workers": "show how reliable workers are, or forget one",
    "model": "write an embedding model for machines without torch",
    "vectors": "copy a collection of vectors to a file, or back",
    # on plain files
    "filter": "decide which images to leave unlabeled (files)",
    "manifest": "write a Ground Truth input manifest (files)",
    "answers": "read Ground Truth output into a table (files)",
    "diff": "compare two versions of a labeled dataset (files)",
    "migrate": "take over answers of Label Studio, CVAT, Toloka or a table (files)",
    "plot": "plot the majority proportions of answers (files)",
    # about gandt itself
    "config": "show each setting and where it comes from",
    "doctor": "check what gandt needs here, with what to do",
    "explain": "explain an error by its reason",
    "completion": "print a script with which a shell completes commands",
    "version": "print the version",
}
_VALUE_FLAGS = {"--project", "--config", "--endpoint", "--seed"}


def common_flags() -> argparse.ArgumentParser:
    """The flags that every verb takes."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    group = parser.add_argument_group("common flags")
    group.add_argument("--project", metavar="DIR", default=".", help="project folder (default: here)")
    group.add_argument("--config", metavar="FILE", help="configuration instead of the project's gandt.toml")
    group.add_argument("--endpoint", metavar="HOST:PORT", help="service to call instead of a local one")
    group.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    group.add_argument("--quiet", "-q", action="store_true", help="no notes and no progress")
    group.add_argument("--verbose", "-v", action="store_true", help="more details")
    group.add_argument("--no-progress", action="store_true", help="do not draw progress")
    group.add_argument("--no-color", action="store_true", help="no colors")
    group.add_argument("--yes", "-y", action="store_true", help="do not ask before spending or deleting")
    group.add_argument("--dry-run", action="store_true", help="say what would happen; spend and delete nothing")
    group.add_argument("--seed", type=int, metavar="N", help="seed of all randomness (default: 0)")
    return parser


class _Parser(argparse.ArgumentParser):
    """Reports a usage error as every other error, and takes flags between and after positional arguments."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        return self.parse_intermixed_args(args, namespace)

    def error(self, message: str) -> None:  # type: ignore[override]
        raise InvalidInput(message, reason="USAGE", fix=f"see {self.prog} --help")


def usage() -> str:
    """The text of `gandt --help`."""
    lines = [
        "usage: gandt VERB [flags]",
        "",
        "More training data from fewer labels: embed, select, label, aggregate, stop.",
        "",
        "  gandt demo                                   the whole loop on real images, no network",
        "  gandt run photos --classes cat,dog --open    the same with your photos and your own eyes",
        "",
        "verbs:",
    ]
    lines += [f"  {verb:<10} {text}" for verb, text in VERBS.items()]
    lines += ["", "`gandt VERB --help` shows a verb's flags. Data goes to stdout, everything else to stderr."]
    return "\n".join(lines)


def split_verb(argv: Sequence[str]) -> tuple[str, list[str]]:
    """The verb and the remaining arguments; common flags may stand before the verb."""
    position = 0
    while position < len(argv) and argv[position].startswith("-"):
        position += 2 if argv[position] in _VALUE_FLAGS else 1
    if position >= len(argv):
        return "", list(argv)
    return argv[position], [*argv[:position], *argv[position + 1 :]]


def build_parser(verb: str) -> argparse.ArgumentParser:
    """The parser of one verb."""
    module = importlib.import_module(f"gandt.cli.{verb}")
    parser = _Parser(
        prog=f"gandt {verb}",
        description=module.__doc__,
        parents=[common_flags()],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.configure(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Our matrices are small and several services share this process: more threads for each product only wait for
    # each other (a selection took four times the CPU time). Read by NumPy when it is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    out = Output(as_json="--json" in arguments, color="--no-color" not in arguments)
    verb, rest = split_verb(arguments)
    if not verb:
        if "--version" in rest:
            verb, rest = "version", []
        else:
            sys.stdout.write(usage() + "\n")
            return exit_codes.DONE if not rest or "-h" in rest or "--help" in rest else exit_codes.USAGE
    try:
        return _run(verb, rest, out)
    except GandtError as error:
        out.error(error)
        return exit_codes.exit_code(error)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("gandt"):
            return _internal(error, out, "--verbose" in rest or "-v" in rest)
        out.error(_extra_missing(error))
        return exit_codes.USAGE
    except KeyboardInterrupt:
        out.note("interrupted; what was done is saved, the same command goes on from here")
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  so that the interpreter's own flush cannot fail
        return exit_codes.DONE
    except OSError as error:
        full = disk.of_os_error(error, str(error.filename or f"a file of gandt {verb}"))
        if full is None:
            return _internal(error, out, "--verbose" in rest or "-v" in rest)
        out.error(full)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  it may be the file that is full
        return exit_codes.exit_code(full)
    except Exception as error:  # noqa: BLE001  the last line of defence: a user never sees a traceback
        return _internal(error, out, "--verbose" in rest or "-v" in rest)


def _run(verb: str, rest: list[str], out: Output) -> int:
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, 1, 0.5)
        hint = f"did you mean gandt {near[0]}?" if near else "gandt --help lists the verbs"
        raise InvalidInput(f"there is no verb {verb!r}", reason="UNKNOWN_VERB", fix=hint)
    args = build_parser(verb).parse_args(rest)
    out.configure(args.quiet, args.verbose, not args.no_progress)
    module = importlib.import_module(f"gandt.cli.{verb}")
    if args.dry_run and not getattr(module, "HAS_DRY_RUN", False):
        raise InvalidInput(
            f"gandt {verb} has no --dry-run", field="dry_run", reason="USAGE", fix="nothing was done; run it without"
        )
    check_outputs(verb, args)
    with Context.of(args, out, getattr(module, "READS_CONFIGURATION", True)) as ctx:
        return int(module.run(args, ctx))


def _extra_missing(error: ModuleNotFoundError) -> GandtError:
    """The base installation has the client and the CLI; services started in this process need their libraries."""
    return GandtError(
        f"this needs the Python package {error.name}, which is not installed",
        reason="EXTRA_MISSING",
        fix="pip install 'gandt[standalone]', or name a running service with --endpoint",
    )


def _internal(error: Exception, out: Output, verbose: bool) -> int:
    """Keeps the traceback in a file and says where."""
    text = "".join(traceback.format_exception(error))
    with tempfile.NamedTemporaryFile("w", prefix="gandt-", suffix=".log", delete=False) as log:
        log.write(text)
    if verbose:
        out.note(text)
    out.error(
        GandtError(
            f"{type(error).__name__}: {error} (a bug in gandt)",
            reason="INTERNAL",
            fix=f"please report it with the details in {Path(log.name)}",
        )
    )
    return exit_codes.FAILED


if __name__ == "__main__":
    sys.exit(main())
