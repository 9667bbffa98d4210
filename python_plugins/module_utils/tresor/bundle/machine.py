"""The import's state machine: each state is on disk before the step that follows it.

SEEN -> META_VERIFIED -> FITS -> COPYING -> CONTENT_OK -> POLICY_OK -> AWAIT_APPROVAL -> ACTIVE (of
advisories: ADOPTED), or REJECTED. A killed import is continued by the same command: metadata is
verified from zero, contents that are already here are hashed again from our own disk. They are
hashed once more before a release becomes current, for approvals may take days.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable

from . import content, fit, gates, news, release, report
from .approval import REQUIRED_APPROVALS
from .canonical import sha256_hex
from .copier import Copier, CopyResult, damaged_contents, space_needed
from .disk import check_space, remove_tree
from .errors import BundleError, EnvironmentNotReadyError, RejectedError, printable
from .fit import Machine, Request
from .journal import time_text, utc_now_text
from .layout import write_atomic
from .manifest import BundleManifest, FileEntry, parse_manifest
from .medium import Medium, Volume
from .progress import Progress
from .releasing import Releasing
from .session import Outcome, locked
from .trust import VerifiedMetadata, verify
from .upkeep import PROGRESS_FILE, REPORT_HTML, REPORT_TEXT, Upkeep, drop_pending, status

__all__ = ["Importer", "Machine", "Outcome", "Request", "locked", "status"]


class Importer(Releasing, Upkeep):
    """Runs the commands on a store; use inside :func:`locked` (but for :meth:`preview`)."""

    def import_bundle(self, medium: Medium, request: Request) -> Outcome:
        """Take a bundle in until it waits for approval.

        Raises:
            RejectedError: the bundle is wrong; its staging is gone, the reason is in quarantine.
            EnvironmentNotReadyError: this machine or the medium is not ready; nothing is lost.
        """
        raw = self._see(medium)
        digest, manifest = sha256_hex(raw), None
        if self.now < self.marks.floor() - fit.CLOCK_TOLERANCE:
            floor = time_text(self.marks.floor())
            self.event("clock.suspect", clock=time_text(self.now), floor=floor)
        try:
            verified, manifest = self._verify_metadata(medium, request)
            self.marks.trust_root(verified.state)
            digest = manifest.digest
            self.step("META_VERIFIED", digest, id=manifest.id, serial=manifest.serial)
            self.event("import.verified", bundle=digest, id=manifest.id, serial=manifest.serial)
            return self._take_in(medium, request, verified, manifest)
        except RejectedError as error:
            self._reject(error, medium, digest, manifest)
            raise
        except EnvironmentNotReadyError as error:
            self.event("import.interrupted", bundle=digest, **error.as_json())
            raise
        except (ValueError, TypeError, LookupError, RecursionError, MemoryError) as error:
            # No check foresaw this. What cannot be judged is not taken in, and leaves its trace.
            refusal = RejectedError(
                "medium.unforeseen", f"{type(error).__name__}: {error}: report this as a bug"
            )
            self._reject(refusal, medium, digest, manifest)
            raise refusal from error

    def preview(self, medium: Medium, request: Request) -> Outcome:
        """Tell what an import would come to, as far as that shows without reading the contents.

        Nothing is written, not even a record of the look.

        Raises:
            RejectedError, EnvironmentNotReadyError: as :meth:`import_bundle` would.
        """
        if medium.metadata("timestamp.json") is None:
            raise self._absent(medium)
        verified, manifest = self._verify_metadata(medium, request)
        self._check_fit(request, verified, manifest)
        if self._is_active(manifest):
            return Outcome("ACTIVE", manifest.id, manifest.digest, False, "already active")
        if news.is_adopted(self.store, manifest.digest):
            return _known_news(manifest)
        medium.check_closed_world(manifest, verified, self._here(manifest))
        if (self.store.pending(manifest.digest) / "receipt-facts.json").exists():
            return self._waits(manifest, changed=False)
        blobs = list(manifest.blobs().values())
        needed = space_needed(self.store, manifest.digest, blobs)
        if self.store.root.is_dir():
            check_space(self.store.root, needed)
        return Outcome(
            "FITS",
            manifest.id,
            manifest.digest,
            True,
            f"signatures, site and space are right; {needed:,} bytes would be copied and judged",
        )

    def _see(self, medium: Medium) -> bytes:
        raw = medium.metadata("timestamp.json")
        if raw is None:
            raise self._absent(medium)
        self.step("SEEN", sha256_hex(raw))
        self.event(
            "import.seen", medium=printable(str(medium.root)), timestamp_sha256=sha256_hex(raw)
        )
        return raw

    def _absent(self, medium: Medium) -> BundleError:
        return EnvironmentNotReadyError(
            "medium.absent",
            "there is no bundle: tuf/timestamp.json does not exist. Mount the medium and name "
            "its bundle folder with --medium",
            str(medium.root),
        )

    def _verify_metadata(
        self, medium: Medium, request: Request
    ) -> tuple[VerifiedMetadata, BundleManifest]:
        verified = verify(
            medium.metadata,
            self.marks.trusted(medium.metadata("1.root.json"), request.root_sha256),
            self.present(),
            allow_single_key=request.accept_lab,
        )
        return verified, parse_manifest(medium.manifest(verified))

    def _check_fit(
        self, request: Request, verified: VerifiedMetadata, manifest: BundleManifest
    ) -> None:
        fit.check_time(manifest, self.now, self.marks.floor())
        fit.check_audience(manifest.audience, request.site, self.machine)
        fit.check_scope(manifest, accept_lab=request.accept_lab)
        self.marks.check_forward(verified, manifest)
        if manifest.base_digest is not None:
            active = release.current_id(self.store)
            known = {self.marks.active().bundle_sha256}
            if active is not None:
                known.add(release.installed_digest(self.store.release(active)) or "")
            if manifest.base_digest not in known:
                raise RejectedError(
                    "fit.base",
                    f"builds on bundle {manifest.base_digest}, active is "
                    f"{', '.join(sorted(known - {''})) or 'none'}",
                )
        other = release.installed_digest(self.store.release(manifest.id))
        if other is not None and other != manifest.digest:
            raise RejectedError("fit.id", f"release id {manifest.id} belongs to bundle {other}")

    def _take_in(
        self,
        medium: Medium,
        request: Request,
        verified: VerifiedMetadata,
        manifest: BundleManifest,
    ) -> Outcome:
        self._check_fit(request, verified, manifest)
        volume = medium.check_closed_world(manifest, verified, self._here(manifest))
        if news.is_adopted(self.store, manifest.digest):
            return _known_news(manifest)
        active = self._is_active(manifest)
        if active and not self.known_damage():
            return Outcome("ACTIVE", manifest.id, manifest.digest, False, "already active")
        facts = self.store.pending(manifest.digest) / "receipt-facts.json"
        blobs = list(manifest.blobs().values())
        if facts.exists() and not self._damaged(manifest):
            return self._waits(manifest, changed=False)
        self._sweep_staging(manifest.digest)
        check_space(self.store.root, space_needed(self.store, manifest.digest, blobs))
        self.marks.trust_release(verified.state)
        self.marks.remember_seen(verified, manifest)
        self.step("FITS", manifest.digest)
        copier = self._copy(medium, verified, manifest, volume)
        if active:
            copier.publish(blobs)
            remove_tree(self.store.staging(manifest.digest))
            return self.repair(manifest)
        given = gates.GateInput(manifest, copier.locate, request.site, self.present(), self.store)
        environments = content.check(manifest, copier.locate)
        caches = content.engine_caches(manifest, copier.locate)
        self.step("CONTENT_OK", manifest.digest)
        verdicts = gates.judge(given)
        gates.require(verdicts)
        self.step("POLICY_OK", manifest.digest)
        for item in verdicts:
            # Of advisories red is a finding about what runs: it is told when they are taken in.
            if item.severity == gates.RED and not manifest.advisory_only:
                self.event(
                    "policy.waiver.used",
                    bundle=manifest.digest,
                    rule=item.rule,
                    thing=item.thing,
                    seen=item.seen,
                )
        sealed = copier.publish(blobs)
        if sealed:
            self.event("store.sealed", bundle=manifest.digest, contents=sealed)
        shutil.rmtree(self.store.staging(manifest.digest), ignore_errors=True)
        raw = medium.manifest(verified)
        record = release.release_record(manifest, environments, caches)
        self._await_approval(request, verified, manifest, raw=raw, record=record, verdicts=verdicts)
        return self._waits(manifest, changed=True)

    def _copy(
        self,
        medium: Medium,
        verified: VerifiedMetadata,
        manifest: BundleManifest,
        volume: Volume,
    ) -> Copier:
        """Copy what this volume has.

        Raises:
            EnvironmentNotReadyError: rule ``medium.volume``: the rest lies on other volumes.
        """
        self.step("COPYING", manifest.digest)
        progress = Progress(
            manifest.total_bytes(),
            f"import {manifest.id}",
            quiet=self.quiet,
            note=self.store.state / PROGRESS_FILE,
        )
        copier = Copier(medium, self.store, verified, volume, progress)
        begun = self.store.staging(manifest.digest).is_dir()
        try:
            result: CopyResult = copier.run(list(manifest.blobs().values()))
        finally:
            (self.store.state / PROGRESS_FILE).unlink(missing_ok=True)
        if begun:
            self.event(
                "import.resumed",
                bundle=manifest.digest,
                bytes=result.resumed_bytes,
                kept=result.kept,
            )
        self.event(
            "import.copied",
            bundle=manifest.digest,
            files=result.copied,
            bytes=result.copied_bytes,
            read=result.read_bytes,
            kept=result.kept,
            volume=volume.number,
        )
        if result.waiting:
            self.step("WAITING_FOR_VOLUME", manifest.digest, waiting=result.waiting)
            raise EnvironmentNotReadyError(
                "medium.volume",
                f"{result.waiting} content(s) lie on other volumes (this is {volume.number} of "
                f"{volume.of}): mount the next one, in any order, and repeat the command",
                str(medium.root),
            )
        return copier

    def _await_approval(
        self,
        request: Request,
        verified: VerifiedMetadata,
        manifest: BundleManifest,
        *,
        raw: bytes,
        record: dict[str, object],
        verdicts: list[gates.Verdict],
    ) -> None:
        folder = self.store.pending(manifest.digest)
        write_atomic(folder / "bundle.json", raw, 0o600)
        release.write_record(folder / release.RELEASE_FILE, record)
        gates.save(folder, verdicts)
        facts: dict[str, object] = {
            "site": request.site,
            "root_sha256": self.marks.root_sha256(),
            "metadata_version": verified.version,
            "single_key": verified.single_key,
            "released_by": list(verified.released_by),
            "scopes": sorted(manifest.scopes),
            "imported": utc_now_text(),
        }
        release.write_record(folder / "receipt-facts.json", facts)
        for old in folder.parent.iterdir():
            if old.name != manifest.digest:
                if (old / "receipt-facts.json").exists():
                    self.event("import.superseded", bundle=old.name)
                    drop_pending(old)
                else:
                    shutil.rmtree(old)  # what a kill left of one
        difference = self._difference(manifest, verdicts)
        for name, text in (
            (REPORT_TEXT, report.as_text(difference)),
            (REPORT_HTML, report.as_html(difference)),
        ):
            write_atomic(folder / name, text.encode(), 0o600)
        self.step("AWAIT_APPROVAL", manifest.digest)
        self.event("import.awaits-approval", bundle=manifest.digest, id=manifest.id)

    def _waits(self, manifest: BundleManifest, *, changed: bool) -> Outcome:
        kind = "advisories" if manifest.advisory_only else "release"
        message = (
            f"{kind} {manifest.id}, waiting for {REQUIRED_APPROVALS} approvals: "
            "next 'approve --key FILE --person NAME' for each person, then 'activate'"
        )
        return Outcome("AWAIT_APPROVAL", manifest.id, manifest.digest, changed, message)

    def _is_active(self, manifest: BundleManifest) -> bool:
        return release.current_id(self.store) == manifest.id and self._installed(manifest)

    def _damaged(self, manifest: BundleManifest) -> list[FileEntry]:
        progress = Progress(manifest.total_bytes(), f"check {manifest.id}", quiet=self.quiet)
        return damaged_contents(self.store, list(manifest.blobs().values()), progress)

    def _here(self, manifest: BundleManifest) -> Callable[[FileEntry], bool]:
        staging = self.store.staging(manifest.digest)

        def here(entry: FileEntry) -> bool:
            for path in (self.store.blob(entry.sha256), staging / entry.sha256):
                try:
                    if path.stat().st_size == entry.size:
                        return True
                except OSError:
                    continue
            return False

        return here

    def _sweep_staging(self, keep: str) -> None:
        for path in (self.store.root / "staging").iterdir():
            if path.name != keep:
                remove_tree(path)

    def _reject(
        self, error: RejectedError, medium: Medium, digest: str, manifest: BundleManifest | None
    ) -> None:
        """Keep reason and metadata, remove what was staged. The medium stays as it is."""
        folder = self.quarantine(digest)
        reason: dict[str, object] = {**error.as_json(), "time": utc_now_text(), "digest": digest}
        for name in ("timestamp.json", "1.root.json"):
            try:
                raw = medium.metadata(name)
            except BundleError:
                raw = None
            if raw is not None:
                write_atomic(folder / name, raw, 0o600)
        release.write_record(folder / "reason.json", reason)
        if isinstance(error, gates.RefusedError):
            gates.save(folder, error.verdicts)
        if manifest is not None:
            staged = self.store.staging(manifest.digest)
            if staged.exists():
                remove_tree(staged)
        self.step("REJECTED", digest, rule=error.rule)
        self.event("import.rejected", digest=digest, **error.as_json())


def _known_news(manifest: BundleManifest) -> Outcome:
    return Outcome("ADOPTED", manifest.id, manifest.digest, False, "already taken in")
