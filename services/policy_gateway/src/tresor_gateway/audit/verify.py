"""Check audit files without trusting or importing the gateway (standard library only).

A line is canonical JSON (sorted keys, no spaces, UTF-8) and carries in ``prev`` the SHA-256 of
the line before it, so a changed, removed or inserted record breaks every later link.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GENESIS = "0" * 64
MAX_LINE_BYTES = 1 << 20


class ChainError(Exception):
    """A file does not continue the chain; says where and why."""


@dataclass
class Link:
    """Where a chain stands: the hash the next line must name, and its number."""

    prev: str
    seq: int
    writer: str


def canonical(value: object) -> bytes:
    """The one way to write a record."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def check_line(line: bytes, before: Link | None) -> tuple[Link, dict[str, Any]]:
    """Check one line (without newline) against the link before it.

    Raises:
        ChainError: it is not canonical, or does not follow.
    """
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ChainError("is not JSON") from error
    if not isinstance(record, dict) or canonical(record) != line:
        raise ChainError("is not canonical JSON")
    prev, seq, writer = record.get("prev"), record.get("seq"), record.get("writer")
    if not isinstance(prev, str) or not isinstance(seq, int) or not isinstance(writer, str):
        raise ChainError("has no prev, seq or writer")
    if before is not None:
        if prev != before.prev:
            raise ChainError(f"names {prev[:16]}… as the line before, which is {before.prev[:16]}…")
        if seq != before.seq + 1:
            raise ChainError(f"has number {seq} behind number {before.seq}")
        if writer != before.writer:
            raise ChainError(f"was written by {writer!r} in a chain of {before.writer!r}")
    elif seq == 1 and prev != GENESIS:
        raise ChainError("is number 1 but not the beginning of a chain")
    return Link(hashlib.sha256(line).hexdigest(), seq, writer), record


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines without their newline.

    Raises:
        ChainError: the last line is torn, or a line is too long to be one of ours.
    """
    with path.open("rb") as stream:
        number = 0
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            if not line.endswith(b"\n"):
                raise ChainError(f"{path}:{number}: is torn or longer than {MAX_LINE_BYTES} bytes")
            yield number, line[:-1]


def order(paths: Iterable[Path]) -> list[Path]:
    """Files in the order of their chain: by folder, date and number."""

    def key(path: Path) -> tuple[str, str, int]:
        date, _, number = path.stem.rpartition("-")
        return str(path.parent), date, int(number) if number.isdigit() else 0

    found: list[Path] = []
    for path in paths:
        found.extend(path.glob("**/*.jsonl") if path.is_dir() else [path])
    return sorted(found, key=key)


@dataclass
class Report:
    """What was checked."""

    files: int
    records: int
    decisions: int
    complete: bool
    links: dict[str, Link]


def verify(paths: Iterable[Path]) -> Report:
    """Check files; each folder is a chain of its own.

    Raises:
        ChainError: names file, line and problem.
    """
    links: dict[str, Link] = {}
    report = Report(0, 0, 0, True, links)
    for path in order(paths):
        report.files += 1
        chain = str(path.parent)
        for number, line in lines(path):
            try:
                before = links.get(chain)
                links[chain], record = check_line(line, before)
            except ChainError as error:
                raise ChainError(f"{path}:{number}: {error}") from error
            if before is None and links[chain].seq != 1:
                report.complete = False
            report.records += 1
            report.decisions += record.get("type") == "decision"
    return report


def main(arguments: list[str] | None = None) -> int:
    """``verify FILE…``: exit status 0 when the chain holds, 1 when not, 2 for wrong use."""
    parser = argparse.ArgumentParser(prog="python -m tresor_gateway.audit")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("verify", help="check the hash chain of audit files")
    check.add_argument("files", nargs="+", type=Path, metavar="FILE", help="files or folders")
    check.add_argument(
        "--from-start",
        action="store_true",
        help="fail unless each chain begins with its first record",
    )
    options = parser.parse_args(arguments)
    try:
        report = verify(options.files)
    except (ChainError, OSError) as error:
        print(f"broken: {error}", file=sys.stderr)
        return 1
    if not report.files:
        print("no audit files there", file=sys.stderr)
        return 2
    for chain, link in sorted(report.links.items()):
        print(f"{chain}: number {link.seq}, sha256 {link.prev}")
    begin = "complete" if report.complete else "begins in the middle of a chain"
    print(
        f"ok: {report.files} files, {report.records} records, {report.decisions} decisions, {begin}"
    )
    if options.from_start and not report.complete:
        print("broken: the beginning of a chain is missing", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
