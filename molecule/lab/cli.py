"""The command line: parse, call one verb, print its result, turn errors into messages."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from lab import access, basetree, collector, company, internet, medium
from lab.errors import LabError, PreflightError, Problem
from lab.requirements import MINIMUM_DISK_GIB, MINIMUM_MEMORY_GIB, Limits
from lab.settings import Settings, name_problem
from lab.topology import BASTION, COMPANY1, INTERNET1, SIEM_NAME, TreeName
from lab.verbs import BOOT_SECONDS, Lab, collect_garbage, say

EXIT_FAILED, EXIT_PREFLIGHT = 1, 3

Verb = Callable[[argparse.Namespace, Settings], int]


def parser() -> argparse.ArgumentParser:
    """Return the command line's definition."""
    top = argparse.ArgumentParser(prog="labctl", description="Real hosts in networks without exit.")
    top.add_argument("--name", help="name of the lab (default: TRESOR_LAB, else per checkout)")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, call: Verb, words: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=words, description=words)
        sub.set_defaults(call=call)
        return sub

    up = verb("up", _up, "make the lab and boot its hosts")
    up.add_argument("hosts", nargs="*", help="only these hosts (default: all)")
    ask = verb("preflight", _preflight, "say whether this machine can run the lab; change nothing")
    for sub in (up, ask):
        sub.add_argument("--min-free-gib", type=float, default=MINIMUM_DISK_GIB)
        sub.add_argument("--min-memory-gib", type=float, default=MINIMUM_MEMORY_GIB)
    down = verb("down", _down, "power hosts off, keep their disks")
    down.add_argument("hosts", nargs="*", help="only these hosts (default: all)")
    verb("destroy", _destroy, "remove the lab with its disks")
    status = verb("status", _status, "say what runs")
    status.add_argument("--json", action="store_true")
    wait = verb("wait", _wait, "wait until hosts have booted and answer to ssh")
    wait.add_argument("hosts", nargs="*")
    wait.add_argument("--seconds", type=float, default=BOOT_SECONDS)
    run = verb("exec", _exec, "run a command on a host as root, as on its console")
    run.add_argument("host")
    run.add_argument("command", nargs=argparse.REMAINDER, help="default: a login shell")
    for name, call, words in (
        ("reboot", _reboot, "reboot a host and wait for it"),
        ("cut", _cut, "take the power from a host; `up` boots it again"),
    ):
        verb(name, call, words).add_argument("host")
    verb(
        "ssh-config",
        _ssh_config,
        "write ssh_config and known_hosts, print the former's path",
    )
    counter = verb("internet-counter", _counter, "print what internet1 received from the site")
    counter.add_argument("--reset", action="store_true", help="set it to zero afterwards")
    plug = verb("mount-medium", _mount, "put a directory into a host, read-only, as a medium")
    plug.add_argument("host")
    plug.add_argument("directory", type=Path)
    pull = verb("unmount-medium", _unmount, "pull the medium out, even while it is read")
    pull.add_argument("host")
    company_up = verb("company-up", _company_up, "install and start the identity provider")
    company_up.add_argument("--npm", type=Path, required=True, metavar="DIR")
    sign = verb("company-sign", _company_sign, "sign a request from stdin with the company's CA")
    sign.add_argument("--days", type=int, default=90)
    crl = verb("company-crl", _company_crl, "print the company's list of revoked certificates")
    crl.add_argument("--days", type=int, default=7, help="how long it is good; may be negative")
    crl.add_argument("--revoke", type=Path, action="append", default=[], metavar="CERTIFICATE")
    crl.add_argument("--revoke-idp", action="store_true", help="the identity provider's too")
    siem = verb("siem", _siem, "the company's log collector: hand over the site's CA, start, stop")
    siem.add_argument("action", choices=["trust", "start", "stop", "present"])
    siem.add_argument(
        "identity",
        nargs="?",
        choices=collector.IDENTITIES,
        default=collector.IDENTITIES[0],
        help="with present: the certificate it shows from now on",
    )
    token = verb("token", _token, "print an access token of a user or client")
    token.add_argument("subject")
    trees = verb("trees", _trees, "build the base trees if need be and print their paths")
    trees.add_argument("trees", nargs="*", choices=[*basetree.all_trees(), []], metavar="TREE")
    gc = verb("gc", _gc, "remove what labs that no longer exist have left")
    gc.add_argument("--trees", action="store_true", help="also base trees that no lab uses")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit status (1: failed, 2: usage, 3: nothing was changed)."""
    arguments = parser().parse_args(argv)
    settings = Settings.from_environment(os.environ, arguments.name)
    try:
        if arguments.verb not in {"up", "preflight"}:
            _basic_preflight(settings)
        call: Verb = arguments.call
        return call(arguments, settings)
    except PreflightError as error:
        _print_problems(error)
        print("lab: nothing was changed", file=sys.stderr)
        return EXIT_PREFLIGHT
    except LabError as error:
        _print_problems(error)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("lab: interrupted; the same verb again continues", file=sys.stderr)
        return 130


def _basic_preflight(settings: Settings) -> None:
    problems = []
    if os.geteuid() != 0:
        seen = f"user id {os.geteuid()} is not root"
        problems.append(Problem("user", seen, "Run it as root, e.g. with sudo"))
    if (problem := name_problem(settings.name)) is not None:
        problems.append(problem)
    if problems:
        raise PreflightError(*problems)


def _print_problems(error: LabError) -> None:
    for problem in error.problems:
        print(f"lab: {problem}", file=sys.stderr)


def _up(arguments: argparse.Namespace, settings: Settings) -> int:
    limits = Limits(arguments.min_free_gib, arguments.min_memory_gib)
    Lab(settings).up(arguments.hosts, limits)
    return 0


def _preflight(arguments: argparse.Namespace, settings: Settings) -> int:
    Lab(settings).preflight(Limits(arguments.min_free_gib, arguments.min_memory_gib))
    return 0


def _down(arguments: argparse.Namespace, settings: Settings) -> int:
    Lab(settings).down(arguments.hosts)
    return 0


def _destroy(_arguments: argparse.Namespace, settings: Settings) -> int:
    Lab(settings).destroy()
    return 0


def _status(arguments: argparse.Namespace, settings: Settings) -> int:
    status = Lab(settings).status()
    if arguments.json:
        print(json.dumps(status, indent=1))
        return 0
    print(f"lab {status['name']}: {status['state']}  ({status['directory']})")
    hosts = status["hosts"]
    if isinstance(hosts, dict):
        for name, host in hosts.items():
            line = (
                f"{name:10} {host['state']:8} {host['debian']:9} {host['ipv4']:15} {host['ipv6']}"
            )
            print(line)
    return 0


def _wait(arguments: argparse.Namespace, settings: Settings) -> int:
    Lab(settings).wait(arguments.hosts, arguments.seconds)
    return 0


def _exec(arguments: argparse.Namespace, settings: Settings) -> int:
    host = Lab(settings).host(arguments.host)
    command = host.command(arguments.command or ["bash", "-l"])
    os.execvp(command[0], command)  # noqa: S606  (no shell is wanted)


def _reboot(arguments: argparse.Namespace, settings: Settings) -> int:
    seconds = Lab(settings).reboot(arguments.host)
    say(f"{arguments.host} rebooted in {seconds:.1f} s")
    return 0


def _cut(arguments: argparse.Namespace, settings: Settings) -> int:
    Lab(settings).cut(arguments.host)
    return 0


def _ssh_config(_arguments: argparse.Namespace, settings: Settings) -> int:
    _require_lab(settings)
    print(access.write(settings))
    return 0


def _counter(arguments: argparse.Namespace, settings: Settings) -> int:
    host = Lab(settings).host(INTERNET1.name)
    counts = internet.read_counter(host)
    result: dict[str, object] = {family: asdict(count) for family, count in counts.items()}
    result["packets"] = sum(count.packets for count in counts.values())
    result["bytes"] = sum(count.bytes for count in counts.values())
    print(json.dumps(result))
    if arguments.reset:
        internet.reset_counter(host)
    return 0


def _mount(arguments: argparse.Namespace, settings: Settings) -> int:
    new = medium.attach(Lab(settings).host(arguments.host), arguments.directory)
    say(f"medium of {arguments.host}: {'mounted' if new else 'was mounted'} at {medium.TARGET}")
    return 0


def _unmount(arguments: argparse.Namespace, settings: Settings) -> int:
    was = medium.detach(Lab(settings).host(arguments.host))
    say(f"medium of {arguments.host}: {'pulled out' if was else 'there was none'}")
    return 0


def _company_up(arguments: argparse.Namespace, settings: Settings) -> int:
    lab = Lab(settings)
    with lab.changing():
        company.install_idp(lab.host(COMPANY1.name), arguments.npm)
    say(f"the identity provider {company.ISSUER} answers")
    return 0


def _company_sign(arguments: argparse.Namespace, settings: Settings) -> int:
    signed = company.sign_request(_the_company(settings), sys.stdin.read(), arguments.days)
    print(signed, end="")
    return 0


def _company_crl(arguments: argparse.Namespace, settings: Settings) -> int:
    the_company = _the_company(settings)
    revoked = [path.read_text() for path in arguments.revoke]
    revoked += [the_company.idp_certificate] if arguments.revoke_idp else []
    print(company.revocation_list(the_company, revoked, arguments.days), end="")
    return 0


def _the_company(settings: Settings) -> company.Company:
    _require_lab(settings)
    return company.Company.load_or_create(settings.state / "company.json")


def _siem(arguments: argparse.Namespace, settings: Settings) -> int:
    lab = Lab(settings)
    host = lab.host(COMPANY1.name)
    if arguments.action == "trust":
        collector.trust(host, lab.host(BASTION.name))
    elif arguments.action == "present":
        collector.present(host, arguments.identity)
    elif arguments.action == "start":
        collector.start(host)
    else:
        collector.stop(host)
    say(f"the log collector {SIEM_NAME}: {arguments.action} done")
    return 0


def _token(arguments: argparse.Namespace, settings: Settings) -> int:
    host = Lab(settings).host(COMPANY1.name)
    print(host.run(["company-token", arguments.subject]).stdout.strip())
    return 0


def _trees(arguments: argparse.Namespace, settings: Settings) -> int:
    names: list[TreeName] = arguments.trees or list(basetree.all_trees())
    paths = basetree.ensure(settings.trees, names, say)
    print(json.dumps({name: str(path) for name, path in paths.items()}, indent=1))
    return 0


def _gc(arguments: argparse.Namespace, settings: Settings) -> int:
    collect_garbage(settings, trees=arguments.trees)
    return 0


def _require_lab(settings: Settings) -> None:
    if not settings.key.exists():
        problem = Problem("lab", f"'{settings.name}' does not exist", "Make it: labctl up")
        raise LabError(problem)
