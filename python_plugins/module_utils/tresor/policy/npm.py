"""Gate ``npm``: the tree is exactly its tarballs, each is what it says and runs nothing."""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ..bundle.manifest import Part
from .documents import Fields, load, load_object
from .verdict import NOTE, REFUSE, RefusalError, Verdict, clean, refusal, verdict
from .view import BundleView

GATE = "npm"
_TREE = "package-tree.json"
_MAX_JSON = 16 * 1024 * 1024
_MAX_UNPACKED = 512 * 1024 * 1024
_MAX_MEMBERS = 50_000
_PLACE = re.compile(r"(node_modules/(@[\w.-]+/)?[\w.-]+)(/node_modules/(@[\w.-]+/)?[\w.-]+)*")
# What npm runs when a package from a registry is installed.
_SCRIPTS = ("preinstall", "install", "postinstall")
_LOCK = "Renew the lock on the connected side and build again"
_GET = "Get the tarball from the registry again"


@dataclass(frozen=True, slots=True)
class NpmFacts:
    """What a tarball says about itself."""

    name: str
    version: str
    licence: str
    scripts: tuple[str, ...]
    nested: tuple[str, ...]


def inspect(stream: BinaryIO, file: str) -> NpmFacts:
    """Read a tarball's member list and its ``package.json``.

    Raises:
        RefusalError: rule ``npm.package``.
    """

    def wrong(seen: str) -> RefusalError:
        return RefusalError("npm.package", file, seen, _GET)

    text = b""
    nested: set[str] = set()
    names: set[str] = set()
    size = 0
    try:
        packed = gzip.GzipFile(fileobj=stream)
        with tarfile.open(fileobj=packed, mode="r|") as archive:
            for member in archive:
                size += member.size
                parts = member.name.rstrip("/").split("/")
                if not (member.isfile() or member.isdir()):
                    raise wrong(f"{member.name!r} is a link or a device")
                if member.name.startswith("/") or {"", ".."} & {*parts} or "\\" in member.name:
                    raise wrong(f"unsafe name {member.name!r}")
                if member.isfile() and member.name in names:
                    raise wrong(f"{member.name!r} appears twice")
                names.add(member.name)
                if size > _MAX_UNPACKED or len(names) > _MAX_MEMBERS:
                    raise wrong("unpacks to too much")
                if "node_modules" in parts[1:]:
                    nested.add("/".join(parts[1:4]))
                if len(parts) == 2 and parts[1] == "package.json":
                    if text:
                        raise wrong("has two package.json")
                    content = archive.extractfile(member)
                    text = content.read(_MAX_JSON) if content else b""
        while rest := packed.read(1024 * 1024):  # to the checksum at the end
            size += len(rest)
            if rest.strip(b"\0") or size > _MAX_UNPACKED:
                raise wrong("bytes after the archive")
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise wrong(f"not a tarball: {error}") from error
    data = load_object(text, limit=_MAX_JSON, rule="npm", thing=file, action=_GET)
    source = Fields(data, "npm", file, _GET)
    scripts = data.get("scripts")
    held = sorted(set(scripts) & {*_SCRIPTS}) if isinstance(scripts, dict) else []
    # npm compiles a package with this file although it names no script.
    if any(name.split("/")[1:] == ["binding.gyp"] for name in names):
        held.append("binding.gyp")
    return NpmFacts(
        source.text("name"),
        source.text("version"),
        _licence(data),
        tuple(held),
        tuple(sorted(nested)),
    )


def _licence(data: dict[str, object]) -> str:
    value = data.get("license")
    if isinstance(value, dict):  # the form of old packages
        value = value.get("type")
    return value if isinstance(value, str) else ""


def gate(view: BundleView, part: Part) -> Iterator[Verdict]:
    """Judge one npm tree."""
    entries = {entry.path: entry for entry in part.files}
    if _TREE not in entries:
        yield verdict("npm.tree", REFUSE, part.name, f"no {_TREE}", _LOCK)
        return
    try:
        raw = view.read(entries[_TREE], _MAX_JSON, "npm.tree")
        wanted = _tree(load(raw, limit=_MAX_JSON, rule="npm", thing=_TREE), part.name)
    except RefusalError as error:
        yield refusal(error)
        return
    for path, entry in sorted(entries.items()):
        if path == _TREE:
            continue
        where = f"{part.name}/{path}"
        try:
            with view.open(entry) as stream:
                facts = inspect(stream, where)
            told = wanted.pop(path, None)
            if told != (facts.name, facts.version):
                raise RefusalError(
                    "npm.outside-lock",
                    where,
                    f"is {facts.name} {facts.version}, wanted: {told}",
                    _LOCK,
                )
        except RefusalError as error:
            yield refusal(error)
            continue
        for rule, values in (("npm.script", facts.scripts), ("npm.nested", facts.nested)):
            for value in values:
                allowed = value in view.declared.allowed(rule, facts.name)
                yield verdict(
                    rule,
                    NOTE if allowed else REFUSE,
                    where,
                    f"{value}{' (allowed)' if allowed else ''}",
                    ""
                    if allowed
                    else "Remove the package, or have it reviewed and allowed: rule "
                    f"{rule}, package {clean(facts.name)}, value {clean(value)}",
                )
    for path in sorted(wanted):
        yield verdict("npm.missing", REFUSE, f"{part.name}/{path}", "in the tree, not here", _LOCK)


def _tree(value: object, part: str) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    places: set[str] = set()
    for item in value if isinstance(value, list) else [None]:
        row = Fields(item, "npm.tree", f"{part}/{_TREE}", _LOCK)
        place, file = row.text("path"), row.text("file")
        told = (row.text("name"), row.text("version"))
        if not _PLACE.fullmatch(place) or ".." in place.split("/") or place in places:
            raise row.wrong("path", place, "one place below node_modules, named once")
        if not place.endswith(f"node_modules/{told[0]}"):
            raise row.wrong("path", place, f"the place of {told[0]}")
        if found.setdefault(file, told) != told:
            raise row.wrong("file", file, "one package")
        places.add(place)
    return found
