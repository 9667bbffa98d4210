"""The importer's command line: verbs and their options."""

from __future__ import annotations

import argparse
from pathlib import Path

from .approval import DEFAULT_ALLOWED_SIGNERS
from .bootstrap import Places
from .keys_cli import add_commands

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

    _import(verb("import", "Verify a bundle while copying it; it then waits for approval."))
    verb("status", "Show the active release and what waits for approval.")
    look = verb("review", "Show what the waiting bundle changes against the running release.")
    look.add_argument("--html", type=Path, help="also write the report there, as one page")
    sign = verb("approve", "Approve the waiting bundle as one person.")
    sign.add_argument("--person", required=True, help="name in the list of approvers")
    sign.add_argument("--key", type=Path, help="the person's private SSH key, or its .pub")
    sign.add_argument("--signature", type=Path, help="signature made elsewhere instead of --key")
    _signers(sign)
    back = verb("withdraw", "Refuse the waiting bundle.")
    _reasoned(back)
    _signers(verb("activate", "Make the approved bundle the current release."))
    other = verb("switch", "Go back to a release that is kept, or forward again.")
    other.add_argument("--release", required=True, help="its id, see status")
    _reasoned(other)
    start = verb("bootstrap", "Install Ansible from the active release on this bastion.")
    start.add_argument("--prefix", type=Path, default=Places.prefix)
    start.add_argument("--command", type=Path, default=Places.command)
    start.add_argument("--importer", type=Path, default=Places.importer)
    start.add_argument("--python", type=Path, default=Places.python)
    verb("verify-store", "Hash the active release again.")
    verb("scrub", "Hash every kept release and every waiting content again.")
    told = verb("inventory", "Write and sign what this site has, for the builder of a delta.")
    told.add_argument("--out", type=Path, required=True, help="folder, for example on a stick")
    told.add_argument("--key", type=Path, required=True, help="the site's private SSH key")
    verb("gc", "Remove contents that no kept release and no waiting bundle needs.")
    add_commands(verbs.add_parser("keys", help="the keys that release a bundle, and its signing"))
    return parser


def _import(take: argparse.ArgumentParser) -> None:
    take.add_argument(
        "--medium",
        type=Path,
        action="append",
        help=f"its bundle folder, default {DEFAULT_MEDIUM}; again for each volume that is mounted",
    )
    take.add_argument("--root-sha256", help="fingerprint of 1.root.json, needed the first time")
    take.add_argument("--site", required=True, help="name of this site")
    take.add_argument(
        "--accept-scope", action="append", choices=["lab"], default=[], help="this is a lab"
    )
    take.add_argument("--quiet", action="store_true", help="no progress")
    take.add_argument(
        "--check", action="store_true", help="judge all but the contents, and change nothing"
    )


def _signers(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--allowed-signers",
        type=Path,
        default=DEFAULT_ALLOWED_SIGNERS,
        help="who may approve (ssh-keygen's format)",
    )


def _reasoned(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--person", required=True, help="who decides this")
    sub.add_argument("--reason", required=True, help="why; it goes into the audit")
