"""The import's state machine: each state is on disk before the step that follows it.

SEEN -> META_VERIFIED -> FITS -> COPYING -> CONTENT_OK -> AWAIT_APPROVAL -> ACTIVE, or REJECTED.
A killed import is continued by the same command: metadata is verified from zero, contents that
are already here are hashed again from our own disk. They are hashed once more before a release
becomes current, for approvals may take days.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

from . import approval, content, release
from .canonical import sha256_hex
from .copier import Copier, damaged_contents, space_needed
from .disk import check_space, remove_tree
from .errors import BundleError, EnvironmentNotReadyError, RejectedError, UsageError
from .journal import AppendLog, Value, parse_time, read_log, time_text, utc_now_text
from .layout import Store, write_atomic
from .manifest import BundleManifest, FileEntry, parse_manifest
from .medium import Medium
from .progress import Progress
from .trust import TrustedState, VerifiedMetadata, first_root, verify

CLOCK_TOLERANCE = timedelta(hours=24)
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Request:
    """What the operator asked for."""

    site: str
    root_sha256: str | None
    accept_lab: bool


@dataclass(frozen=True, slots=True)
class Machine:
    """This computer, as far as a bundle's audience cares."""

    arch: str
    os: str

    @classmethod
    def here(cls) -> Machine:
        """Read it from the kernel and ``/etc/os-release``."""
        info = platform.freedesktop_os_release()
        arch = platform.machine()
        return cls(
            _ARCHITECTURES.get(arch, arch), f"{info.get('ID', '')}-{info.get('VERSION_ID', '')}"
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended; ``changed`` tells whether anything on disk is different."""

    state: str
    release: str
    bundle: str
    changed: bool
    message: str

    def as_json(self) -> dict[str, str | bool]:
        """Return the outcome for machines."""
        return {
            "state": self.state,
            "release": self.release,
            "bundle_sha256": self.bundle,
            "changed": self.changed,
            "message": self.message,
        }


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """Let one importer work at a time; the lock ends with the process.

    Raises:
        EnvironmentNotReadyError: ``environment.store``, ``environment.locked``.
    """
    try:
        store.create()
        descriptor = os.open(store.state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EnvironmentNotReadyError(
            "environment.store", f"cannot use the store: {error.strerror}", str(store.root)
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
            raise EnvironmentNotReadyError(
                "environment.locked",
                f"another importer works on this store (process {holder}); wait for it",
                str(store.root),
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


class Importer:
    """Runs the commands on a store; use inside :func:`locked`."""

    def __init__(
        self,
        store: Store,
        *,
        now: datetime | None = None,
        machine: Machine | None = None,
        quiet: bool = False,
    ) -> None:
        self.store = store
        self.now = now or datetime.now(UTC)
        self.machine = machine or Machine.here()
        self.quiet = quiet
        self.journal = AppendLog(store.journal)
        self.events = AppendLog(store.events, "tresor-bundle")

    def import_bundle(self, medium: Medium, request: Request) -> Outcome:
        """Take a bundle in until it waits for approval.

        Raises:
            RejectedError: the bundle is wrong; its staging is gone, the reason is in quarantine.
            EnvironmentNotReadyError: this machine or the medium is not ready; nothing is lost.
        """
        raw = self._see(medium)
        try:
            verified, manifest = self._verify_metadata(medium, request)
        except RejectedError as error:
            self._reject(error, medium, sha256_hex(raw), None)
            raise
        try:
            return self._take_in(medium, request, verified, manifest)
        except RejectedError as error:
            self._reject(error, medium, manifest.digest, manifest)
            raise
        except EnvironmentNotReadyError as error:
            self._event("import.interrupted", bundle=manifest.digest, **error.as_json())
            raise

    def _see(self, medium: Medium) -> bytes:
        raw = medium.metadata("timestamp.json")
        if raw is None:
            raise EnvironmentNotReadyError(
                "medium.absent",
                "there is no bundle: tuf/timestamp.json does not exist. Mount the medium and name "
                "its bundle folder with --medium",
                str(medium.root),
            )
        self._step("SEEN", sha256_hex(raw))
        self._event("import.seen", medium=str(medium.root), timestamp_sha256=sha256_hex(raw))
        return raw

    def _verify_metadata(
        self, medium: Medium, request: Request
    ) -> tuple[VerifiedMetadata, BundleManifest]:
        floor = self._floor()
        if self.now < floor - CLOCK_TOLERANCE:
            self._event("clock.suspect", clock=time_text(self.now), floor=time_text(floor))
        verified = verify(
            medium.metadata,
            self._trusted(medium, request),
            max(self.now, floor),
            allow_single_key=request.accept_lab,
        )
        manifest = parse_manifest(medium.manifest(verified))
        self._step("META_VERIFIED", manifest.digest, id=manifest.id, serial=manifest.serial)
        self._event(
            "import.verified", bundle=manifest.digest, id=manifest.id, serial=manifest.serial
        )
        return verified, manifest

    def _trusted(self, medium: Medium, request: Request) -> TrustedState:
        pinned = self.store.state / "root.sha256"
        folder = self.store.trusted
        if not pinned.exists():
            if request.root_sha256 is None:
                raise UsageError(
                    "signature.root-fingerprint",
                    "the first import needs --root-sha256: the fingerprint you got on paper",
                )
            return TrustedState(first_root(medium.metadata("1.root.json"), request.root_sha256))
        known = pinned.read_text(encoding="ascii").strip()
        if request.root_sha256 and request.root_sha256.lower() != known:
            raise RejectedError(
                "signature.root-fingerprint",
                f"this store trusts the root {known}, you gave {request.root_sha256}",
                "tuf/1.root.json",
            )
        try:
            return TrustedState(
                *(
                    (folder / f"{name}.json").read_bytes()
                    for name in ("root", "timestamp", "snapshot")
                )
            )
        except OSError as error:
            raise EnvironmentNotReadyError(
                "state.trusted", f"trusted metadata is damaged: {error}", str(folder)
            ) from error

    def _take_in(
        self,
        medium: Medium,
        request: Request,
        verified: VerifiedMetadata,
        manifest: BundleManifest,
    ) -> Outcome:
        self._check_fit(request, manifest)
        active = release.current_id(self.store)
        if active == manifest.id and self._installed(manifest):
            return Outcome("ACTIVE", manifest.id, manifest.digest, False, "already active")
        medium.check_closed_world(manifest, verified)
        facts = self.store.pending(manifest.digest) / "receipt-facts.json"
        if facts.exists() and not self._damaged(manifest):
            return Outcome(
                "AWAIT_APPROVAL", manifest.id, manifest.digest, False, self._next_step(manifest)
            )
        blobs = list(manifest.blobs().values())
        self._sweep_staging(manifest.digest)
        check_space(self.store.root, space_needed(self.store, manifest.digest, blobs))
        self._trust(verified, request, medium)
        self._step("FITS", manifest.digest)
        self._step("COPYING", manifest.digest)
        progress = Progress(manifest.total_bytes(), f"import {manifest.id}", quiet=self.quiet)
        copier = Copier(medium, self.store, verified, progress)
        result = copier.run(blobs)
        environments = content.check(manifest, copier.locate)
        copier.publish(blobs)
        shutil.rmtree(self.store.staging(manifest.digest), ignore_errors=True)
        self._step("CONTENT_OK", manifest.digest)
        self._event(
            "import.copied",
            bundle=manifest.digest,
            files=result.copied,
            bytes=result.copied_bytes,
            kept=result.kept,
        )
        self._await_approval(request, verified, manifest, environments, medium)
        return Outcome(
            "AWAIT_APPROVAL", manifest.id, manifest.digest, True, self._next_step(manifest)
        )

    def _check_fit(self, request: Request, manifest: BundleManifest) -> None:
        if manifest.created > self.now + CLOCK_TOLERANCE:
            raise EnvironmentNotReadyError(
                "environment.clock",
                f"the bundle was made at {time_text(manifest.created)}, this clock says "
                f"{time_text(self.now)}: set the clock and repeat the command",
            )
        if max(self.now, self._floor()) >= manifest.expires:
            raise RejectedError("fit.expired", f"ended at {time_text(manifest.expires)}")
        audience = manifest.audience
        for rule, allowed, seen in (
            ("fit.site", (audience.site,), request.site),
            ("fit.arch", audience.arch, self.machine.arch),
            ("fit.os", audience.os, self.machine.os),
        ):
            if seen not in allowed and "*" not in allowed:
                raise RejectedError(rule, f"made for {', '.join(allowed)}, this is {seen!r}")
        if "lab" in manifest.scopes and not request.accept_lab:
            names = [part.name for part in manifest.parts if part.scope == "lab"]
            raise RejectedError(
                "fit.scope",
                f"parts for the lab: {', '.join(names)}. Only a lab imports them, with "
                "--accept-scope lab",
            )
        mark = self._highwater()
        serial, digest = int(cast(int, mark.get("serial", 0))), mark.get("bundle_sha256")
        if manifest.serial < serial or (manifest.serial == serial and manifest.digest != digest):
            raise RejectedError(
                "fit.serial",
                f"serial {manifest.serial} is not newer than {serial}, which was active here",
            )
        if manifest.base_digest is not None and manifest.base_digest != digest:
            raise RejectedError(
                "fit.base", f"builds on bundle {manifest.base_digest}, active is {digest}"
            )
        other = release.installed_digest(self.store.release(manifest.id))
        if other is not None and other != manifest.digest:
            raise RejectedError("fit.id", f"release id {manifest.id} belongs to bundle {other}")

    def _await_approval(
        self,
        request: Request,
        verified: VerifiedMetadata,
        manifest: BundleManifest,
        environments: tuple[content.Environment, ...],
        medium: Medium,
    ) -> None:
        folder = self.store.pending(manifest.digest)
        write_atomic(folder / "bundle.json", medium.manifest(verified), 0o600)
        release.write_record(
            folder / release.RELEASE_FILE, release.release_record(manifest, environments)
        )
        facts: dict[str, object] = {
            "site": request.site,
            "root_sha256": (self.store.state / "root.sha256").read_text(encoding="ascii").strip(),
            "metadata_version": verified.version,
            "single_key": verified.single_key,
            "scopes": sorted(manifest.scopes),
            "imported": utc_now_text(),
        }
        release.write_record(folder / "receipt-facts.json", facts)
        for old in folder.parent.iterdir():
            if old.name != manifest.digest:
                shutil.rmtree(old)
        self._step("AWAIT_APPROVAL", manifest.digest)
        self._event("import.awaits-approval", bundle=manifest.digest, id=manifest.id)

    def approve(
        self, person: str, allowed_signers: Path, *, key: Path | None, signature: Path | None
    ) -> Outcome:
        """Add one person's approval for the pending bundle, signed here or elsewhere."""
        manifest = self._pending()
        if manifest is None:
            raise UsageError("state.pending", "no bundle waits for approval; import one")
        if (key is None) == (signature is None):
            raise UsageError("approval.key", "give one of --key and --signature")
        approval.check_person(person)
        raw = (
            signature.read_bytes() if signature else approval.sign(manifest.digest, cast(Path, key))
        )
        folder = self.store.approvals(manifest.digest)
        before = approval.collect(folder, manifest.digest, allowed_signers)
        given = approval.add(folder, manifest.digest, person, raw, allowed_signers)
        self._event("import.approved", bundle=manifest.digest, person=person, key=given.key)
        count = len({item.person for item in [*before, given]})
        return Outcome(
            "AWAIT_APPROVAL",
            manifest.id,
            manifest.digest,
            given not in before,
            f"{person} approved with {given.key} ({count} of {approval.REQUIRED_APPROVALS})",
        )

    def activate(self, allowed_signers: Path) -> Outcome:
        """Make the pending bundle the current release, if two people approved it.

        Raises:
            UsageError: nothing waits.
            RejectedError: ``approval.*``.
            EnvironmentNotReadyError: ``state.content``: a content changed in the store since the
                import; nothing became active.
        """
        manifest = self._pending()
        if manifest is None:
            active = release.current_id(self.store)
            if active is None:
                raise UsageError("state.pending", "no bundle waits for activation; import one")
            digest = release.installed_digest(self.store.release(active)) or ""
            return Outcome("ACTIVE", active, digest, False, "already active")
        approvals = approval.collect(
            self.store.approvals(manifest.digest), manifest.digest, allowed_signers
        )
        approval.require(approvals)
        self._check_at_rest(manifest)
        folder = self.store.pending(manifest.digest)
        facts = json.loads((folder / "receipt-facts.json").read_bytes())
        receipt = release.receipt_record(
            manifest,
            release.ReceiptFacts(
                site=facts["site"],
                root_sha256=facts["root_sha256"],
                metadata_version=facts["metadata_version"],
                single_key=facts["single_key"],
                scopes=tuple(facts["scopes"]),
                imported=facts["imported"],
                approvals=tuple(approvals),
            ),
        )
        record = json.loads((folder / release.RELEASE_FILE).read_bytes())
        final = release.build(self.store, manifest, record, receipt)
        keep = self.store.state / "manifests" / f"{manifest.digest}.json"
        write_atomic(keep, (folder / "bundle.json").read_bytes(), 0o600)
        self._raise_highwater(manifest)
        release.switch_current(self.store, manifest.id)
        self._step("ACTIVE", manifest.digest, id=manifest.id)
        self._event(
            "import.activated",
            bundle=manifest.digest,
            id=manifest.id,
            people=[item.person for item in approvals],
        )
        shutil.rmtree(folder)
        return Outcome("ACTIVE", manifest.id, manifest.digest, True, f"active: {final}")

    def _check_at_rest(self, manifest: BundleManifest) -> None:
        if release.current_id(self.store) == manifest.id and self._installed(manifest):
            return  # a killed activation had switched already, after this check
        damaged = self._damaged(manifest)
        if not damaged:
            return
        error = EnvironmentNotReadyError(
            "state.content",
            f"{len(damaged)} content(s) in the store are missing or changed since the import. "
            "Nothing became active. Find out who or what wrote there, import the bundle again from "
            "its medium (it replaces them, the approvals stay) and activate",
            str(self.store.blob(damaged[0].sha256)),
        )
        self._event("import.activation-stopped", bundle=manifest.digest, **error.as_json())
        raise error

    def _damaged(self, manifest: BundleManifest) -> list[FileEntry]:
        progress = Progress(manifest.total_bytes(), f"check {manifest.id}", quiet=self.quiet)
        return damaged_contents(self.store, list(manifest.blobs().values()), progress)

    def verify_store(self) -> list[str]:
        """Hash the active release again and return the findings."""
        active = release.current_id(self.store)
        if active is None:
            raise UsageError("state.release", "no release is active; import a bundle")
        folder = self.store.release(active)
        digest = release.installed_digest(folder)
        try:
            raw = (self.store.state / "manifests" / f"{digest}.json").read_bytes()
        except OSError as error:
            raise EnvironmentNotReadyError(
                "state.manifest", f"manifest of the release is not there: {error}", active
            ) from error
        if sha256_hex(raw) != digest:
            return [f"{active}: the stored manifest is not the one that was imported"]
        findings = release.verify_tree(folder, parse_manifest(raw))
        if findings:
            self._event("store.scrub.bad", release=active, findings=findings[:100])
        else:
            self._event("store.scrub.ok", release=active)
        return findings

    def _pending(self) -> BundleManifest | None:
        folder = self.store.state / "pending"
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        if not found:
            return None
        raw = (found[0] / "bundle.json").read_bytes()
        if sha256_hex(raw) != found[0].name:
            raise EnvironmentNotReadyError(
                "state.pending", "pending manifest is damaged", found[0].name
            )
        return parse_manifest(raw)

    def _installed(self, manifest: BundleManifest) -> bool:
        return release.installed_digest(self.store.release(manifest.id)) == manifest.digest

    def _next_step(self, manifest: BundleManifest) -> str:
        return (
            f"release {manifest.id} waits for {approval.REQUIRED_APPROVALS} approvals: "
            "next 'approve --key FILE --person NAME' for each person, then 'activate'"
        )

    def _trust(self, verified: VerifiedMetadata, request: Request, medium: Medium) -> None:
        """Keep the verified metadata: from here on only newer is accepted."""
        state = verified.state
        for name, raw in (
            ("root", state.root),
            ("timestamp", state.timestamp),
            ("snapshot", state.snapshot),
        ):
            write_atomic(self.store.trusted / f"{name}.json", cast(bytes, raw), 0o600)
        pinned = self.store.state / "root.sha256"
        if not pinned.exists():
            # Last: without it the next run begins again from the fingerprint.
            write_atomic(pinned, f"{cast(str, request.root_sha256).lower()}\n".encode(), 0o600)

    def _highwater(self) -> dict[str, object]:
        try:
            return cast("dict[str, object]", json.loads(self.store.highwater.read_bytes()))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise EnvironmentNotReadyError(
                "state.highwater", f"high-water mark is damaged: {error}", str(self.store.highwater)
            ) from error

    def _floor(self) -> datetime:
        text = self._highwater().get("time_floor")
        return parse_time(str(text)) if text else datetime(1970, 1, 1, tzinfo=UTC)

    def _raise_highwater(self, manifest: BundleManifest) -> None:
        release.write_record(
            self.store.highwater,
            {
                "serial": manifest.serial,
                "id": manifest.id,
                "bundle_sha256": manifest.digest,
                "time_floor": time_text(max(self._floor(), manifest.created)),
            },
        )

    def _sweep_staging(self, keep: str) -> None:
        for path in (self.store.root / "staging").iterdir():
            if path.name != keep:
                remove_tree(path)

    def _reject(
        self, error: RejectedError, medium: Medium, digest: str, manifest: BundleManifest | None
    ) -> None:
        """Keep reason and metadata, remove what was staged. The medium stays as it is."""
        folder = self.store.root / "quarantine" / f"{self.now:%Y%m%dT%H%M%SZ}-{digest[:16]}"
        reason: dict[str, object] = {**error.as_json(), "time": utc_now_text(), "digest": digest}
        for name in ("timestamp.json", "1.root.json"):
            try:
                raw = medium.metadata(name)
            except BundleError:
                raw = None
            if raw is not None:
                write_atomic(folder / name, raw, 0o600)
        release.write_record(folder / "reason.json", reason)
        if manifest is not None:
            staged = self.store.staging(manifest.digest)
            if staged.exists():
                remove_tree(staged)
        self._step("REJECTED", digest, rule=error.rule)
        self._event("import.rejected", digest=digest, **error.as_json())

    def _step(self, state: str, bundle: str, **more: Value) -> None:
        self.journal.append({"state": state, "bundle": bundle, **more})

    def _event(self, event: str, **more: Value) -> None:
        self.events.append({"event": event, **more})


def status(store: Store) -> dict[str, object]:
    """Return what the store holds and waits for; reads only."""
    pending = []
    folder = store.state / "pending"
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        manifest = parse_manifest((path / "bundle.json").read_bytes())
        signatures = store.approvals(manifest.digest)
        pending.append(
            {
                "id": manifest.id,
                "serial": manifest.serial,
                "bundle_sha256": manifest.digest,
                "bytes": manifest.total_bytes(),
                "parts": [part.name for part in manifest.parts],
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
        "highwater": json.loads(store.highwater.read_bytes()) if store.highwater.exists() else None,
    }
