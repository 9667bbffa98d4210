"""Command line of ``importer.pyz``.

Exit codes: 0 done, 2 wrong use, 3 the bundle or an approval was rejected, 4 this machine or the
medium is not ready (the same command continues later).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace

from . import holdings, keys_cli, report
from .bootstrap import Places, bootstrap
from .errors import EXIT_ENVIRONMENT, EXIT_OK, EXIT_REJECTED, BundleError, EnvironmentNotReadyError
from .layout import Store
from .machine import Importer, Outcome, Request, locked, status
from .medium import Medium
from .options import DEFAULT_MEDIUM, build_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    options = build_parser().parse_args(argv)
    try:
        if options.verb == "keys":
            return keys_cli.run(options)
        return _on_store(Store(options.store), options)
    except BundleError as error:
        if getattr(options, "json", False):
            print(json.dumps({"failed": True, "changed": False, **error.as_json()}, sort_keys=True))
        print(f"importer: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("importer: stopped; the same command continues", file=sys.stderr)
        return EXIT_ENVIRONMENT
    except OSError as error:
        print(f"importer: environment.os: {error}", file=sys.stderr)
        return EXIT_ENVIRONMENT


def _on_store(store: Store, options: argparse.Namespace) -> int:
    if options.verb == "status":
        return _status(store, as_json=options.json)
    if options.verb == "import" and options.check:
        return _show(_take(Importer(store, quiet=True), options), as_json=options.json)
    with locked(store):
        return _command(store, options)


def _command(store: Store, options: argparse.Namespace) -> int:
    if options.verb == "bootstrap":
        places = Places(options.prefix, options.command, options.importer, options.python)
        release, changed = bootstrap(store, places)
        outcome = Outcome("READY", release.name, "", changed, f"environment: {release}")
        return _show(outcome, as_json=options.json)
    importer = Importer(store, quiet=getattr(options, "quiet", False))
    match options.verb:
        case "import":
            outcome = _take(importer, options)
        case "review":
            return _review(importer, options)
        case "approve":
            if not options.json:
                sys.stderr.write(report.as_text(importer.review()))
            outcome = importer.approve(
                options.person,
                options.allowed_signers,
                key=options.key,
                signature=options.signature,
            )
        case "withdraw":
            outcome = importer.withdraw(options.person, options.reason)
        case "activate":
            outcome = importer.activate(options.allowed_signers)
        case "switch":
            outcome = importer.switch(options.release, options.person, options.reason)
        case "inventory":
            outcome = holdings.export(importer, options.out, options.key)
        case "gc":
            count, size = importer.collect_garbage()
            message = f"removed {count} content(s), {size:,} bytes"
            outcome = Outcome("CLEAN", "", "", count > 0, message)
        case "scrub":
            return _findings(importer.scrub(), as_json=options.json)
        case _:
            return _findings(importer.verify_store(), as_json=options.json)
    return _show(outcome, as_json=options.json)


def _take(importer: Importer, options: argparse.Namespace) -> Outcome:
    """Import from the mounted volumes one after the other; the last one completes it."""
    request = Request(options.site, options.root_sha256, "lab" in options.accept_scope)
    media = [Medium(path) for path in options.medium or [DEFAULT_MEDIUM]]
    run = importer.preview if options.check else importer.import_bundle
    changed = False
    for medium in media[:-1]:
        try:
            changed |= run(medium, request).changed
        except EnvironmentNotReadyError as error:
            if error.rule != "medium.volume":
                raise
            changed = True
    outcome = run(media[-1], request)
    return replace(outcome, changed=outcome.changed or changed)


def _review(importer: Importer, options: argparse.Namespace) -> int:
    difference = importer.review()
    if options.html is not None:
        options.html.write_text(report.as_html(difference), encoding="utf-8")
    if options.json:
        print(json.dumps(asdict(difference), sort_keys=True))
    else:
        sys.stdout.write(report.as_text(difference))
    return EXIT_OK


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
        print("\n".join(findings) or "all contents are what was imported")
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
        print(f"         what it changes: {item['report']}, or the command review")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
