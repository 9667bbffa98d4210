"""Restore a backup onto a bastion: all of it is verified before the first file is written."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from . import create, layout, seal
from .errors import RefusedError
from .layout import Manifest, Roots

OLDER = ("authority", "highwater")
_MAX_MANIFEST = 4 << 20
_MAX_FILES = 2_000_000
_SHA256 = re.compile(r"[0-9a-f]{64}")
# What the importer of this bastion verified itself decides what it serves; of the backup's store
# only this comes back in place, everything else is laid aside to be read.
_STORE_STATE = ("highwater.json", "root.sha256", "trusted-tuf", "approvals", "manifests")


@dataclass(frozen=True)
class Wanted:
    """What shall be restored, and what the operator allows."""

    backup: Path
    key: Path
    site: str
    passphrase_file: Path | None = None
    manifest_sha256: str = ""
    accept_older: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """What a restore wrote, or would write: paths, and the folder of what was laid aside."""

    manifest: Manifest
    changed: tuple[Path, ...]
    aside: Path


@dataclass(frozen=True)
class _File:
    staged: Path
    target: Path
    mode: int
    uid: int
    gid: int
    sha256: str


def restore(wanted: Wanted, roots: Roots, *, dry: bool = False) -> Result:
    """Verify the backup and, unless ``dry``, write what differs.

    Raises:
        BackupError: it is refused, or does not open; nothing was written then.
        OSError: the disk.
    """
    manifest = read_manifest(wanted)
    refuse_older(manifest, roots, wanted.accept_older)
    roots.state.mkdir(mode=0o755, parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".restore-", dir=roots.state))
    try:
        files = _unpack(wanted, manifest, scratch, roots)
        _refuse_other_authority(files, manifest, roots)
        changed = [file for file in files if not _same(file)]
        if not dry:
            for file in changed:
                _write(file)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    aside = roots.restored / str(manifest["id"])
    return Result(manifest, tuple(file.target for file in changed), aside)


def read_manifest(wanted: Wanted) -> Manifest:
    """Return the manifest after checking it and every encrypted part against it.

    Raises:
        RefusedError: no backup, damaged, of a newer format, or of another site.
    """
    path = wanted.backup / layout.MANIFEST
    if not path.is_file() or path.stat().st_size > _MAX_MANIFEST:
        raise RefusedError(f"{path} is no manifest of a backup")
    raw = path.read_bytes()
    seen = hashlib.sha256(raw).hexdigest()
    if wanted.manifest_sha256 and seen != wanted.manifest_sha256.lower():
        raise RefusedError(
            f"{path} has SHA-256 {seen}, you expect {wanted.manifest_sha256}: another backup, or "
            "a forged one"
        )
    try:
        manifest: Manifest = json.loads(raw)
        version = int(manifest["format"])
        if version > layout.FORMAT:
            raise RefusedError(
                f"{path} has format {version}, this release knows up to {layout.FORMAT}: import "
                "the release that made it, or a newer one, and restore then"
            )
        site, parts, identifier = manifest["site"], manifest["parts"], manifest["id"]
        names = [str(part["name"]) for part in parts]
        digests = [(str(part["sha256"]), int(part["size"])) for part in parts]
    except (ValueError, KeyError, TypeError) as error:
        raise RefusedError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    if site != wanted.site:
        raise RefusedError(
            f"this is a backup of the site '{site}', this site is '{wanted.site}'; nothing of "
            "another site is restored"
        )
    if not layout.is_id(str(identifier)) or names != [
        f"part-{number:04}.cms" for number in range(1, len(names) + 1)
    ]:
        raise RefusedError(f"{path} is damaged: id or names of its parts")
    for name, (sha256, size) in zip(names, digests, strict=True):
        part = wanted.backup / name
        if not part.is_file() or part.stat().st_size != size or seal.sha256_of(part) != sha256:
            raise RefusedError(f"{part} is missing or damaged: it does not fit {layout.MANIFEST}")
    return manifest


def refuse_older(manifest: Manifest, roots: Roots, accepted: Sequence[str]) -> None:
    """Refuse to replace what is newer here than in the backup.

    Raises:
        RefusedError: the authority or the high-water mark of this bastion is newer.
    """
    here, saved = create.authority_facts(roots.authority), manifest.get("authority")
    if here is not None and "authority" not in accepted:
        problem = _newer_authority(here, saved)
        if problem:
            raise RefusedError(
                f"the certificate authority here is newer than the backup's: {problem}. To go back "
                "all the same, allow it: tresor_restore_accept_older=authority"
            )
    mark = roots.highwater
    if mark.is_file() and "highwater" not in accepted:
        serial = int(json.loads(mark.read_bytes())["serial"])
        old = int((manifest.get("highwater") or {"serial": 0})["serial"])
        if serial > old:
            raise RefusedError(
                f"this bastion has accepted bundle serial {serial}, the backup only {old}: going "
                "back would let an older bundle in. To do it all the same: "
                "tresor_restore_accept_older=highwater"
            )


def _newer_authority(here: dict[str, Any], saved: dict[str, Any] | None) -> str:
    if saved is None:
        return "the backup has none"
    if here["sha256"] != saved["sha256"]:
        if _time(here["not_before"]) > _time(saved["not_before"]):
            return f"made {here['not_before']}, the backup's {saved['not_before']}"
        return ""
    for what in ("issued", "revoked"):
        if here[what] > saved[what]:
            return f"it has {what} {here[what]} certificates, the backup knows {saved[what]}"
    return ""


def _time(value: str) -> dt.datetime:
    return dt.datetime.fromisoformat(value.replace("Z", "+00:00"))


def _unpack(wanted: Wanted, manifest: Manifest, scratch: Path, roots: Roots) -> list[_File]:
    """Decrypt and unpack into ``scratch``; return the files, each checked by its digest."""
    archive = scratch / "archive.tar"
    with archive.open("wb") as out:
        for part in manifest["parts"]:
            clear = scratch / "part"
            seal.unseal(wanted.backup / part["name"], wanted.key, wanted.passphrase_file, clear)
            with clear.open("rb") as stream:
                shutil.copyfileobj(stream, out, 1 << 20)
            clear.unlink()
    try:
        with tarfile.open(archive, mode="r:") as content:
            found, listing = _extract(content, scratch)
    except (tarfile.TarError, ValueError, KeyError, TypeError) as error:
        raise RefusedError(f"the archive is damaged: {type(error).__name__}: {error}") from error
    archive.unlink()
    missing = sorted({entry["name"] for entry in listing} ^ set(found))
    if missing:
        raise RefusedError(f"the archive and its list differ: {', '.join(missing[:5])}")
    files = []
    for entry in listing:
        staged, sha256 = found[entry["name"]]
        if sha256 != entry["sha256"]:
            raise RefusedError(f"{entry['name']} in the archive is damaged")
        target = _target(PurePosixPath(entry["name"]), roots, str(manifest["id"]))
        files.append(
            _File(staged, target, int(entry["mode"], 8), entry["uid"], entry["gid"], sha256)
        )
    return files


def _extract(
    content: tarfile.TarFile, scratch: Path
) -> tuple[dict[str, tuple[Path, str]], list[dict[str, Any]]]:
    found: dict[str, tuple[Path, str]] = {}
    listing: list[dict[str, Any]] | None = None
    for number, member in enumerate(content):
        stream = content.extractfile(member) if member.isreg() else None
        if stream is None or listing is not None or number > _MAX_FILES:
            raise ValueError(f"unfit entry {member.name}")
        if member.name == layout.FILES:
            listing = json.loads(stream.read())["files"]
            continue
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts or member.name in found:
            raise ValueError(f"unfit name {member.name}")
        staged = scratch / f"{number}"
        found[member.name] = (staged, _copy(stream, staged))
    if listing is None:
        raise ValueError(f"it lacks {layout.FILES}")
    return found, listing


def _copy(stream: IO[bytes], target: Path) -> str:
    sha256 = hashlib.sha256()
    with target.open("wb") as out:
        target.chmod(0o600)
        while chunk := stream.read(1 << 20):
            sha256.update(chunk)
            out.write(chunk)
    return sha256.hexdigest()


def _target(name: PurePosixPath, roots: Roots, identifier: str) -> Path:
    first, rest = name.parts[0], PurePosixPath(*name.parts[1:])
    if first == "configuration":
        return roots.configuration / rest
    if first == "state":
        return roots.state / rest
    if name.parts[:2] == ("store", "state") and name.parts[2] in _STORE_STATE:
        return roots.store / rest
    if first in {"store", "audit", "extra"}:
        return roots.restored / identifier / name
    raise RefusedError(f"the archive holds {name}, which this release does not know")


def _refuse_other_authority(files: Sequence[_File], manifest: Manifest, roots: Roots) -> None:
    """The manifest speaks for the authority before anything is opened: it must tell the truth."""
    staged = [file for file in files if file.target == roots.authority / "ca.crt"]
    saved = manifest.get("authority")
    if bool(staged) != bool(saved):
        raise RefusedError("manifest and archive differ about the certificate authority")
    for file in staged:
        folder = Path(tempfile.mkdtemp(dir=file.staged.parent))
        shutil.copyfile(file.staged, folder / "ca.crt")
        facts = create.authority_facts(folder)
        if facts is None or saved is None or facts["sha256"] != saved["sha256"]:
            raise RefusedError("manifest and archive differ about the certificate authority")
    marks = [file for file in files if file.target == roots.highwater]
    kept = [json.loads(file.staged.read_bytes()) for file in marks]
    if kept != [mark for mark in [manifest.get("highwater")] if mark is not None]:
        raise RefusedError("manifest and archive differ about the high-water mark")


def _same(file: _File) -> bool:
    try:
        status = file.target.lstat()
    except FileNotFoundError:
        return False
    return (
        not file.target.is_symlink()
        and status.st_mode & 0o7777 == file.mode
        and (status.st_uid, status.st_gid) == (file.uid, file.gid)
        and seal.sha256_of(file.target) == file.sha256
    )


def _write(file: _File) -> None:
    for folder in reversed(list(_missing(file.target.parent))):
        # What others may not read in the backup lies in folders that they may not enter.
        folder.mkdir(mode=0o700 if file.mode & 0o077 == 0 else 0o755)
    scratch = file.target.with_name(f".{file.target.name}.restored")
    shutil.copyfile(file.staged, scratch)
    os.chown(scratch, file.uid, file.gid)
    scratch.chmod(file.mode)
    descriptor = os.open(scratch, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    scratch.replace(file.target)


def _missing(folder: Path) -> Iterator[Path]:
    while not folder.exists():
        yield folder
        folder = folder.parent
