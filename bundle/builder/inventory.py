"""What a site says it has, signed: a delta leaves out facts, not guesses.

``inventory.json`` has the keys schema (``inventory/v1``), site, serial, bundle (id, digest), blobs,
with an SSH signature beside it (``inventory.json.sig``, namespace ``tresor-inventory``).
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.builder.errors import BuilderError

NAMESPACE = "tresor-inventory"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Inventory:
    """One site's contents and the release it runs."""

    site: str
    serial: int
    base: Mapping[str, str]
    blobs: frozenset[str]


def read(path: Path, signers: Path) -> Inventory:
    """Read and verify an inventory.

    Args:
        path: the list; its signature lies beside it.
        signers: ``allowed_signers`` of ssh-keygen: which site signs with which key.

    Raises:
        BuilderError: not signed by the site it speaks for, or malformed.
    """
    try:
        raw = path.read_bytes()
        data = json.loads(raw) if len(raw) <= _MAX_BYTES else None
    except (OSError, ValueError) as error:
        raise BuilderError(f"inventory {path}: cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise BuilderError(f"inventory {path}: is not of the form inventory/v1")
    site = data.get("site")
    if not isinstance(site, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", site):
        raise BuilderError(f"inventory {path}: site is {site!r}, not a site's name")
    _verify(path, raw, site, signers)
    return _parse(path, site, data)


def _verify(path: Path, raw: bytes, site: str, signers: Path) -> None:
    args = ["ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", site, "-n", NAMESPACE]
    done = subprocess.run(
        [*args, "-s", f"{path}.sig"], input=raw, capture_output=True, timeout=30, check=False
    )
    if done.returncode != 0:
        why = (done.stderr or done.stdout).decode(errors="replace").strip()[:200]
        raise BuilderError(
            f"inventory {path} is not signed by site {site!r} ({why}): fetch list and signature "
            f"from that site again, and its key into {signers}"
        )


def _parse(path: Path, site: str, data: Mapping[str, Any]) -> Inventory:
    base, blobs, serial = data.get("bundle"), data.get("blobs"), data.get("serial")
    if (
        data.get("schema") != "inventory/v1"
        or not isinstance(base, dict)
        or set(base) != {"id", "digest"}
        or not _SHA256.fullmatch(str(base["digest"]).removeprefix("sha256:"))
        or not isinstance(blobs, list)
        or not all(isinstance(item, str) and _SHA256.fullmatch(item) for item in blobs)
        or not isinstance(serial, int)
    ):
        raise BuilderError(f"inventory {path}: is not of the form inventory/v1")
    digest = "sha256:" + str(base["digest"]).removeprefix("sha256:")
    return Inventory(site, serial, {"id": str(base["id"]), "digest": digest}, frozenset(blobs))
