"""What the store remembers so that time and versions only go forward."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from .canonical import dump_canonical, sha256_hex
from .errors import EnvironmentNotReadyError, RejectedError, UsageError
from .journal import parse_time, time_text
from .layout import Store, write_atomic
from .manifest import BundleManifest
from .trust import TrustedState, VerifiedMetadata, first_root

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Mark:
    """One remembered bundle: the active one, or the newest whose copying began."""

    serial: int = 0
    version: int = 0
    bundle_sha256: str = ""
    time_floor: datetime = _EPOCH


class Marks:
    """High-water marks and trusted metadata below ``state/``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pinned = store.state / "root.sha256"

    def active(self) -> Mark:
        """Return the mark of the newest bundle that ever became active.

        Raises:
            EnvironmentNotReadyError: rule ``state.highwater``.
        """
        return _read(self._store.highwater)

    def seen(self) -> Mark:
        """Return the mark of the newest bundle that was accepted for copying."""
        return _read(self._store.state / "seen.json")

    def floor(self) -> datetime:
        """Return the latest signed time seen: it cannot be earlier now, whatever the clock says."""
        return max(self.active().time_floor, self.seen().time_floor)

    def check_forward(self, verified: VerifiedMetadata, manifest: BundleManifest) -> None:
        """Refuse what is older than anything accepted, and a second bundle of one version.

        TUF alone forgets versions when a root takes a key away; these marks do not.

        Raises:
            RejectedError: ``signature.version``, ``signature.version-reused``, ``fit.serial``.
        """
        seen = self.seen()
        if verified.version < seen.version:
            raise RejectedError(
                "signature.version",
                f"release {verified.version} was signed before {seen.version}, which was seen here",
            )
        if verified.version == seen.version and manifest.digest != seen.bundle_sha256:
            raise RejectedError(
                "signature.version-reused",
                f"two bundles were released as number {verified.version}: ask the approvers why",
            )
        for mark in (self.active(), seen):
            if manifest.serial < mark.serial or (
                manifest.serial == mark.serial and manifest.digest != mark.bundle_sha256
            ):
                raise RejectedError(
                    "fit.serial",
                    f"serial {manifest.serial} is not newer than {mark.serial}, "
                    "which was accepted here",
                )

    def remember_seen(self, verified: VerifiedMetadata, manifest: BundleManifest) -> None:
        """Raise the mark of what was seen; call before copying."""
        record = _record(manifest, self.floor())
        write_atomic(
            self._store.state / "seen.json",
            dump_canonical({**record, "version": verified.version}) + b"\n",
            0o600,
        )

    def remember_active(self, manifest: BundleManifest) -> None:
        """Raise the high-water mark."""
        record = {**_record(manifest, self.floor()), "id": manifest.id}
        write_atomic(self._store.highwater, dump_canonical(record) + b"\n", 0o600)

    def trusted(self, first: bytes | None, fingerprint: str | None) -> TrustedState:
        """Return the metadata trusted so far; at first contact, the root of the fingerprint.

        Args:
            first: bytes of the medium's ``1.root.json``.
            fingerprint: what the operator gave.

        Raises:
            UsageError, RejectedError: ``signature.root-fingerprint``.
            EnvironmentNotReadyError: rule ``state.trusted``.
        """
        if not self._pinned.exists():
            if fingerprint is None:
                raise UsageError(
                    "signature.root-fingerprint",
                    "the first import needs --root-sha256: the fingerprint you got on paper",
                )
            return TrustedState(first_root(first, fingerprint))
        known = self.root_sha256()
        if fingerprint and fingerprint.lower() != known:
            raise RejectedError(
                "signature.root-fingerprint",
                f"this store trusts the root {known}, you gave {fingerprint}",
                "tuf/1.root.json",
            )
        folder = self._store.trusted
        try:
            roots = {1: known}
            if (folder / "roots.json").exists():
                listed = json.loads((folder / "roots.json").read_bytes())
                roots = {int(version): str(digest) for version, digest in listed.items()}
            root = (folder / "root.json").read_bytes()
            if sha256_hex(root) not in roots.values():
                raise ValueError("root.json is not a root that was accepted")
            return TrustedState(
                root, _optional(folder / "timestamp.json"), _optional(folder / "snapshot.json"),
                roots,
            )  # fmt: skip
        except (OSError, ValueError, AttributeError) as error:
            raise EnvironmentNotReadyError(
                "state.trusted", f"trusted metadata is damaged: {error}", str(folder)
            ) from error

    def root_sha256(self) -> str:
        """Return the fingerprint of the first root that this store trusts."""
        return self._pinned.read_text(encoding="ascii").strip()

    def trust_root(self, state: TrustedState) -> None:
        """Keep a verified root at once: a key that it takes away is gone from here on."""
        roots = {str(version): digest for version, digest in state.roots.items()}
        folder = self._store.trusted
        if self._pinned.exists() and (folder / "root.json").read_bytes() == state.root:
            return
        # In this order a kill between the two leaves a list that still has the older root.
        write_atomic(folder / "roots.json", dump_canonical(roots) + b"\n", 0o600)
        write_atomic(folder / "root.json", state.root, 0o600)
        if not self._pinned.exists():
            # Last: without it the next run begins again from the fingerprint.
            write_atomic(self._pinned, f"{state.roots[1]}\n".encode(), 0o600)

    def trust_release(self, state: TrustedState) -> None:
        """Keep the metadata of a bundle that fits: from here on only newer is accepted."""
        for name, raw in (("timestamp", state.timestamp), ("snapshot", state.snapshot)):
            write_atomic(self._store.trusted / f"{name}.json", cast(bytes, raw), 0o600)


def _record(manifest: BundleManifest, floor: datetime) -> dict[str, object]:
    return {
        "serial": manifest.serial,
        "bundle_sha256": manifest.digest,
        "time_floor": time_text(max(floor, manifest.created)),
    }


def _read(path: Path) -> Mark:
    try:
        record = json.loads(path.read_bytes())
        return Mark(
            serial=int(record["serial"]),
            version=int(record.get("version", 0)),
            bundle_sha256=str(record["bundle_sha256"]),
            time_floor=parse_time(str(record["time_floor"])),
        )
    except FileNotFoundError:
        return Mark()
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise EnvironmentNotReadyError(
            "state.highwater", f"high-water mark is damaged: {error}", str(path)
        ) from error


def _optional(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
