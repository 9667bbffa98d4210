"""The local release: two people look at what changes, sign, and the store is switched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from ..policy.view import EVIDENCE_TYPES
from . import approval, difference, fit, gates, news, release
from .copier import damaged_contents
from .errors import EnvironmentNotReadyError, RejectedError, UsageError, printable
from .journal import utc_now_text
from .layout import write_atomic
from .manifest import BundleManifest, FileEntry
from .progress import Progress
from .session import Outcome
from .upkeep import Upkeep, drop_pending

_MAX_REASON = 500


class Releasing(Upkeep):
    """Review, approve, withdraw, activate, switch."""

    def review(self) -> difference.Difference:
        """Return what the waiting bundle would change against the running release.

        What the gates say is what they say now: a waiver may have ended since the import.

        Raises:
            UsageError: nothing waits.
            EnvironmentNotReadyError: ``policy.missing``, ``state.manifest``, ``state.content``,
                ``environment.rules``.
        """
        manifest = self._need_pending("review")
        return self._difference(manifest, self._judged_again(manifest))

    def _difference(
        self, manifest: BundleManifest, verdicts: list[gates.Verdict]
    ) -> difference.Difference:
        active = release.current_id(self.store)
        running = self.manifest_of(active) if active is not None else None
        facts = _facts(self.store.pending(manifest.digest))
        return difference.compare(
            running,
            manifest,
            self.store.blob,
            verdicts,
            released_by=tuple(facts.get("released_by", ())),
            single_key=bool(facts["single_key"]),
        )

    def approve(
        self, person: str, allowed_signers: Path, *, key: Path | None, signature: Path | None
    ) -> Outcome:
        """Add one person's approval for the pending bundle, signed here or elsewhere.

        Raises:
            UsageError: nothing waits, or not exactly one of key and signature.
            RejectedError: ``approval.*``, a gate's rule, ``fit.expired``.
            EnvironmentNotReadyError: ``approval.allowed-signers``, ``policy.missing``,
                ``environment.rules``, ``state.content``.
        """
        manifest = self._need_pending("approve")
        if (key is None) == (signature is None):
            raise UsageError("approval.key", "give one of --key and --signature")
        approval.check_person(person)
        folder = self.store.approvals(manifest.digest)
        with self._recorded("import.approval-refused", manifest, person=person):
            self._check_still_good(manifest)
            raw = (
                signature.read_bytes()
                if signature
                else approval.sign(manifest.digest, cast(Path, key))
            )
            at = self.present()
            before = approval.collect(folder, manifest.digest, allowed_signers, at)
            given = approval.add(folder, manifest.digest, person, raw, allowed_signers, at=at)
        self.event("import.approved", bundle=manifest.digest, person=person, key=given.key)
        count = len({item.person for item in [*before, given]})
        return Outcome(
            "AWAIT_APPROVAL",
            manifest.id,
            manifest.digest,
            given not in before,
            f"{person} approved with {given.key} ({count} of {approval.REQUIRED_APPROVALS})",
        )

    def withdraw(self, person: str, reason: str) -> Outcome:
        """Refuse the waiting bundle: it can be imported and approved again, nothing is active.

        Raises:
            UsageError: nothing waits, no name, no reason.
        """
        manifest = self._need_pending("withdraw")
        approval.check_person(person)
        _check_reason(reason)
        folder = (
            self.store.root / "quarantine" / f"{self.now:%Y%m%dT%H%M%SZ}-{manifest.digest[:16]}"
        )
        record: dict[str, object] = {
            "class": "approval",
            "rule": "approval.withdrawn",
            "path": "",
            "message": printable(reason),
            "person": person,
            "time": utc_now_text(),
            "digest": manifest.digest,
        }
        release.write_record(folder / "reason.json", record)
        self.step("REJECTED", manifest.digest, rule="approval.withdrawn")
        self.event(
            "import.withdrawn", bundle=manifest.digest, person=person, reason=printable(reason)
        )
        approvals = self.store.approvals(manifest.digest)
        if approvals.exists():
            shutil.rmtree(approvals)
        drop_pending(self.store.pending(manifest.digest))
        self.collect_garbage()
        return Outcome("REJECTED", manifest.id, manifest.digest, True, f"withdrawn by {person}")

    def activate(self, allowed_signers: Path) -> Outcome:
        """Make the pending bundle the current release, if two people approved it.

        Raises:
            UsageError: nothing waits.
            RejectedError: ``approval.*``, a gate's rule, ``fit.expired``, ``fit.serial``.
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
        with self._recorded("import.activation-refused", manifest):
            verdicts = self._check_still_good(manifest)
            approvals = approval.collect(
                self.store.approvals(manifest.digest),
                manifest.digest,
                allowed_signers,
                self.present(),
            )
            approval.require(approvals)
        self._check_at_rest(manifest)
        folder = self.store.pending(manifest.digest)
        facts = _facts(folder)
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
                released_by=tuple(facts.get("released_by", ())),
                verdicts=tuple(item.as_json() for item in verdicts),
            ),
        )
        if manifest.advisory_only:
            people = [item.person for item in approvals]
            return self._adopt(manifest, receipt, verdicts, people)
        record = json.loads((folder / release.RELEASE_FILE).read_bytes())
        before = release.current_id(self.store)
        final = release.build(self.store, manifest, record, receipt)
        keep = self.store.state / "manifests" / f"{manifest.digest}.json"
        write_atomic(keep, (folder / "bundle.json").read_bytes(), 0o600)
        release.write_record(
            self.store.state / "receipts" / f"{manifest.serial}-{manifest.digest[:16]}.json",
            receipt,
        )
        self.marks.remember_active(manifest)
        release.switch_current(self.store, manifest.id)
        if before is not None and before != manifest.id:
            superseded = release.installed_digest(self.store.release(before)) or ""
            self.step("SUPERSEDED", superseded, id=before)
        self.step("ACTIVE", manifest.digest, id=manifest.id)
        self.event(
            "import.activated",
            bundle=manifest.digest,
            id=manifest.id,
            people=[item.person for item in approvals],
        )
        drop_pending(folder)
        kept = before if before not in (None, manifest.id) else self.previous_id()
        self.retain({manifest.id, kept or manifest.id})
        self.collect_garbage()
        return Outcome("ACTIVE", manifest.id, manifest.digest, True, f"active: {final}")

    def _adopt(
        self,
        manifest: BundleManifest,
        receipt: dict[str, object],
        verdicts: list[gates.Verdict],
        people: list[str],
    ) -> Outcome:
        """Let advisories in: what runs goes on running."""
        running = release.current_id(self.store) or ""
        installed = release.installed_digest(self.store.release(running)) or ""
        judged: dict[str, object] = {"id": running, "bundle_sha256": installed}
        red = news.adopt(self.store, manifest, {**receipt, "judged": judged}, verdicts)
        self.event(
            "advisories.adopted",
            bundle=manifest.digest,
            id=manifest.id,
            judged=running,
            findings=len(red),
            people=people,
        )
        for item in red:
            self.event(
                "advisories.finding",
                bundle=manifest.digest,
                rule=item.rule,
                thing=item.thing,
                seen=item.seen,
            )
        self.step("ADOPTED", manifest.digest, advisories=manifest.id)
        drop_pending(self.store.pending(manifest.digest))
        self.collect_garbage()
        said = f"{len(red)} finding(s) about {running}" if red else f"nothing about {running}"
        message = f"advisories taken in: {said}; what runs stays as it is"
        return Outcome("ADOPTED", manifest.id, manifest.digest, True, message)

    def switch(self, release_id: str, person: str, reason: str) -> Outcome:
        """Go back to a release that is kept (or forward again); its contents are hashed first.

        The high-water marks stay: only this store's own releases are reachable this way.

        Raises:
            UsageError: no such release, no name, no reason.
            EnvironmentNotReadyError: ``state.content``.
        """
        approval.check_person(person)
        _check_reason(reason)
        kept = self.releases()
        if release_id not in kept:
            raise UsageError(
                "state.release",
                f"{release_id!r} is not kept; there are {', '.join(kept) or 'none'}",
            )
        manifest = self.manifest_of(release_id)
        if release.current_id(self.store) == release_id:
            return Outcome("ACTIVE", release_id, manifest.digest, False, "already active")
        findings = release.verify_tree(self.store.release(release_id), manifest)
        if findings:
            error = EnvironmentNotReadyError("state.content", findings[0], release_id)
            self.event("store.switch-stopped", bundle=manifest.digest, **error.as_json())
            raise error
        release.switch_current(self.store, release_id)
        self.step("ACTIVE", manifest.digest, id=release_id)
        self.event(
            "import.rolled_back",
            bundle=manifest.digest,
            id=release_id,
            person=person,
            reason=printable(reason),
        )
        return Outcome("ACTIVE", release_id, manifest.digest, True, f"switched by {person}")

    def _check_still_good(self, manifest: BundleManifest) -> list[gates.Verdict]:
        """Approvals may take days: time, serial and gates are asked again."""
        fit.check_time(manifest, self.now, self.marks.floor())
        mark = self.marks.active()
        if manifest.serial < mark.serial:
            raise RejectedError(
                "fit.serial", f"serial {manifest.serial} is older than {mark.serial}, active here"
            )
        verdicts = self._judged_again(manifest)
        gates.require(verdicts)
        return verdicts

    def _judged_again(self, manifest: BundleManifest) -> list[gates.Verdict]:
        """Return the gates' verdicts as of now."""
        folder = self.store.pending(manifest.digest)
        before = gates.load(folder)
        evidence = [
            entry for part in manifest.parts if part.type in EVIDENCE_TYPES for entry in part.files
        ]
        quiet = Progress(sum(entry.size for entry in evidence), "check the evidence", quiet=True)
        damaged = damaged_contents(self.store, evidence, quiet)
        if damaged:
            raise self._changed_at_rest("import.evidence-changed", manifest, damaged)
        given = gates.GateInput(
            manifest, self.store.blob, _facts(folder)["site"], self.present(), self.store
        )
        return gates.judge_again(given, before)

    def _check_at_rest(self, manifest: BundleManifest) -> None:
        active = release.current_id(self.store) == manifest.id
        installed = release.installed_digest(self.store.release(manifest.id)) == manifest.digest
        if active and installed:
            return  # a killed activation had switched already, after this check
        damaged = self._damaged(manifest)
        if damaged:
            raise self._changed_at_rest("import.activation-stopped", manifest, damaged)

    def _changed_at_rest(
        self, event: str, manifest: BundleManifest, damaged: list[FileEntry]
    ) -> EnvironmentNotReadyError:
        """Write the audit event and return the error."""
        error = EnvironmentNotReadyError(
            "state.content",
            f"{len(damaged)} content(s) in the store are missing or changed since the import. "
            "Nothing became active. Find out who or what wrote there, import the bundle again from "
            "its medium (it replaces them, the approvals stay) and activate",
            str(self.store.blob(damaged[0].sha256)),
        )
        self.event(event, bundle=manifest.digest, **error.as_json())
        return error

    def _damaged(self, manifest: BundleManifest) -> list[FileEntry]:
        progress = Progress(manifest.total_bytes(), f"check {manifest.id}", quiet=self.quiet)
        return damaged_contents(self.store, list(manifest.blobs().values()), progress)

    def _need_pending(self, verb: str) -> BundleManifest:
        manifest = self._pending()
        if manifest is None:
            raise UsageError("state.pending", f"no bundle waits, nothing to {verb}; import one")
        return manifest

    def _recorded(self, event: str, manifest: BundleManifest, **more: str) -> _Recorded:
        def record(error: RejectedError) -> None:
            self.event(event, bundle=manifest.digest, **more, **error.as_json())

        return _Recorded(record)


class _Recorded:
    """Writes an audit event when the block refuses."""

    def __init__(self, record: Callable[[RejectedError], None]) -> None:
        self._record = record

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RejectedError):
            self._record(error)


def _facts(folder: Path) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads((folder / "receipt-facts.json").read_bytes()))


def _check_reason(reason: str) -> None:
    if not 10 <= len(reason.strip()) <= _MAX_REASON:
        raise UsageError(
            "approval.reason", f"say why, in 10 to {_MAX_REASON} characters: it goes into the audit"
        )
