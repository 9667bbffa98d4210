"""``python -m tresor_gateway.audit content …``: show, erase and expire what is kept."""

from __future__ import annotations

import argparse
import os
import pwd
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tresor_gateway import config as configuration
from tresor_gateway import keys
from tresor_gateway.config_schema import Config
from tresor_gateway.content.crypto import ContentError
from tresor_gateway.content.keeping import site_key
from tresor_gateway.content.operator import Operator, Order
from tresor_gateway.errors import GatewayError

DEFAULT_CONFIG: Final = Path("/etc/tresor/gateway/gateway.yml")
DEFAULT_SECRETS: Final = Path("/etc/tresor/secrets/gateway")


def parser() -> argparse.ArgumentParser:
    """The command line; kept apart so that documents can be compared with it."""
    top = argparse.ArgumentParser(
        prog="python -m tresor_gateway.audit content",
        description="Every use is recorded in the audit log, with who it was and why.",
    )
    top.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="default %(default)s")
    top.add_argument(
        "--secrets",
        type=Path,
        default=DEFAULT_SECRETS,
        help="where the configuration's credentials lie outside of the service's unit",
    )
    verbs = top.add_subparsers(dest="verb", required=True)
    show = verbs.add_parser("show", help="print what was asked and answered (JSON)")
    show.add_argument("--record", required=True, help="id or request_id of a decision")
    erase = verbs.add_parser("erase", help="destroy the key of a person's day")
    who = erase.add_mutually_exclusive_group(required=True)
    who.add_argument("--subject", help="as the token's sub has it")
    who.add_argument("--pseudonym", help="as the audit record has it")
    erase.add_argument("--day", required=True, help="YYYY-MM-DD, UTC")
    name = verbs.add_parser("pseudonym", help="what a subject is called in audit records")
    name.add_argument("--subject", required=True, help="as the token's sub has it")
    for verb in (show, erase, name):
        verb.add_argument("--reason", required=True, help="why, such as a ticket; it is recorded")
    erase.add_argument("--behalf", default="", help="who asked for it, when a playbook runs this")
    verbs.add_parser("expire", help="remove the days whose time is over")
    return top


def main(arguments: list[str]) -> int:
    """Exit status 0: done, 1: not possible (and recorded, where it could be), 2: wrong use."""
    options = parser().parse_args(arguments)
    os.umask(0o027)
    # Outside of its unit nobody has handed the service's credentials over.
    os.environ.setdefault("CREDENTIALS_DIRECTORY", str(options.secrets))
    try:
        return _run(options, configuration.load(options.config))
    except GatewayError as error:
        print(f"content: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace, config: Config) -> int:
    operator = who()
    if getattr(options, "behalf", ""):
        operator = f"{operator} for {options.behalf}"
    if config.content is None:
        raise ContentError("the configuration has no section content: nothing is kept here")
    if options.verb == "expire":
        become_owner(Path(config.audit.directory))
        desk = Operator(config)
        gone = desk.expire(Order("expire", operator, f"{config.content.retention_days} days over"))
        print(f"removed: {', '.join(gone) or 'nothing'}")
        return 0
    # Read as the one who may, before becoming the one who owns the log.
    subject = getattr(options, "pseudonym", None) or ""
    if getattr(options, "subject", None):
        subject = keys.load(config).pseudonym("subject", config.identity.issuer, options.subject)
    key = site_key(config.content) if options.verb == "show" else None
    become_owner(Path(config.audit.directory))
    desk = Operator(config, key)
    if options.verb == "show":
        content = desk.show(Order("show", operator, options.reason, record=options.record))
        sys.stdout.buffer.write(content + b"\n")
    elif options.verb == "pseudonym":
        print(desk.pseudonym(Order("pseudonym", operator, options.reason, subject)))
    else:
        order = Order("erase", operator, options.reason, subject, options.day)
        count = desk.erase(order)
        print(f"keys destroyed: {count}")
        if options.day == datetime.now(UTC).date().isoformat():
            print("the day is not over: what is asked from now on is kept under a new key")
    return 0


def who() -> str:
    """The person at the keyboard, as far as the system knows."""
    name = os.environ.get("SUDO_USER")
    if name:
        return name
    try:
        uid = int(Path("/proc/self/loginuid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        uid = -1
    for number in (uid, os.getuid()):
        try:
            return pwd.getpwuid(number).pw_name
        except (KeyError, OverflowError):
            continue
    return f"uid {os.getuid()}"


def become_owner(directory: Path) -> None:
    """As root, go on as the owner of ``directory``: what is written must be the service's.

    Raises:
        ContentError: the directory is not there.
    """
    try:
        owner = directory.stat()
    except OSError as error:
        raise ContentError(f"{directory}: {error.strerror}; check audit.directory") from error
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
