"""A release: the tree that is served, made of hard links into the store, and its two records."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .approval import Approval
from .canonical import dump_canonical
from .content import Environment
from .disk import remove_tree
from .errors import EnvironmentNotReadyError, RejectedError
from .journal import utc_now_text
from .layout import Store, sync_file_system, sync_folder, write_atomic
from .manifest import BundleManifest, Part, model_digest
from .stream import hash_file

RELEASE_FILE = "release.json"
RECEIPT_FILE = "receipt.json"


@dataclass(frozen=True, slots=True)
class ReceiptFacts:
    """What the receipt records beside the manifest."""

    site: str
    root_sha256: str
    metadata_version: int
    single_key: bool
    scopes: tuple[str, ...]
    imported: str
    approvals: tuple[Approval, ...]
    released_by: tuple[str, ...] = ()
    verdicts: tuple[Mapping[str, str], ...] = ()


def release_record(
    manifest: BundleManifest,
    environments: Iterable[Environment],
    caches: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, object]:
    """Return the content of ``release.json``: what plays need to know of a release."""
    revisions = {model.name: model.revision for model in manifest.models}
    models = {}
    debs = {}
    binaries = {}
    kept: dict[str, object] = {}
    for part in manifest.parts:
        if part.type == "model":
            name = part.name.removeprefix("model-")
            models[name] = {
                "part": part.name,
                "digest": model_digest(part.files),
                "revision": revisions.get(name, ""),
                "files": _files(part),
            }
        elif part.type == "binaries":
            binaries[part.name.removeprefix("binaries-")] = {
                "part": part.name,
                "digest": model_digest(part.files),
                "files": _files(part),
            }
        elif part.type == "engine_cache":
            name = part.name.removeprefix("engine-cache-")
            kept[name] = {
                "part": part.name,
                "digest": model_digest(part.files),
                "files": _files(part),
                "fits": dict((caches or {})[name]),
            }
        elif part.type == "debs":
            debs[part.name.removeprefix("debs-")] = {"part": part.name}
    return {
        "tresor_release": {
            "id": manifest.id,
            "serial": manifest.serial,
            "bundle_sha256": manifest.digest,
            "environments": {
                environment.name: {
                    "part": environment.part,
                    "version": environment.version,
                    "python": environment.python,
                    "requirements_sha256": environment.requirements_sha256,
                }
                for environment in environments
            },
            "models": models,
            "debs": debs,
            "binaries": binaries,
            **({"engine_caches": kept} if kept else {}),
        }
    }


def _files(part: Part) -> list[dict[str, object]]:
    return [
        {"path": entry.path, "size": entry.size, "sha256": entry.sha256}
        for entry in sorted(part.files, key=lambda entry: entry.path)
    ]


def receipt_record(manifest: BundleManifest, facts: ReceiptFacts) -> dict[str, object]:
    """Return the content of ``receipt.json``: the evidence of one import."""
    return {
        "schema": "receipt/v1",
        "id": manifest.id,
        "serial": manifest.serial,
        "bundle_sha256": manifest.digest,
        "site": facts.site,
        "root_sha256": facts.root_sha256,
        "metadata_version": facts.metadata_version,
        "single_key": facts.single_key,
        "accepted_scopes": list(facts.scopes),
        "imported": facts.imported,
        "activated": utc_now_text(),
        "released_by": list(facts.released_by),
        "approvals": [{"person": item.person, "key": item.key} for item in facts.approvals],
        "verdicts": [dict(item) for item in facts.verdicts],
        "parts": [
            {
                "name": part.name,
                "type": part.type,
                "scope": part.scope,
                "files": len(part.files),
                "bytes": sum(entry.size for entry in part.files),
            }
            for part in manifest.parts
        ],
    }


def build(
    store: Store, manifest: BundleManifest, release: dict[str, object], receipt: dict[str, object]
) -> Path:
    """Make ``releases/<id>`` complete before it gets its name; the current one is kept.

    Raises:
        EnvironmentNotReadyError: a content is not in the store.
        RejectedError: rule ``state.release``: the id belongs to another bundle.
    """
    final = store.release(manifest.id)
    temporary = store.root / "staging" / f"release-{manifest.digest}"
    if temporary.exists():
        remove_tree(temporary)
    if final.exists():
        if installed_digest(final) != manifest.digest:
            raise RejectedError("state.release", "another bundle has this release id", manifest.id)
        if current_id(store) == manifest.id:
            return final
        # Left by a killed activation: its links may lead to contents that were replaced since.
        final.chmod(0o755)
        final.rename(temporary)
        remove_tree(temporary)
    tree = temporary / "tree"
    tree.mkdir(parents=True)
    for part in manifest.parts:
        for entry in part.files:
            target = tree / part.name / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                target.hardlink_to(store.blob(entry.sha256))
            except FileNotFoundError as error:
                raise EnvironmentNotReadyError(
                    "state.blob", "content is not in the store; import the bundle again", entry.path
                ) from error
            except OSError as error:
                if error.errno != errno.EMLINK:
                    raise
                # Very many equal (mostly empty) files: the file system ran out of links.
                shutil.copyfile(store.blob(entry.sha256), target)
                target.chmod(0o444)
    for name, record in ((RELEASE_FILE, release), (RECEIPT_FILE, receipt)):
        (temporary / name).write_bytes(dump_canonical(record) + b"\n")
        (temporary / name).chmod(0o444)
    for folder, _, _ in os.walk(tree, topdown=False):
        Path(folder).chmod(0o555)
    temporary.chmod(0o755)  # a folder must be writable by its owner to be renamed as non-root
    sync_file_system(store.root)
    temporary.rename(final)
    final.chmod(0o555)
    sync_folder(final.parent)
    return final


def switch_current(store: Store, release_id: str) -> None:
    """Point ``current`` at a release, atomically."""
    temporary = store.root / ".current.new"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(f"releases/{release_id}")
    temporary.replace(store.current)
    sync_folder(store.root)


def current_id(store: Store) -> str | None:
    """Return the id of the active release."""
    try:
        return os.path.basename(os.readlink(store.current))  # noqa: PTH119, PTH115 - text only
    except OSError:
        return None


def installed_digest(release: Path) -> str | None:
    """Return the bundle digest that a release was made from."""
    try:
        record = json.loads((release / RELEASE_FILE).read_bytes())
        return str(record["tresor_release"]["bundle_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remove(store: Store, release_id: str) -> None:
    """Take a release out of reach, then remove it; its contents stay in the store."""
    gone = store.root / "staging" / f"removed-{release_id}"
    if gone.exists():
        remove_tree(gone)
    final = store.release(release_id)
    final.chmod(0o755)
    final.rename(gone)
    sync_folder(final.parent)
    remove_tree(gone)


def relink(store: Store, manifest: BundleManifest) -> int:
    """Make every link of a release lead to the content that is in the store now; count changes."""
    changed = 0
    tree = store.release(manifest.id) / "tree"
    for part in manifest.parts:
        for entry in part.files:
            link, blob = tree / part.name / entry.path, store.blob(entry.sha256)
            try:
                if link.lstat().st_ino == blob.stat().st_ino or hash_file(link) == entry.sha256:
                    continue
            except OSError:
                pass  # not there, or not readable: the disk's or fs-verity's refusal
            link.parent.chmod(0o755)
            fresh = link.with_name(f".{link.name}.new")
            fresh.unlink(missing_ok=True)
            fresh.hardlink_to(blob)
            fresh.replace(link)
            link.parent.chmod(0o555)
            changed += 1
    sync_file_system(store.root)
    return changed


def verify_tree(
    release: Path, manifest: BundleManifest, hashes: dict[int, str] | None = None
) -> list[str]:
    """Hash every file of a release and compare it with the manifest.

    Args:
        release: its folder.
        manifest: what it was made from.
        hashes: digests by inode from releases looked at before; extended.

    Returns:
        Findings, one sentence each; empty if all is well.
    """
    tree = release / "tree"
    expected = {
        f"{part.name}/{entry.path}": entry for part in manifest.parts for entry in part.files
    }
    findings = []
    seen = set()
    hashes = {} if hashes is None else hashes
    for folder, names, files in os.walk(tree):
        for name in [*files, *(item for item in names if (Path(folder) / item).is_symlink())]:
            path = Path(folder) / name
            relative = str(path.relative_to(tree))
            seen.add(relative)
            entry = expected.get(relative)
            if entry is None:
                findings.append(f"{relative}: not part of the release")
                continue
            if path.is_symlink():
                findings.append(f"{relative}: is a symlink")
                continue
            info = path.stat()
            if info.st_mode & 0o222:
                findings.append(f"{relative}: is writable (mode {info.st_mode & 0o777:04o})")
            try:
                digest = hashes.get(info.st_ino) or hash_file(path)
            except OSError as error:
                findings.append(f"{relative}: cannot be read ({error.strerror})")
                continue
            hashes[info.st_ino] = digest
            if digest != entry.sha256:
                findings.append(f"{relative}: content is not what was imported")
    findings.extend(f"{path}: is missing" for path in sorted(set(expected) - seen))
    return sorted(findings)


def write_record(path: Path, record: dict[str, object]) -> None:
    """Write one of our JSON records atomically."""
    write_atomic(path, dump_canonical(record) + b"\n", 0o600)
