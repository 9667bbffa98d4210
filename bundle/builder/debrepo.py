"""The package repository of a debs part: ``Packages`` and ``Release``, the same for one lock.

The release file is unsigned here; the site's bastion signs what it released.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.utils import format_datetime

PACKAGES_PATH = "dists/site/main/binary-{architecture}/Packages"
RELEASE_PATH = "dists/site/Release"
_OURS = ("Filename", "Size", "MD5sum", "SHA1", "SHA256")


def packages_text(rows: Sequence[tuple[str, str, int, str]]) -> str:
    """Return the index.

    Args:
        rows: (control paragraph, path in the repository, size in bytes, SHA-256) per package.
    """
    blocks: list[tuple[str, str]] = []
    for control, path, size, sha256 in rows:
        lines = [
            line for line in control.strip("\n").splitlines() if line.split(":", 1)[0] not in _OURS
        ]
        lines += [f"Filename: {path}", f"Size: {size}", f"SHA256: {sha256}"]
        blocks.append((path, "\n".join(lines) + "\n"))
    return "\n".join(text for _, text in sorted(blocks))


def release_text(
    indexes: Mapping[str, bytes], *, architecture: str, label: str, created: datetime
) -> str:
    """Return the release file over ``indexes`` (path below ``dists/site`` -> content).

    Args:
        indexes: the index files.
        architecture: Debian architecture.
        label: says for which Debian release the packages are.
        created: the date, from the lock; UTC.
    """
    date = format_datetime(created).replace("+0000", "UTC")
    lines = [
        "Origin: Tresor",
        f"Label: {label}",
        "Suite: site",
        "Codename: site",
        f"Date: {date}",
        f"Architectures: {architecture}",
        "Components: main",
        f"Description: packages released for this site ({label})",
        "SHA256:",
    ]
    lines += [
        f" {hashlib.sha256(raw).hexdigest()} {len(raw)} {path}"
        for path, raw in sorted(indexes.items())
    ]
    return "\n".join(lines) + "\n"
