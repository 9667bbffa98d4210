"""Command line of ``tresor``: ``run`` a stage or a day-2 verb, list the ``runs``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tresor_cli import __version__, record, runner
from tresor_cli.errors import CliError
from tresor_cli.paths import DEFAULT_INVENTORY, DEFAULT_PROJECT, DEFAULT_RUNS, Paths

_STAGES = {
    "plan": "plan.yml",
    "import": "import.yml",
    "converge": "site.yml",
    "verify": "verify.yml",
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; kept apart so that tests and docs can read it."""
    parser = argparse.ArgumentParser(
        prog="tresor", description="Run Tresor's stages and day-2 verbs on the bastion."
    )
    parser.add_argument("--version", action="version", version=f"tresor {__version__}")
    parser.add_argument("--project", type=Path, default=DEFAULT_PROJECT, help="distribution to run")
    parser.add_argument("--inventory", type=Path, default=DEFAULT_INVENTORY)
    parser.add_argument("--runs-dir", type=Path, default=DEFAULT_RUNS)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="run a playbook of the imported release")
    run.add_argument("playbook", help="for example site.yml or operate/drain.yml")
    _run_options(run)
    for stage, playbook in _STAGES.items():
        shortcut = verbs.add_parser(stage, help=f"the same as: tresor run {playbook}")
        shortcut.set_defaults(playbook=playbook)
        _run_options(shortcut)
    runs = verbs.add_parser("runs", help="list the runs and how they ended")
    runs.add_argument("--json", action="store_true")
    return parser


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--summary-json", type=Path, help="also write the run's summary there")
    parser.add_argument("--quiet", action="store_true", help="only the closing line")
    parser.add_argument("arguments", nargs="*", help="after --: options for ansible-playbook")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code (ansible-playbook's own for a run)."""
    options = build_parser().parse_args(argv)
    paths = Paths(options.project, options.inventory, options.runs_dir)
    try:
        if options.verb == "runs":
            return _list(paths, as_json=options.json)
        return _run(paths, options)
    except CliError as error:
        print(f"tresor: {error}", file=sys.stderr)
        return error.exit_code


def _limits_hosts(arguments: Sequence[str]) -> bool:
    return any(argument.startswith(("--limit", "-l")) for argument in arguments)


def _run(paths: Paths, options: argparse.Namespace) -> int:
    if options.playbook == _STAGES["converge"] and _limits_hosts(options.arguments):
        # --limit leaves the plan's own play out, and an old plan would be used without a word.
        planned = runner.run(paths, _STAGES["plan"], (), quiet=options.quiet)
        if planned.rc:
            print(f"tresor: plan.yml {planned.status}, nothing was converged")
            return planned.rc
    result = runner.run(paths, options.playbook, options.arguments, quiet=options.quiet)
    if options.summary_json:
        options.summary_json.write_text(
            json.dumps(result.as_json(), indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )
    seconds = result.ended - result.started
    print(
        f"tresor: {result.playbook} {result.status} in {seconds:.0f} s, "
        f"changed={result.changed}, record {paths.runs / result.id}"
    )
    return result.rc


def _list(paths: Paths, *, as_json: bool) -> int:
    found = record.read_all(paths.runs)
    if as_json:
        print(json.dumps(found, indent=2, sort_keys=True))
        return 0
    for entry in found:
        print(
            f"{entry['id']}  {entry['status']:<10} rc={entry['rc']} "
            f"changed={entry.get('changed', '?')} {entry['playbook']}"
        )
    if not found:
        print(f"no runs under {paths.runs}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
