"""Make one backup: everything into an archive, the archive into encrypted parts, old ones away."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from . import layout, seal, sources
from .errors import SourceError
from .layout import Manifest, Roots


class Writable(Protocol):
    """What an archive is written to."""

    def write(self, data: bytes, /) -> int:
        """Take all of ``data``."""


@dataclass(frozen=True)
class Wanted:
    """What one backup is made of."""

    directory: Path
    site: str
    recipients: tuple[Path, ...]
    audit: Path | None = None
    extra: tuple[Path, ...] = ()
    part_bytes: int = seal.PART_BYTES


def create(wanted: Wanted, roots: Roots, now: dt.datetime) -> tuple[Path, Manifest]:
    """Make a backup; return its folder and its manifest. A failure leaves no folder behind.

    Raises:
        BackupError: a recipient, a source or openssl failed, or an import is under way.
        OSError: the disk.
    """
    subjects = [seal.check_recipient(path) for path in wanted.recipients]
    identifier = f"{now:%Y%m%dT%H%M%SZ}"
    wanted.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    target, work = wanted.directory / identifier, wanted.directory / f"{layout.PARTIAL}{identifier}"
    if target.exists():
        raise SourceError(f"{target} exists; wait a second and run again")
    _remove_partial(wanted.directory)
    work.mkdir(mode=0o700)
    writer = seal.SealedWriter(work, wanted.recipients, wanted.part_bytes)
    try:
        with _no_import(roots):
            files = _archive(
                writer,
                [*sources.bastion(roots), *sources.others(wanted.audit, wanted.extra)],
            )
        writer.close()
        manifest: Manifest = {
            "format": layout.FORMAT,
            "id": identifier,
            "site": wanted.site,
            "recipients": subjects,
            "files": len(files),
            "bytes": sum(entry["size"] for entry in files),
            "authority": authority_facts(roots.authority),
            "highwater": _json(roots.highwater),
            "parts": [
                {"name": part.name, "size": part.stat().st_size, "sha256": seal.sha256_of(part)}
                for part in writer.parts
            ],
        }
        _write(work / layout.MANIFEST, manifest)
        for part in writer.parts:
            _sync(part)
    except BaseException:
        writer.abort()
        shutil.rmtree(work, ignore_errors=True)
        raise
    work.rename(target)
    _sync(wanted.directory)
    return target, manifest


def prune(directory: Path, keep: int) -> list[str]:
    """Remove all but the newest ``keep`` finished backups; return the ids that are gone."""
    surplus = layout.complete(directory)[:-keep] if keep > 0 else []
    for path in surplus:
        shutil.rmtree(path)
    return [path.name for path in surplus]


def authority_facts(folder: Path) -> dict[str, Any] | None:
    """Return fingerprint, begin and number of issued and revoked certificates of an authority."""
    certificate = folder / "ca.crt"
    if not certificate.is_file():
        return None
    done = subprocess.run(
        ["openssl", "x509", "-in", str(certificate), "-noout", "-startdate", "-dateopt", "iso_8601",
         "-fingerprint", "-sha256"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise SourceError(f"{certificate} is no certificate: {done.stderr.strip()[-200:]}")
    fields = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    print_ = next(value for name, value in fields.items() if "ingerprint" in name)
    return {
        "sha256": print_.replace(":", "").lower(),
        "not_before": fields["notBefore"].replace(" ", "T"),
        "issued": _lines(folder / "issued.jsonl"),
        "revoked": _lines(folder / "revoked.jsonl"),
    }


def write_archive(stream: Writable, found: Iterable[sources.Source]) -> None:
    """Write an unencrypted archive with the same care for files that grow (gateways' audit)."""
    _archive(stream, found)


def _archive(stream: Writable, found: Iterable[sources.Source]) -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = []
    with tarfile.open(
        fileobj=cast("BinaryIO", stream), mode="w|", format=tarfile.PAX_FORMAT
    ) as archive:
        for source in found:
            entry = _add(archive, source)
            if entry is not None:
                files.append(entry)
        listing = json.dumps({"files": files}, sort_keys=True).encode()
        info = tarfile.TarInfo(layout.FILES)
        info.size, info.mode = len(listing), 0o600
        archive.addfile(info, io.BytesIO(listing))
    return files


def _add(archive: tarfile.TarFile, source: sources.Source) -> dict[str, Any] | None:
    try:
        stream = source.path.open("rb")
    except FileNotFoundError:
        return None  # removed since it was listed: an old run, a rotated log
    with stream:
        status = os.fstat(stream.fileno())
        info = tarfile.TarInfo(source.name)
        info.size = sources.stable_length(source.path, stream.fileno())
        info.mode, info.mtime = status.st_mode & 0o7777, int(status.st_mtime)
        info.uid, info.gid = status.st_uid, status.st_gid
        hashed = _Hashed(stream)
        try:
            archive.addfile(info, cast("BinaryIO", hashed))
        except OSError as error:
            raise SourceError(
                f"{source.path} became shorter while it was read ({error}); run the backup again"
            ) from error
    return {
        "name": source.name,
        "size": info.size,
        "mode": f"{info.mode:04o}",
        "uid": info.uid,
        "gid": info.gid,
        "sha256": hashed.sha256.hexdigest(),
    }


class _Hashed:
    """A reader that hashes what it hands out."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.sha256.update(data)
        return data


@contextlib.contextmanager
def _no_import(roots: Roots) -> Iterator[None]:
    """Keep the importer out: its state is several files that belong together."""
    lock = roots.store / "state" / "lock"
    if not lock.exists():
        yield
        return
    with lock.open("rb+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SourceError("an import is under way; run the backup when it has ended") from error
        yield


def _remove_partial(directory: Path) -> None:
    for path in directory.glob(f"{layout.PARTIAL}*"):
        shutil.rmtree(path)


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def _json(path: Path) -> dict[str, Any] | None:
    return dict(json.loads(path.read_bytes())) if path.is_file() else None


def _write(path: Path, content: Manifest) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
