"""Gate ``debs``: a repository holds exactly the packages it lists, and each is what it says.

``apt`` believes the index, ``dpkg`` the package; a difference between the two lets one package pass
as another. Maintainer scripts run as root on every host, so they are counted and named.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ..bundle.manifest import FileEntry, Part
from .verdict import NOTE, REFUSE, RefusalError, Verdict, refusal, verdict
from .view import BundleView

GATE = "debs"
_INDEX = re.compile(r"dists/site/main/binary-([a-z0-9]+)/Packages")
_RELEASE = "dists/site/Release"
_OTHER = re.compile(r"evidence/[a-z-]+\.InRelease")
_SCRIPTS = ("preinst", "postinst", "prerm", "postrm", "config")
_MAX_INDEX = 64 * 1024 * 1024
_MAX_CONTROL = 32 * 1024 * 1024
_LOCK = "Renew the lock on the connected side and build again"
_GET = "Get the package from its archive again"


@dataclass(frozen=True, slots=True)
class DebFacts:
    """What a package says about itself: its control fields and its maintainer scripts."""

    name: str
    version: str
    architecture: str
    section: str
    scripts: tuple[str, ...]


def parse_stanzas(text: str) -> list[dict[str, str]]:
    """Return the paragraphs of a Debian control file; continuation lines are joined.

    Raises:
        ValueError: a line without a field, or a field twice.
    """
    found: list[dict[str, str]] = []
    for block in re.split(r"\n[ \t]*\n", text.strip("\n")):
        fields: dict[str, str] = {}
        key = ""
        for line in block.split("\n"):
            if line[:1] in (" ", "\t") and key:
                fields[key] += "\n" + line
                continue
            name, colon, value = line.partition(":")
            if not colon or name in fields or not re.fullmatch(r"[!-9;-~]+", name):
                raise ValueError(f"line {line[:80]!r}")
            key = name
            fields[key] = value.strip()
        found.append(fields)
    return found


def inspect(stream: BinaryIO, size: int, file: str) -> DebFacts:
    """Read a package's control archive; its payload is not unpacked.

    Raises:
        RefusalError: rule ``debs.package``.
    """

    def wrong(seen: str) -> RefusalError:
        return RefusalError("debs.package", file, seen, _GET)

    members = dict(_members(stream, size, file))
    names = list(members)
    if len(names) != 3 or names[0] != "debian-binary":
        raise wrong(f"members are {', '.join(names) or 'none'}")
    if not re.fullmatch(r"data\.tar(\.(xz|gz|zst|bz2))?", names[2]):
        raise wrong(f"third member is {names[2]}")
    start, length = members[names[1]]
    if length > _MAX_CONTROL:
        raise wrong(f"control archive of {length} bytes")
    stream.seek(start)
    raw = _unpack(stream.read(length), names[1], file)
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as archive:
            for member in archive:
                name = member.name.removeprefix("./").strip("/")
                if member.isfile() and name not in files and "/" not in name:
                    content = archive.extractfile(member)
                    files[name] = content.read() if content else b""
                elif name not in ("", "."):
                    raise wrong(f"control archive holds {member.name!r} twice or as no file")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise wrong(f"control archive: {error}") from error
    try:
        (fields,) = parse_stanzas(files["control"].decode("utf-8"))
        facts = (fields["Package"], fields["Version"], fields["Architecture"])
    except (KeyError, ValueError, UnicodeDecodeError) as error:
        raise wrong(f"control file: {error}") from error
    scripts = tuple(name for name in _SCRIPTS if name in files)
    return DebFacts(*facts, fields.get("Section", ""), scripts)


def _members(stream: BinaryIO, size: int, file: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield (name, (start, length)) of the ar archive; it must end where its last member ends."""
    stream.seek(0)
    if stream.read(8) != b"!<arch>\n":
        raise RefusalError("debs.package", file, "not a Debian package", _GET)
    position = 8
    seen: set[str] = set()
    while position < size:
        stream.seek(position)
        header = stream.read(60)
        name = header[:16].decode("ascii", "replace").rstrip().rstrip("/")
        digits = header[48:58].decode("ascii", "replace").strip()
        if len(header) != 60 or header[58:] != b"`\n" or not digits.isdigit() or name in seen:
            raise RefusalError("debs.package", file, f"damaged at byte {position}", _GET)
        seen.add(name)
        length = int(digits)
        yield name, (position + 60, length)
        position += 60 + length + length % 2
        if len(seen) > 8:
            break
    if position not in (size, size + 1):
        raise RefusalError("debs.package", file, "bytes after the last member", _GET)


def _unpack(raw: bytes, name: str, file: str) -> bytes:
    def wrong(seen: str) -> RefusalError:
        return RefusalError("debs.package", file, seen, _GET)

    limit = _MAX_CONTROL
    try:
        if name == "control.tar.xz":
            result = lzma.LZMADecompressor(memlimit=256 * 1024 * 1024).decompress(raw, limit)
        elif name == "control.tar.gz":
            with gzip.GzipFile(fileobj=io.BytesIO(raw)) as stream:
                result = stream.read(limit)
        elif name == "control.tar":
            result = raw
        else:
            raise wrong(f"{name} cannot be read here: only xz, gz and plain archives can")
    except (lzma.LZMAError, zlib.error, OSError, EOFError) as error:
        raise wrong(f"{name}: {error}") from error
    if len(result) >= limit:
        raise wrong(f"{name} unpacks to more than {limit} bytes")
    return result


def gate(view: BundleView, part: Part) -> Iterator[Verdict]:
    """Judge one package repository."""
    entries = {entry.path: entry for entry in part.files}
    indexes = [entry for path, entry in entries.items() if _INDEX.fullmatch(path)]
    if not indexes or _RELEASE not in entries:
        yield verdict("debs.index", REFUSE, part.name, "no Release or no Packages", _LOCK)
        return
    stanzas: list[dict[str, str]] = []
    try:
        release = view.read(entries[_RELEASE], _MAX_INDEX, "debs.index").decode("utf-8")
        for entry in indexes:
            raw = view.read(entry, _MAX_INDEX, "debs.index")
            _release_names(release, entry, raw, part.name)
            stanzas += parse_stanzas(raw.decode("utf-8"))
    except RefusalError as error:
        yield refusal(error)
        return
    except (ValueError, UnicodeDecodeError) as error:
        yield verdict("debs.index", REFUSE, part.name, f"Packages: {error}", _LOCK)
        return
    known: dict[str, str] = {}
    scripted: list[str] = []
    listed: set[str] = set()
    for stanza in stanzas:
        try:
            facts = _package(view, stanza, entries, part.name)
        except RefusalError as error:
            yield refusal(error)
            continue
        listed.add(stanza["Filename"])
        key = f"{facts.name}:{facts.architecture}"
        if known.setdefault(key, facts.version) != facts.version or len(listed) != len(known):
            yield verdict(
                "debs.twice", REFUSE, f"{part.name}/{key}", f"{known[key]}, {facts.version}", _LOCK
            )
        if facts.scripts:
            scripted.append(f"{facts.name} ({' '.join(facts.scripts)})")
    for path in sorted(set(entries) - listed):
        if not (_INDEX.fullmatch(path) or _OTHER.fullmatch(path) or path == _RELEASE):
            yield verdict(
                "debs.outside-lock", REFUSE, f"{part.name}/{path}", "in no package index", _LOCK
            )
    if scripted:
        text = f"{len(scripted)} of {len(stanzas)} packages run scripts as root when installed: "
        yield verdict("debs.scripts", NOTE, part.name, text + ", ".join(scripted))


def _release_names(release: str, entry: FileEntry, raw: bytes, part: str) -> None:
    wanted = (
        f"{hashlib.sha256(raw).hexdigest()} {len(raw)} {entry.path.removeprefix('dists/site/')}"
    )
    if wanted not in [" ".join(line.split()) for line in release.splitlines()]:
        raise RefusalError(
            "debs.index", f"{part}/{entry.path}", "Release has another digest", _LOCK
        )


def _package(
    view: BundleView, stanza: dict[str, str], entries: dict[str, FileEntry], part: str
) -> DebFacts:
    path = stanza.get("Filename", "")
    entry = entries.get(path)
    where = f"{part}/{path or stanza.get('Package', '?')}"
    if entry is None or not path.startswith("pool/"):
        raise RefusalError(
            "debs.missing", where, "the index lists it, the bundle has it not", _LOCK
        )
    if (stanza.get("SHA256"), stanza.get("Size")) != (entry.sha256, str(entry.size)):
        raise RefusalError("debs.index", where, "index and manifest differ on its digest", _LOCK)
    with view.open(entry) as stream:
        facts = inspect(stream, entry.size, where)
    told = tuple(stanza.get(key, "") for key in ("Package", "Version", "Architecture"))
    if told != (facts.name, facts.version, facts.architecture):
        raise RefusalError(
            "debs.index",
            where,
            f"the index says {told}, the package {facts.name} {facts.version} {facts.architecture}",
            _LOCK,
        )
    return facts
