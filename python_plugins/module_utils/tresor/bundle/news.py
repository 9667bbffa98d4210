"""Advisories that two people let in: kept beside the releases, judged against the running one.

A bundle of advisories carries no software. It replaces no release, takes no release's place among
those that are kept, and is no base of a delta. What it says of the running release is written
into the audit and stays here as evidence: the regular scan inside the perimeter.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from ..policy.verdict import RED, Verdict
from . import gates
from .layout import Store, write_atomic
from .manifest import BundleManifest
from .release import RECEIPT_FILE, write_record

KEPT = 60
"""So many are kept: a year of weekly ones and some."""


def is_adopted(store: Store, digest: str) -> bool:
    """Tell whether this bundle of advisories was let in."""
    # Written last.
    return (store.news(digest) / RECEIPT_FILE).is_file()


def adopt(
    store: Store,
    manifest: BundleManifest,
    receipt: Mapping[str, object],
    verdicts: Sequence[Verdict],
) -> list[Verdict]:
    """Keep the contents, the verdicts and the receipt; return what needs an answer.

    Killed anywhere in here, the next activation does it again.
    """
    folder = store.news(manifest.digest)
    for entry in manifest.blobs().values():
        write_atomic(folder / "blobs" / entry.sha256, store.blob(entry.sha256).read_bytes(), 0o600)
    gates.save(folder, verdicts)
    red = [item for item in verdicts if item.severity == RED]
    write_record(folder / RECEIPT_FILE, {**receipt, "findings": [item.as_json() for item in red]})
    for old in _newest_first(store)[KEPT:]:
        shutil.rmtree(store.news(str(old["bundle_sha256"])))
    return red


def latest(store: Store) -> dict[str, Any] | None:
    """Return the receipt of the newest advisories, None without any."""
    return next(iter(_newest_first(store)), None)


def _newest_first(store: Store) -> list[dict[str, Any]]:
    folder = store.state / "advisories"
    receipts = []
    for path in folder.glob(f"*/{RECEIPT_FILE}"):
        try:
            receipts.append(json.loads(path.read_bytes()))
        except (OSError, ValueError):
            continue
    return sorted(receipts, key=lambda item: int(item["serial"]), reverse=True)
