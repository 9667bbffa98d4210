"""Small but real packages and weights, made in memory."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Mapping, Sequence

EPOCH = (1980, 1, 1, 0, 0, 0)


def wheel(
    name: str,
    version: str,
    members: Mapping[str, bytes],
    *,
    metadata: str = "License-Expression: MIT\n",
    entry_points: str = "",
    record: Sequence[str] | None = None,
    packed: bool = False,
) -> tuple[str, bytes]:
    """Return (file name, content) of a wheel.

    Args:
        name: distribution name.
        version: its version.
        members: files beside ``dist-info``.
        metadata: further lines of METADATA.
        entry_points: content of ``entry_points.txt``; none when empty.
        record: lines of RECORD instead of the right ones.
        packed: whether its files are compressed.
    """
    safe = name.replace("-", "_")
    folder = f"{safe}-{version}.dist-info"
    head = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{metadata}"
    files = dict(members)
    files[f"{folder}/METADATA"] = head.encode()
    files[f"{folder}/WHEEL"] = b"Wheel-Version: 1.0\nTag: py3-none-any\n"
    if entry_points:
        files[f"{folder}/entry_points.txt"] = entry_points.encode()
    rows = [f"{path},{_digest(raw)},{len(raw)}" for path, raw in files.items()]
    rows = [*rows, f"{folder}/RECORD,,"] if record is None else list(record)
    files[f"{folder}/RECORD"] = ("\n".join(rows) + "\n").encode()
    return f"{safe}-{version}-py3-none-any.whl", zip_of(files, packed=packed)


def zip_of(files: Mapping[str, bytes], *, packed: bool = False) -> bytes:
    """Return a zip with these members."""
    kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, raw in files.items():
            archive.writestr(zipfile.ZipInfo(path, EPOCH), raw, kind)
    return buffer.getvalue()


def _digest(raw: bytes) -> str:
    encoded = base64.urlsafe_b64encode(hashlib.sha256(raw).digest()).rstrip(b"=").decode()
    return f"sha256={encoded}"


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """Return a plain tar with these members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, raw in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    return buffer.getvalue()


def deb(
    name: str,
    version: str,
    *,
    architecture: str = "amd64",
    section: str = "net",
    depends: str = "",
    scripts: Mapping[str, bytes] | None = None,
    extra: bytes = b"",
) -> bytes:
    """Return a Debian package with an empty payload.

    Args:
        name: package name.
        version: its version.
        architecture: Debian architecture.
        section: as in its control file.
        depends: value of Depends; none when empty.
        scripts: maintainer scripts by name.
        extra: bytes after the last member.
    """
    control = f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n"
    control += f"Maintainer: nobody <nobody@example.com>\nSection: {section}\n"
    control += f"Depends: {depends}\n" if depends else ""
    control += "Description: test package\n"
    inner = {"./control": control.encode()}
    inner |= {f"./{key}": raw for key, raw in (scripts or {}).items()}
    raw = b"!<arch>\n"
    for member, content in (
        ("debian-binary", b"2.0\n"),
        ("control.tar.xz", lzma.compress(tar_of(inner))),
        ("data.tar.xz", lzma.compress(tar_of({}))),
    ):
        raw += f"{member:16}{0:<12}{0:<6}{0:<6}{'100644':8}{len(content):<10}`\n".encode()
        raw += content + (b"\n" if len(content) % 2 else b"")
    return raw + extra


def tarball(package: Mapping[str, object], files: Mapping[str, bytes] | None = None) -> bytes:
    """Return an npm tarball with this ``package.json``."""
    members = {"package/package.json": json.dumps(package).encode(), **(files or {})}
    return gzip.compress(tar_of(members), mtime=0)


def safetensors(
    tensors: Mapping[str, tuple[str, list[int], bytes]] | None = None,
    *,
    header: bytes | None = None,
    data: bytes | None = None,
) -> bytes:
    """Return a safetensors file of (dtype, shape, bytes) by name, or of a raw header and data."""
    held = {"w": ("U8", [8], b"\0" * 8)} if tensors is None else dict(tensors)
    table: dict[str, object] = {}
    body = b""
    for name, (dtype, shape, raw) in held.items():
        offsets = [len(body), len(body) + len(raw)]
        table[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        body += raw
    text = json.dumps(table).encode() if header is None else header
    return struct.pack("<Q", len(text)) + text + (body if data is None else data)
