"""Command line of ``importer.pyz``.

Exit codes: 0 done, 2 wrong use, 3 the bundle or an approval was rejected, 4 this machine or the
medium is not ready (the same command continues later).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from .approval import DEFAULT_ALLOWED_SIGNERS
from .bootstrap import Places, bootstrap
from .errors import EXIT_ENVIRONMENT, EXIT_OK, EXIT_REJECTED, BundleError
from .layout import Store
from .machine import Importer, Outcome, Request, locked, status
from .medium import Medium

DEFAULT_STORE = Path("/srv/tresor/store")
DEFAULT_MEDIUM = Path("/media/tresor/bundle")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; kept apart so that tests and docs can read it."""
    parser = argparse.ArgumentParser(
        prog="importer.pyz", description="Take a signed bundle into the store of the bastion."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        sub.add_argument("--store", type=Path, default=DEFAULT_STORE, help="the store's folder")
        sub.add_argument("--json", action="store_true", help="write the result as JSON")
        return sub

    def signers(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--allowed-signers",
            type=Path,
            default=DEFAULT_ALLOWED_SIGNERS,
            help="who may approve (ssh-keygen's format)",
        )

    take = verb("import", "Verify a bundle while copying it; it then waits for approval.")
    take.add_argument("--medium", type=Path, default=DEFAULT_MEDIUM, help="its bundle folder")
    take.add_argument("--root-sha256", help="fingerprint of 1.root.json, needed the first time")
    take.add_argument("--site", required=True, help="name of this site")
    take.add_argument(
        "--accept-scope", action="append", choices=["lab"], default=[], help="this is a lab"
    )
    take.add_argument("--quiet", action="store_true", help="no progress")
    verb("status", "Show the active release and what waits for approval.")
    sign = verb("approve", "Approve the waiting bundle as one person.")
    sign.add_argument("--person", required=True, help="name in the list of approvers")
    sign.add_argument("--key", type=Path, help="the person's private SSH key")
    sign.add_argument("--signature", type=Path, help="signature made elsewhere instead of --key")
    signers(sign)
    signers(verb("activate", "Make the approved bundle the current release."))
    start = verb("bootstrap", "Install Ansible from the active release on this bastion.")
    start.add_argument("--prefix", type=Path, default=Places.prefix)
    start.add_argument("--command", type=Path, default=Places.command)
    start.add_argument("--importer", type=Path, default=Places.importer)
    start.add_argument("--python", type=Path, default=Places.python)
    verb("verify-store", "Hash the active release again.")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    options = build_parser().parse_args(argv)
    store = Store(options.store)
    try:
        if options.verb == "status":
            return _status(store, as_json=options.json)
        with locked(store):
            return _command(store, options)
    except BundleError as error:
        if options.json:
            print(json.dumps({"failed": True, "changed": False, **error.as_json()}, sort_keys=True))
        print(f"importer: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("importer: stopped; the same command continues", file=sys.stderr)
        return EXIT_ENVIRONMENT
    except OSError as error:
        print(f"importer: environment.os: {error}", file=sys.stderr)
        return EXIT_ENVIRONMENT


def _command(store: Store, options: argparse.Namespace) -> int:
    if options.verb == "bootstrap":
        places = Places(options.prefix, options.command, options.importer, options.python)
        release, changed = bootstrap(store, places)
        outcome = Outcome("READY", release.name, "", changed, f"environment: {release}")
        return _show(outcome, as_json=options.json)
    importer = Importer(store, quiet=getattr(options, "quiet", False))
    if options.verb == "import":
        request = Request(options.site, options.root_sha256, "lab" in options.accept_scope)
        outcome = importer.import_bundle(Medium(options.medium), request)
    elif options.verb == "approve":
        outcome = importer.approve(
            options.person, options.allowed_signers, key=options.key, signature=options.signature
        )
    elif options.verb == "activate":
        outcome = importer.activate(options.allowed_signers)
    else:
        return _findings(importer.verify_store(), as_json=options.json)
    return _show(outcome, as_json=options.json)


def _show(outcome: Outcome, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps(outcome.as_json(), sort_keys=True))
    else:
        print(f"{outcome.state} {outcome.release}: {outcome.message}")
    return EXIT_OK


def _findings(findings: list[str], *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"ok": not findings, "findings": findings}, sort_keys=True))
    else:
        print("\n".join(findings) or "the active release is what was imported")
    return EXIT_REJECTED if findings else EXIT_OK


def _status(store: Store, *, as_json: bool) -> int:
    found = status(store)
    if as_json:
        print(json.dumps(found, sort_keys=True))
        return EXIT_OK
    print(f"store    {found['store']}\ncurrent  {found['current'] or 'none'}")
    pending = found["pending"]
    for item in pending if isinstance(pending, list) else []:
        names = ", ".join(item["approved_by"]) or "nobody yet"
        print(f"waiting  {item['id']} (serial {item['serial']}), approved by {names}")
        print(f"         sha256:{item['bundle_sha256']}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
