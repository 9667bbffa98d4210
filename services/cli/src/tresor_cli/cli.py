"""Command line of ``tresor``: ``run`` a stage or a verb, list ``runs``, ``access``, ``keys``."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tresor_cli import __version__, access, record, runner
from tresor_cli.errors import CliError, EnvironmentNotReadyError
from tresor_cli.paths import (
    DEFAULT_IMPORTER,
    DEFAULT_INVENTORY,
    DEFAULT_PLAN,
    DEFAULT_PROJECT,
    DEFAULT_RUNS,
    Paths,
)

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
    keys = verbs.add_parser(
        "keys", add_help=False, help="the key ceremony: the importer's own command keys"
    )
    keys.add_argument("arguments", nargs=argparse.REMAINDER)
    _access_options(verbs.add_parser("access", help="who may use which model, by the plan"))
    return parser


def _access_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plan", type=Path, default=DEFAULT_PLAN, help="default %(default)s")
    parser.add_argument("--json", action="store_true")
    questions = parser.add_subparsers(dest="question", required=True)
    questions.add_parser("report", help="what every group may use, for recertification")
    explain = questions.add_parser("explain", help="which rule decides about a user and a model")
    explain.add_argument("--user", help="a name for the answer; groups are what decides")
    explain.add_argument("--group", action="append", default=[], help="of the user; repeatable")
    explain.add_argument("--token-file", type=Path, help="an access token of the user")
    explain.add_argument("--service-account", default="", help="a machine's, instead of a user")
    explain.add_argument("--model", required=True, help="name or alias")
    explain.add_argument("--endpoint", help="for example chat.completions; default: any")


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
        if options.verb == "access":
            return _access(options)
        if options.verb == "keys":
            return _keys(options.arguments)
        return _run(paths, options)
    except CliError as error:
        print(f"tresor: {error}", file=sys.stderr)
        return error.exit_code


def _keys(arguments: Sequence[str]) -> int:
    """Hand over to the importer: it was checked by its fingerprint and needs nothing installed."""
    try:
        return subprocess.run([DEFAULT_IMPORTER, "keys", *arguments], check=False).returncode
    except OSError as error:
        raise EnvironmentNotReadyError(
            f"cannot run {DEFAULT_IMPORTER}: {error.strerror}. The first import leaves it there "
            "(docs/runbooks/import.md); elsewhere run: python3 -I importer.pyz keys"
        ) from error


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


def _access(options: argparse.Namespace) -> int:
    """Exit status of ``explain``: 0 allowed, 1 denied."""
    rules = access.load(options.plan)
    if options.question == "report":
        entries = access.report(rules)
        as_json = json.dumps(entries, indent=2, sort_keys=True)
        print(as_json if options.json else access.as_text(entries))
        return 0
    groups = list(options.group)
    if options.token_file is not None:
        groups += access.groups_of_token(options.token_file, rules.groups_claim)
    elif not groups and not options.service_account:
        raise CliError(
            "only the identity provider knows the groups of a user: "
            "give them with --group, an access token of the user with --token-file, "
            "or name a machine's account with --service-account"
        )
    account = options.service_account
    decision = access.explain(rules, groups, options.model, options.endpoint, account)
    who = options.user or account or "someone"
    if options.json:
        found = {
            "allowed": decision.allowed,
            "user": options.user,
            "groups": sorted(set(groups)),
            "model": decision.model,
            "rules": [rule.number for rule in decision.rules],
            "reason": decision.reason,
        }
        print(json.dumps(found, indent=2, sort_keys=True))
    elif decision.allowed:
        print(f"{who} may use {decision.model}:")
        for rule in decision.rules:
            print(
                f"  rule {rule.number} of access.yml: {rule.holder} -> {', '.join(rule.endpoints)}"
            )
    else:
        print(f"{who} may not use {options.model}: {decision.reason}")
    return 0 if decision.allowed else 1


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
