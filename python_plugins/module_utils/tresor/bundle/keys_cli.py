"""``keys``: the commands of the key ceremony and of the release of a bundle."""

from __future__ import annotations

import argparse
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from .ceremony import Terms, draft_release, draft_root, seal, sign_draft
from .errors import EXIT_OK, UsageError
from .metadata import whole_seconds
from .openssh import PublicKey, read_public
from .rolekeys import NAME
from .spoken import describe

_CONFIRM = 8  # characters of the digest that are typed


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Describe the commands to a parser."""
    commands = parser.add_subparsers(dest="keys", required=True)
    new = commands.add_parser("new", help="make a key for one person or the builder")
    new.add_argument("--name", required=True, help="whose key it is")
    new.add_argument("--out", type=Path, required=True, help="folder for the key and its .pub")
    new.add_argument(
        "--type", choices=("ed25519-sk", "ecdsa-sk", "ed25519"), default="ed25519-sk",
        help="default: a FIDO2 key that must be touched",
    )  # fmt: skip
    new.add_argument("--no-passphrase", action="store_true", help="software key without passphrase")
    root = commands.add_parser("root", help="draft the first root, or the next one")
    root.add_argument("folder", type=Path, help="where the roots lie")
    for role in ("root", "approver", "builder"):
        root.add_argument(f"--{role}", type=Path, action="append", default=[], metavar="NAME.pub")
    root.add_argument("--remove", action="append", default=[], metavar="NAME", help="revoke")
    for name, default in (
        ("root-threshold", None), ("approver-threshold", None), ("root-years", 2),
        ("approver-days", 365), ("builder-days", 90),
    ):  # fmt: skip
        root.add_argument(f"--{name}", type=int, default=default)
    release = commands.add_parser("release", help="draft the release of a bundle")
    release.add_argument("bundle", type=Path, help="folder that the builder made")
    release.add_argument("--roots", type=Path, required=True)
    one = commands.add_parser("sign", help="sign a draft as one person")
    one.add_argument("draft", type=Path)
    one.add_argument("--key", type=Path, required=True, help="private key, or .pub of the agent's")
    one.add_argument("--yes", action="store_true", help="do not ask for the digest")
    seal = commands.add_parser("seal", help="complete a released bundle as the builder")
    seal.add_argument("bundle", type=Path)
    seal.add_argument("--key", type=Path, required=True)
    show = commands.add_parser("show", help="say what a root, a release or a draft means")
    show.add_argument("file", type=Path)


def run(options: argparse.Namespace, now: datetime | None = None) -> int:
    """Run one command; returns the exit code.

    Raises:
        UsageError, RejectedError: what is wrong and what to do; no file was changed.
    """
    moment = whole_seconds(now or datetime.now(UTC))
    match options.keys:
        case "new":
            new_key(options.out, options.name, options.type, passphrase=not options.no_passphrase)
        case "root":
            terms = {
                name: value
                for name in Terms.__slots__
                if (value := getattr(options, name)) is not None
            }
            _say(
                draft_root(
                    options.folder,
                    {"root": options.root, "targets": options.approver, "builder": options.builder},
                    options.remove,
                    terms,
                    moment,
                )
            )
        case "release":
            _say(draft_release(options.bundle, options.roots))
        case "sign":
            print(describe(options.draft), flush=True)
            confirm = None if options.yes else _ask
            _say(sign_draft(options.draft, options.key, moment, confirm))
        case "seal":
            _say(seal(options.bundle, options.key, moment))
        case _:
            print(describe(options.file))
    return EXIT_OK


def new_key(folder: Path, name: str, kind: str, *, passphrase: bool) -> PublicKey:
    """Make a key with ``ssh-keygen``, which asks for the passphrase or a touch itself.

    Raises:
        UsageError: rule ``keys.name``, ``keys.exists``, ``keys.made``.
    """
    if not NAME.fullmatch(name):
        raise UsageError("keys.name", f"{name!r} is not a name (A-Za-z0-9._@-)")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / name
    if path.exists() or path.with_name(f"{name}.pub").exists():
        raise UsageError(
            "keys.exists", "there is a key of this name; nothing was changed", str(path)
        )
    arguments = ["ssh-keygen", "-q", "-t", kind, "-C", name, "-f", str(path)]
    if kind.endswith("-sk"):
        arguments += ["-O", "application=ssh:tresor"]
    if not passphrase:
        arguments += ["-N", ""]
    if subprocess.run(arguments, check=False).returncode != 0:
        raise UsageError("keys.made", "ssh-keygen made no key", str(path))
    public = read_public(path)
    print(
        f"{name}: {public.kind} {public.fingerprint}\nread this fingerprint out and write it down"
    )
    return public


def _ask(digest: str) -> None:
    """Let the person type the beginning of the digest of what is signed."""
    print(f"digest of what you sign: {digest}", flush=True)
    typed = input(f"compare it with the other screen; type its first {_CONFIRM} characters: ")
    if typed.strip().lower() != digest[:_CONFIRM]:
        raise UsageError("keys.confirm", "that is not how the digest begins; nothing was signed")


def _say(path: Path) -> None:
    if path.name == "timestamp.json":
        print(f"sealed: {path.parent.parent} can be imported")
        return
    print(f"{path}\n{describe(path)}")
