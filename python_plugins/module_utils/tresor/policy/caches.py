"""Compiled kernels for engines: code that no source in the bundle explains.

An engine loads its cache without looking, programs included. So each cache needs an allowance of
the bundle's people that names the digest of its list, and both approvers see that it is code.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..bundle.canonical import sha256_hex
from ..bundle.errors import RejectedError
from ..bundle.manifest import Part
from ..engine_cache import archive, record
from .verdict import NOTE, REFUSE, Verdict, verdict
from .view import BundleView

GATE = "caches"


def gate(view: BundleView, part: Part) -> Iterator[Verdict]:
    """Check record and archive of a cache, and whether somebody answers for it."""
    files = {entry.path: entry for entry in part.files}
    if set(files) != {record.RECORD_FILE, record.ARCHIVE_FILE}:
        wanted = f"{record.RECORD_FILE} and {record.ARCHIVE_FILE}"
        yield verdict("caches.files", REFUSE, part.name, sorted(files), f"Carry only {wanted}")
        return
    raw = view.read(files[record.RECORD_FILE], record.MAX_RECORD_BYTES, "caches")
    try:
        found = record.parse(raw)
        with view.open(files[record.ARCHIVE_FILE]) as stream:
            archive.check(found, stream)
    except RejectedError as error:
        yield verdict(
            f"caches.{error.rule.partition('.')[2]}",
            REFUSE,
            f"{part.name}/{error.path}",
            str(error.args[0]),
            "Make the cache again with 'python -m bundle.builder engine-cache'",
        )
        return
    digest = sha256_hex(raw)
    what = f"{len(found.files)} files of CODE for {found.fits.gpu}, {found.fits.model}"
    if digest not in view.declared.allowed("caches.code", part.name):
        yield verdict(
            "caches.code",
            REFUSE,
            part.name,
            f"{what}; nobody answers for list {digest}",
            f"Have the build host checked, then allow rule caches.code, package {part.name}",
        )
        return
    yield verdict(
        "caches.code",
        NOTE,
        part.name,
        f"{what}, list {digest}: engines run it unseen",
        "Approve only if you trust the build host that made it",
    )
