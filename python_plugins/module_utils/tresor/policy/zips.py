"""Strict look at a zip's structure: one reading for every unpacker.

Installers differ in what they believe: the central directory at the end or the headers in front of
each member. An archive that says the same in both, without gaps, prefixes or tails, has one
meaning.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from collections.abc import Callable
from typing import BinaryIO

from .verdict import RefusalError

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_LOCAL = struct.Struct("<4s5H3L2H")
_MAX_MEMBERS = 200_000
_Wrong = Callable[[str], RefusalError]
_REMOVE = "Remove this file, or get it from its maker again"


def open_strict(stream: BinaryIO, rule: str, thing: str) -> zipfile.ZipFile:
    """Return the archive after checking its structure.

    Raises:
        RefusalError: ``<rule>.zip``: damaged, a prefix or tail, members that overlap or leave gaps,
            names that differ between header and directory, links, or unsafe names.
    """

    def wrong(seen: str) -> RefusalError:
        return RefusalError(f"{rule}.zip", thing, seen, _REMOVE)

    try:
        archive = zipfile.ZipFile(stream)
        members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, struct.error) as error:
        raise wrong(f"not a zip: {error}") from error
    if len(members) > _MAX_MEMBERS:
        raise wrong(f"{len(members)} members, at most {_MAX_MEMBERS}")
    start = _directory_start(stream, len(members), wrong)
    names: set[str] = set()
    position = 0
    for member in sorted(members, key=lambda item: item.header_offset):
        _check_name(member, names, wrong)
        if member.header_offset != position:
            raise wrong(f"gap or overlap before {member.filename!r}")
        position = _end_of(stream, member, wrong)
    if position != start:
        # A data descriptor may lie between the last member and the directory.
        raise wrong("bytes between the last member and the directory")
    return archive


def _directory_start(stream: BinaryIO, count: int, wrong: _Wrong) -> int:
    size: int = stream.seek(0, os.SEEK_END)
    if size < _END.size:
        raise wrong("too short")
    stream.seek(size - _END.size)
    magic, disk, first, here, total, length, offset, comment = _END.unpack(stream.read(_END.size))
    if magic != b"PK\5\6" or comment or disk or first:
        raise wrong("bytes after the archive, a comment, or several volumes")
    end: int = size - _END.size
    if 0xFFFF in (here, total) or 0xFFFFFFFF in (length, offset):
        stream.seek(end - _LOCATOR64.size)
        mark, _, place, _ = _LOCATOR64.unpack(stream.read(_LOCATOR64.size))
        end = end - _LOCATOR64.size - _END64.size
        if mark != b"PK\6\7" or place != end:
            raise wrong("directory of 64 bits is not where it must be")
        stream.seek(end)
        fields = _END64.unpack(stream.read(_END64.size))
        if fields[0] != b"PK\6\6" or fields[1] != _END64.size - 12:
            raise wrong("directory of 64 bits is malformed")
        here, total, length, offset = fields[6:10]
    if here != total or total != count or offset + length != end:
        raise wrong("directory does not fill the place before its end")
    return int(offset)


def _end_of(stream: BinaryIO, member: zipfile.ZipInfo, wrong: _Wrong) -> int:
    """Return where the member ends, after comparing its header with the directory."""
    stream.seek(member.header_offset)
    raw = stream.read(_LOCAL.size)
    if len(raw) != _LOCAL.size:
        raise wrong(f"header of {member.filename!r} is cut off")
    magic, _, flags, method, _, _, _, packed, _, name_length, extra_length = _LOCAL.unpack(raw)
    name = stream.read(name_length)
    text = name.decode("utf-8" if flags & 0x800 else "cp437", errors="replace")
    if magic != b"PK\3\4" or text != member.orig_filename or method != member.compress_type:
        raise wrong(f"header and directory disagree on {member.filename!r}")
    if flags & 1 or method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise wrong(f"{member.filename!r} is encrypted or packed by method {method}")
    streamed = bool(flags & 8)
    if not streamed and packed not in (member.compress_size, 0xFFFFFFFF):
        raise wrong(f"header and directory disagree on the size of {member.filename!r}")
    end: int = (
        member.header_offset + _LOCAL.size + name_length + extra_length + member.compress_size
    )
    if not streamed:
        return end
    stream.seek(end)
    tail = stream.read(24)
    crc = struct.pack("<L", member.CRC)
    short = struct.pack("<2L", member.compress_size & 0xFFFFFFFF, member.file_size & 0xFFFFFFFF)
    long = struct.pack("<2Q", member.compress_size, member.file_size)
    for descriptor in (
        b"PK\7\x08" + crc + long,
        b"PK\7\x08" + crc + short,
        crc + long,
        crc + short,
    ):
        if tail.startswith(descriptor):
            return end + len(descriptor)
    raise wrong(f"size after {member.filename!r} is not the directory's")


def _check_name(member: zipfile.ZipInfo, names: set[str], wrong: _Wrong) -> None:
    name = member.orig_filename
    bare = name.rstrip("/")
    parts = bare.split("/")
    if not bare or "\\" in name or "\0" in name or ":" in parts[0] or {"", ".", ".."} & {*parts}:
        raise wrong(f"unsafe name {name!r}")
    if not name.isprintable():
        raise wrong(f"name {name!r} has unprintable characters")
    if bare in names:
        raise wrong(f"{name!r} appears twice")
    names.add(bare)
    mode = member.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise wrong(f"{name!r} is a link or a device")
