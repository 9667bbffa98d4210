"""What a site has, in its own signed words: from this the builder makes deltas.

``inventory.json`` (``inventory/v1``) names the site, the highest serial it accepted, the running
release and the digests of its contents. It holds no contents and no secret, and crosses the air gap
outwards; the builder believes it because the site's key signed it.
"""

from __future__ import annotations

import json
from pathlib import Path

from . import release
from .canonical import dump_canonical
from .errors import EnvironmentNotReadyError, UsageError
from .layout import write_atomic
from .openssh import ssh_keygen
from .session import Outcome
from .upkeep import Upkeep

NAMESPACE = "tresor-inventory"
INVENTORY_FILE = "inventory.json"


def export(upkeep: Upkeep, folder: Path, key: Path) -> Outcome:
    """Write and sign the inventory of the running release.

    Args:
        upkeep: the store, locked.
        folder: where ``inventory.json`` and ``inventory.json.sig`` go; must exist.
        key: the site's private SSH key, or the .pub of one that an agent holds.

    Raises:
        UsageError: ``state.release``: nothing runs; ``inventory.key``: the key does not sign.
        EnvironmentNotReadyError: ``state.content``: the store lacks what it should have;
            ``environment.write``.
    """
    active = release.current_id(upkeep.store)
    if active is None:
        raise UsageError("state.release", "no release is active; import a bundle")
    manifest = upkeep.manifest_of(active)
    if upkeep.known_damage():
        raise _damaged("the last scrub found damage that no import has repaired", active)
    for entry in manifest.blobs().values():
        blob = upkeep.store.blob(entry.sha256)
        if not blob.is_file() or blob.stat().st_size != entry.size:
            raise _damaged("a content is missing or not of its size", str(blob))
    receipt = json.loads((upkeep.store.release(active) / release.RECEIPT_FILE).read_bytes())
    accepted = max(upkeep.marks.active().serial, upkeep.marks.seen().serial, manifest.serial)
    listing = {
        "schema": "inventory/v1",
        "site": receipt["site"],
        "serial": accepted,
        "bundle": {"id": manifest.id, "digest": f"sha256:{manifest.digest}"},
        "blobs": sorted(manifest.blobs()),
    }
    path = folder / INVENTORY_FILE
    _write(path, dump_canonical(listing) + b"\n", key)
    upkeep.event(
        "store.inventory-exported",
        bundle=manifest.digest,
        id=manifest.id,
        contents=len(manifest.blobs()),
    )
    message = f"{len(manifest.blobs())} contents of {receipt['site']}, signed: {path}"
    return Outcome("EXPORTED", manifest.id, manifest.digest, True, message)


def _write(path: Path, raw: bytes, key: Path) -> None:
    """Sign before the list gets its name: one without a signature is no use to anybody."""
    done = ssh_keygen(["-q", "-Y", "sign", "-f", str(key), "-n", NAMESPACE], raw)
    if done.returncode != 0:
        why = done.stderr.decode(errors="replace").strip()[:200]
        raise UsageError("inventory.key", f"does not sign: {why}", str(key))
    try:
        if not path.parent.is_dir():
            raise FileNotFoundError(f"{path.parent} does not exist")
        write_atomic(path.with_name(f"{path.name}.sig"), done.stdout)
        write_atomic(path, raw)
    except OSError as error:
        raise EnvironmentNotReadyError(
            "environment.write", f"cannot write: {error.strerror or error}", str(path)
        ) from error


def _damaged(seen: str, path: str) -> EnvironmentNotReadyError:
    return EnvironmentNotReadyError(
        "state.content",
        f"{seen}: a delta on it could not be imported. Repair the store from its medium first",
        path,
    )
