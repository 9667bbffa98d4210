"""Command line: ``python -m bundle.builder COMMAND`` from the repository root."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from bundle.builder import advisory_database, build, engine_cache_cli, inventory, show
from bundle.builder.assemble import create_keys, describe
from bundle.builder.blobs import BlobStore
from bundle.builder.context import Context, default_context, exclusive
from bundle.builder.errors import BuilderError
from bundle.builder.evidence import Outside
from bundle.builder.inventory import Inventory
from bundle.builder.lock import LockDir
from bundle.builder.progress import say
from bundle.builder.resolver import Resolver, lock_all
from bundle.builder.spec import SCOPES, load_spec


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bundle.builder",
        description="Make a bundle on the connected side: spec -> lock -> fetch -> build.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    lock = commands.add_parser("lock", help="resolve the spec into bundle/lock")
    lock.add_argument("--part", action="append", default=[], help="only this part (repeatable)")
    lock.add_argument(
        "--upgrade", action="store_true", help="resolve again although the spec did not change"
    )
    lock.add_argument("--dry-run", action="store_true", help="say what would change, write nothing")
    fetch = commands.add_parser("fetch", help="bring what the locks name into the cache")
    fetch.add_argument("--part", action="append", default=[], help="only this part (repeatable)")
    build = commands.add_parser("build", help="fetch, then write OUT/bundle")
    build.add_argument("--out", type=Path, default=Path("build/medium"), help="default %(default)s")
    build.add_argument("--keys", type=Path, help="folder of signing keys; unsigned without it")
    build.add_argument(
        "--lab-keys",
        action="store_true",
        help="create keys in the folder --keys when it has none: one unencrypted key per role, "
        "for labs only",
    )
    build.add_argument(
        "--relock-missing",
        action="store_true",
        help="resolve Debian parts afresh, for this build only, if the mirror dropped a version",
    )
    build.add_argument(
        "--advisories", type=Path, help="folder of OSV records: the vulnerability database"
    )
    build.add_argument("--vex", type=Path, help="statements on findings (CycloneDX or OpenVEX)")
    build.add_argument(
        "--malware-signatures", type=Path, help="folder of ClamAV signatures: scan the contents"
    )
    build.add_argument(
        "--inventory", type=Path, help="signed list of what a site has; only the rest is carried"
    )
    build.add_argument(
        "--inventory-signers", type=Path, help="allowed_signers file: the sites' keys"
    )
    build.add_argument("--serial", type=int, help="serial number instead of the lock's")
    build.add_argument(
        "--verify-cache", action="store_true", help="read every cached content again"
    )
    show = commands.add_parser("show", help="parts, counts and sizes of the locks or a bundle")
    show.add_argument("bundle", nargs="?", type=Path, help="folder of a built bundle")
    cache = commands.add_parser("engine-cache", help="take a warmed cache into a part's lock")
    engine_cache_cli.options(cache)
    for command in (lock, fetch, build, show, cache):
        command.add_argument("--spec", type=Path, help="folder of the spec")
        command.add_argument("--lock-dir", type=Path, help="folder of the locks")
    for command in (lock, fetch, build, cache):
        command.add_argument("--cache", type=Path, help="default $TRESOR_CACHE")
        command.add_argument("--jobs", type=int, default=3, help="downloads at a time")
    for command in (lock, fetch, build):
        command.add_argument(
            "--scope",
            choices=sorted(SCOPES),
            default="lab",
            help="product: what every bundle carries; lab: with the lab's parts (default); "
            "production: with GPU hosts' and vendors' parts",
        )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 2 with a message on stderr."""
    args = _parser().parse_args(argv)
    context = default_context()
    if getattr(args, "cache", None):
        context = replace(context, cache=args.cache.absolute())
    context = replace(context, jobs=getattr(args, "jobs", context.jobs))
    try:
        return _dispatch(args, context)
    except BuilderError as error:
        sys.stderr.write(f"bundle: error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("bundle: interrupted; what is fetched stays, run again to continue\n")
        return 130


def _dispatch(args: argparse.Namespace, context: Context) -> int:
    if args.command == "show" and args.bundle:
        sys.stdout.write(show.show_bundle(args.bundle) + "\n")
        return 0
    spec_dir = args.spec or context.root / "bundle/spec"
    spec = load_spec(spec_dir, context.schema_dir / "spec.schema.json")
    folder = LockDir(
        args.lock_dir or context.root / "bundle/lock", context.schema_dir / "lock.schema.json"
    )
    if args.command == "show":
        scopes = {part.name: part.scope for part in spec.parts}
        sys.stdout.write(show.show_locks(folder, scopes) + "\n")
        return 0
    with exclusive(context.cache):
        return _work(args, Resolver(context, spec, BlobStore(context.cache)), folder)


def _work(args: argparse.Namespace, resolver: Resolver, folder: LockDir) -> int:
    if args.command == "engine-cache":
        return engine_cache_cli.run(args, resolver, folder)
    scopes_wanted = SCOPES[args.scope]
    if args.command == "lock":
        changed = lock_all(
            resolver,
            folder,
            scopes_wanted,
            only=args.part,
            upgrade=args.upgrade,
            dry_run=args.dry_run,
        )
        if args.dry_run:
            say("nothing was written")
            return 0
        say(f"changed locks: {', '.join(changed)}" if changed else "every lock is current")
        return 0
    if args.command == "fetch":
        parts = [resolver.spec.part(name) for name in args.part]
        parts = parts or build.needed_parts(resolver, scopes_wanted)
        _, locks = build.load_locks(resolver, folder, parts)
        build.fetch_all(resolver, locks, parts)
        say("everything the locks name is in the cache")
        return 0
    if args.lab_keys:
        if args.keys is None:
            raise BuilderError("--lab-keys needs --keys FOLDER, where the keys are or shall be")
        create_keys(args.keys)
    options = build.Options(
        out=args.out.absolute(),
        keys=args.keys.absolute() if args.keys else None,
        scopes=scopes_wanted,
        relock_missing=args.relock_missing,
        serial=args.serial,
        verify=args.verify_cache,
        outside=_outside(args),
        inventory=_inventory(args),
    )
    built = build.build(resolver, folder, options, datetime.now(UTC))
    describe(built)
    sys.stdout.write(built.to_json() + "\n")
    return 0


def _outside(args: argparse.Namespace) -> Outside:
    database = advisory_database.load(args.advisories) if args.advisories else None
    return Outside(database=database, vex=args.vex, signatures=args.malware_signatures)


def _inventory(args: argparse.Namespace) -> Inventory | None:
    if args.inventory is None:
        return None
    if args.inventory_signers is None:
        raise BuilderError("--inventory needs --inventory-signers FILE, the keys of the sites")
    return inventory.read(args.inventory, args.inventory_signers)
