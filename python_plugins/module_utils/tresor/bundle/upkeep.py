"""The store over time: what is kept, what is removed, what is hashed again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from . import news, release
from .canonical import sha256_hex
from .errors import EnvironmentNotReadyError, UsageError
from .journal import read_log, utc_now_text
from .layout import Store, sync_folder
from .manifest import BundleManifest, parse_manifest
from .session import Outcome, Session
from .stream import hash_file

SCRUB_FILE = "scrub.json"
PROGRESS_FILE = "progress.json"
REPORT_TEXT = "report.txt"
REPORT_HTML = "report.html"
_MAX_LISTED = 100


class Upkeep(Session):
    """Scrub, repair, retention, garbage collection."""

    def verify_store(self) -> list[str]:
        """Hash the active release again and return the findings.

        Raises:
            UsageError: no release is active.
            EnvironmentNotReadyError: rule ``state.manifest``.
        """
        active = release.current_id(self.store)
        if active is None:
            raise UsageError("state.release", "no release is active; import a bundle")
        return self._scrub([active])

    def scrub(self) -> list[str]:
        """Hash every kept release and every waiting content again and return the findings.

        Raises:
            EnvironmentNotReadyError: rule ``state.manifest``.
        """
        return self._scrub(self.releases())

    def _scrub(self, names: list[str]) -> list[str]:
        hashes: dict[int, str] = {}
        findings: list[str] = []
        missing: set[str] = set()
        for name in names:
            found = release.verify_tree(self.store.release(name), self.manifest_of(name), hashes)
            findings += [f"{name}: {item}" for item in found] if len(names) > 1 else found
        for manifest in [*map(self.manifest_of, names), *self._waiting()]:
            for entry in manifest.blobs().values():
                blob = self.store.blob(entry.sha256)
                try:
                    inode = blob.stat().st_ino
                    if inode not in hashes:
                        hashes[inode] = hash_file(blob)
                    if hashes[inode] == entry.sha256:
                        continue
                except OSError:
                    pass
                missing.add(entry.sha256)
        findings += [f"{digest}: missing or changed in the store" for digest in sorted(missing)]
        record: dict[str, object] = {
            "time": utc_now_text(),
            "releases": names,
            "ok": not findings,
            "findings": len(findings),
        }
        release.write_record(self.store.state / SCRUB_FILE, record)
        if findings:
            self.event("store.scrub.bad", releases=names, findings=findings[:_MAX_LISTED])
        else:
            self.event("store.scrub.ok", releases=names)
        return findings

    def known_damage(self) -> bool:
        """Tell whether the last scrub found something that no import has repaired yet."""
        record = last_scrub(self.store)
        return record is not None and not record.get("ok", False)

    def repair(self, manifest: BundleManifest) -> Outcome:
        """After a bundle's contents came anew: make its release lead to them again."""
        changed = release.relink(self.store, manifest)
        self.event("store.repaired", bundle=manifest.digest, links=changed)
        findings = self.verify_store()
        if findings:
            raise EnvironmentNotReadyError("state.content", findings[0], manifest.id)
        return Outcome("ACTIVE", manifest.id, manifest.digest, True, f"repaired {changed} file(s)")

    def releases(self) -> list[str]:
        """Return the ids of the releases that are kept."""
        folder = self.store.root / "releases"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def previous_id(self) -> str | None:
        """Return the release that was active before the current one and is kept."""
        kept, current = self.releases(), release.current_id(self.store)
        for record in reversed(self.journal.read()):
            name = record.get("id")
            if record["state"] == "ACTIVE" and name != current and name in kept:
                return str(name)
        return None

    def retain(self, keep: set[str]) -> None:
        """Remove every release but these; the current one always stays."""
        for name in self.releases():
            if name not in keep and name != release.current_id(self.store):
                release.remove(self.store, name)
                self.event("store.release-removed", id=name)

    def collect_garbage(self) -> tuple[int, int]:
        """Remove contents that no kept release and no waiting bundle needs.

        Returns:
            Number and bytes of removed contents.

        Raises:
            EnvironmentNotReadyError: rule ``state.manifest``: it is not known what a release needs.
        """
        names = self.releases()
        wanted: set[str] = set()
        manifests = [*map(self.manifest_of, names), *self._waiting()]
        for manifest in manifests:
            wanted |= set(manifest.blobs())
        count = size = 0
        for folder in (self.store.root / "blobs").iterdir():
            for path in folder.iterdir():
                if path.name not in wanted:
                    size += path.stat().st_size
                    count += 1
                    path.unlink()
        digests = {manifest.digest for manifest in manifests}
        kept = self.store.state / "manifests"
        for path in kept.iterdir() if kept.is_dir() else []:
            if path.stem not in digests:
                path.unlink()
        if count:
            self.event("store.gc", contents=count, bytes=size, releases=names)
        return count, size

    def manifest_of(self, release_id: str) -> BundleManifest:
        """Return the manifest that a release was made from.

        Raises:
            EnvironmentNotReadyError: rule ``state.manifest``.
        """
        digest = release.installed_digest(self.store.release(release_id))
        try:
            raw = (self.store.state / "manifests" / f"{digest}.json").read_bytes()
        except OSError as error:
            raise EnvironmentNotReadyError(
                "state.manifest", f"manifest of the release is not there: {error}", release_id
            ) from error
        if sha256_hex(raw) != digest:
            raise EnvironmentNotReadyError(
                "state.manifest", "the stored manifest is not the one that was imported", release_id
            )
        return parse_manifest(raw)

    def _pending(self) -> BundleManifest | None:
        # Two, if a kill fell between the new one's last file and the removal of the old one.
        return max(self._waiting(), key=lambda manifest: manifest.serial, default=None)

    def _waiting(self) -> list[BundleManifest]:
        folder = self.store.state / "pending"
        manifests = []
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if not (path / "receipt-facts.json").exists():
                continue  # a kill fell into its making; the next import makes it whole
            raw = (path / "bundle.json").read_bytes()
            if sha256_hex(raw) != path.name:
                raise EnvironmentNotReadyError(
                    "state.pending", "pending manifest is damaged", path.name
                )
            manifests.append(parse_manifest(raw))
        return manifests

    def _installed(self, manifest: BundleManifest) -> bool:
        return release.installed_digest(self.store.release(manifest.id)) == manifest.digest


def drop_pending(folder: Path) -> None:
    """Let a bundle wait no more; killed anywhere in here, it does not wait half."""
    (folder / "receipt-facts.json").unlink()
    sync_folder(folder)
    shutil.rmtree(folder)


def last_scrub(store: Store) -> dict[str, Any] | None:
    """Return what the last scrub found, None if there was none or its record is damaged."""
    return _note(store.state / SCRUB_FILE)


def _note(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def status(store: Store) -> dict[str, object]:
    """Return what the store holds and waits for; reads only."""
    pending = []
    folder = store.state / "pending"
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not (path / "receipt-facts.json").exists():
            continue
        manifest = parse_manifest((path / "bundle.json").read_bytes())
        signatures = store.approvals(manifest.digest)
        pending.append(
            {
                "id": manifest.id,
                "serial": manifest.serial,
                "bundle_sha256": manifest.digest,
                "bytes": manifest.total_bytes(),
                "parts": [part.name for part in manifest.parts],
                "report": str(path / REPORT_HTML),
                "approved_by": sorted(item.stem for item in signatures.glob("*.sig")),
            }
        )
    steps = read_log(store.journal)
    releases = store.root / "releases"
    return {
        "store": str(store.root),
        "current": release.current_id(store),
        "releases": sorted(path.name for path in releases.iterdir()) if releases.is_dir() else [],
        "pending": pending,
        "last_step": steps[-1] if steps else None,
        "last_scrub": last_scrub(store),
        "advisories": news.latest(store),
        "progress": _note(store.state / PROGRESS_FILE),
        "highwater": json.loads(store.highwater.read_bytes()) if store.highwater.exists() else None,
    }
