"""Gate ``wheels``: an environment is exactly its pinned wheels, and none runs code by itself.

``pip`` and ``uv`` check a wheel's digest, but not what the archive does beside installing a
package: start-up files, plugins that other programs load, files that belong to another wheel.
"""

from __future__ import annotations

import base64
import configparser
import csv
import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.parser import HeaderParser
from typing import BinaryIO

from ..bundle.manifest import FileEntry, Part
from .rules import Declarations
from .verdict import NOTE, REFUSE, RefusalError, Verdict, clean, refusal, verdict
from .view import BundleView
from .zips import open_strict

GATE = "wheels"
_OWN_FILES = ("requirements.txt", "environment.json")
_PIN = re.compile(r"([A-Za-z0-9._-]+)==(\S+) --hash=sha256:([0-9a-f]{64})")
_START_UP = re.compile(r"(sitecustomize|usercustomize)(/.*|\..*)?", re.I)
_METADATA = (".dist-info", ".egg-info")
# Where the scheme "data" reaches site-packages after all: its root is the environment's.
_DATA_SITE = re.compile(r"(?:local/)?lib(?:32|64)?/python[0-9.]+/(?:site|dist)-packages/(.+)", re.I)
# The environment's own programs: whoever replaces them runs at every start.
_INTERPRETER = re.compile(r"(python[0-9.]*[a-z]?|activate([._].*)?)(\.exe)?", re.I)
_MAX_UNPACKED = 1024 * 1024 * 1024
_MAX_RATIO = 200
_CHUNK = 1024 * 1024
_WORKERS = 4
_UNSIGNED = ("RECORD", "RECORD.jws", "RECORD.p7s")
_HASH = re.compile(r"sha(256|384|512)=[A-Za-z0-9_-]+")
_MAX_TEXT = 16 * 1024 * 1024
# Run only when somebody calls them, or loaded by developers' tools alone.
_INERT = re.compile(
    r"(console|gui)_scripts|pytest11|pyinstaller40|babel\.\w+|distutils\.\w+|pkg_config|array_api"
)
_LOCK = "Renew the lock on the connected side and build again"


@dataclass(frozen=True, slots=True)
class WheelFacts:
    """What a wheel says about itself.

    Attributes:
        name: normalised distribution name.
        version: as in its metadata.
        licence: SPDX expression of ``License-Expression``, or empty.
        licence_hints: other texts about the licence: ``License`` and classifiers.
        plugins: groups of entry points that other programs load, each with its names.
        start_up: files and programs that the interpreter runs at its start, or that replace it.
        programs: name in ``bin`` -> what it is (a digest, or the function it calls).
        files: installed path by digest as RECORD has it.
        record: what RECORD says wrongly of files that are there.
    """

    name: str
    version: str
    licence: str
    licence_hints: tuple[str, ...]
    plugins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    start_up: tuple[str, ...] = ()
    programs: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    record: tuple[str, ...] = ()


def normalise(name: str) -> str:
    """Return a distribution's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def inspect(stream: BinaryIO, file: str, *, payload: bool = False) -> WheelFacts:
    """Read a wheel: structure, RECORD, metadata, entry points.

    Args:
        stream: the wheel.
        file: its file name, which must agree with its metadata.
        payload: also unpack every file and compare it with RECORD.

    Raises:
        RefusalError: rules ``wheels.zip``, ``wheels.record``, ``wheels.metadata``.
    """
    archive = open_strict(stream, GATE, file)
    sizes = {item.filename: item.file_size for item in archive.infolist() if not item.is_dir()}
    name, version = _from_file_name(file)
    folder = _metadata_folder(sizes, name, file)

    def text(path: str) -> str:
        if sizes.get(path, 0) > _MAX_TEXT:
            raise RefusalError("wheels.metadata", file, f"{path} is too large", "Remove the wheel")
        try:
            return archive.read(path).decode("utf-8")
        except (
            KeyError,
            ValueError,
            OSError,
            EOFError,
            RuntimeError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise RefusalError(
                "wheels.metadata", file, f"{path} cannot be read: {error}", "Remove the wheel"
            ) from error

    files, wrong = _record(text(f"{folder}/RECORD"), folder, sizes, file)
    if payload:
        wrong += _differing(archive, {path: files[path] for path in files if files[path]}, file)
    headers = HeaderParser().parsestr(text(f"{folder}/METADATA"))
    seen = (normalise(headers.get("Name", "")), headers.get("Version", ""))
    if any(len(headers.get_all(key) or []) > 1 for key in ("Name", "Version")):
        raise RefusalError(
            "wheels.metadata", file, "its metadata has two names or versions", "Remove the wheel"
        )
    if seen[0] != name or not _same_version(seen[1], version):
        raise RefusalError(
            "wheels.metadata",
            file,
            f"its metadata says {seen[0]} {seen[1]}",
            "Remove the wheel: its name lies about its content",
        )
    entry_points = (
        _entry_points(text(f"{folder}/entry_points.txt"), file)
        if f"{folder}/entry_points.txt" in sizes
        else {}
    )
    programs = _programs(files, entry_points)
    classifiers = headers.get_all("Classifier") or []
    hints = [headers.get("License", "")[:500]]
    hints += [item for item in classifiers if item.startswith("License ::")]
    return WheelFacts(
        name=name,
        version=seen[1],
        licence=headers.get("License-Expression", ""),
        licence_hints=tuple(hint for hint in hints if hint),
        plugins={key: value for key, value in entry_points.items() if not _INERT.fullmatch(key)},
        start_up=tuple(
            sorted(
                {path for path in sizes if _runs_at_start(path)}
                | {f"bin/{program}" for program in programs if _INTERPRETER.fullmatch(program)}
            )
        ),
        programs=programs,
        files=files,
        record=tuple(wrong),
    )


def _from_file_name(file: str) -> tuple[str, str]:
    fields = file.removesuffix(".whl").split("-")
    if not file.endswith(".whl") or len(fields) not in (5, 6):
        raise RefusalError("wheels.metadata", file, "no wheel's name", "Remove this file")
    return normalise(fields[0]), fields[1]


def _same_version(left: str, right: str) -> bool:
    return left.replace("_", "-").replace("-", ".") == right.replace("_", "-").replace("-", ".")


def _metadata_folder(sizes: Mapping[str, int], name: str, file: str) -> str:
    """Return the folder of the wheel's metadata; it must be the only one, wherever they come from.

    Interpreters find entry points in every such folder of site-packages, whoever put it there.
    """
    tops = {path: (_installed(path) or "").partition("/")[0] for path in sizes}
    folders = {top for top in tops.values() if top.casefold().endswith(_METADATA)}
    wanted = [
        folder
        for folder in folders
        if folder.endswith(".dist-info") and normalise(folder[:-10]).startswith(f"{name}-")
    ]
    stray = [path for path, top in tops.items() if top in folders and not path.startswith(top)]
    if len(folders) != 1 or len(wanted) != 1 or stray:
        raise RefusalError(
            "wheels.metadata",
            file,
            f"has the folders {sorted(folders)}{', through ' + stray[0] if stray else ''}",
            "Get it from its maker",
        )
    return wanted[0]


def _installed(path: str) -> str | None:
    """Return where an installer puts a member below site-packages; None for other places."""
    top, _, rest = path.partition("/")
    if not top.endswith(".data"):
        return path
    scheme, _, rest = rest.partition("/")
    if scheme == "data":
        match = _DATA_SITE.fullmatch(rest)
        return match[1] if match else None
    return rest if scheme in ("purelib", "platlib") else None


def _programs(
    files: Mapping[str, str], entry_points: Mapping[str, tuple[str, ...]]
) -> dict[str, str]:
    """Return what an installer puts into the environment's ``bin``."""
    found = {}
    for path, digest in files.items():
        top, _, rest = path.partition("/")
        scheme, _, place = rest.partition("/")
        if top.endswith(".data") and scheme == "data" and place.startswith("bin/"):
            found[place.removeprefix("bin/")] = digest
        elif top.endswith(".data") and scheme == "scripts":
            found[place] = digest
    for group in ("console_scripts", "gui_scripts"):
        found |= dict.fromkeys(entry_points.get(group, ()), f"[{group}]")
    return found


def _runs_at_start(path: str) -> bool:
    top, _, rest = path.partition("/")
    if top.endswith(".data") and rest == "data/pyvenv.cfg":
        return True
    place = _installed(path)
    return place is not None and (
        ("/" not in place and place.endswith(".pth")) or bool(_START_UP.fullmatch(place))
    )


def _differing(archive: zipfile.ZipFile, digests: Mapping[str, str], file: str) -> list[str]:
    """Unpack every file and return those that are not what RECORD says."""
    members = archive.infolist()
    unpacked = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if unpacked > max(_MAX_UNPACKED, packed * _MAX_RATIO):
        raise RefusalError(
            "wheels.zip", file, f"unpacks {packed} bytes to {unpacked}", "Remove the wheel"
        )
    wrong = []
    for path, told in digests.items():
        algorithm, _, wanted = told.partition("=")
        if algorithm not in ("sha256", "sha384", "sha512"):
            continue  # named by _record already
        digest = hashlib.new(algorithm)
        try:
            with archive.open(path) as stream:
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as error:
            raise RefusalError(
                "wheels.zip", file, f"{path} cannot be unpacked: {error}", "Remove the wheel"
            ) from error
        if base64.urlsafe_b64encode(digest.digest()).decode().rstrip("=") != wanted.rstrip("="):
            wrong.append(path)
    return wrong


def _record(
    text: str, folder: str, sizes: Mapping[str, int], file: str
) -> tuple[dict[str, str], list[str]]:
    """Return the files that RECORD lists and that are there, and those it describes wrongly.

    Raises:
        RefusalError: ``wheels.record``: malformed, or a file that it does not list.
    """
    found: dict[str, str] = {}
    wrong: list[str] = []
    unsigned = {f"{folder}/{name}" for name in _UNSIGNED}
    for row in csv.reader(io.StringIO(text)):
        if not row:
            continue
        if len(row) != 3 or row[0] in found:
            raise RefusalError("wheels.record", file, f"row {row[:3]!r}", "Get it from its maker")
        found[row[0]] = row[1]
        # What is named but not there installs nothing.
        if row[0] not in sizes or row[0] in unsigned:
            continue
        if not _HASH.fullmatch(row[1]) or (row[2] and row[2] != str(sizes[row[0]])):
            wrong.append(row[0])
    extra = sorted(set(sizes) - set(found) - unsigned)
    if extra:
        raise RefusalError(
            "wheels.record",
            file,
            f"{len(extra)} file(s) that RECORD does not list, first {extra[0]}",
            "Get the wheel from its maker again: something was added",
        )
    return {path: digest for path, digest in found.items() if path in sizes}, wrong


def _entry_points(text: str, file: str) -> dict[str, tuple[str, ...]]:
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise RefusalError(
            "wheels.metadata", file, f"entry_points.txt: {error}", "Get it from its maker again"
        ) from error
    return {group: tuple(sorted(parser[group])) for group in parser.sections()}


def gate(view: BundleView, part: Part) -> Iterator[Verdict]:
    """Judge one environment."""
    entries = {entry.path: entry for entry in part.files}
    if "requirements.txt" not in entries:
        yield verdict("wheels.pins", REFUSE, part.name, "no requirements.txt", _LOCK)
        return
    text = view.read(entries["requirements.txt"], _MAX_TEXT, "wheels.pins").decode(errors="replace")
    try:
        pins = parse_pins(text, part.name)
    except RefusalError as error:
        yield refusal(error)
        return
    owners: dict[str, tuple[str, str]] = {}
    wheels = [(path, entry) for path, entry in sorted(entries.items()) if path not in _OWN_FILES]
    # Unpacking and hashing leave Python's lock: several at once.
    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="wheels") as pool:
        looks = [pool.submit(_look, view, path, entry) for path, entry in wheels]
    for (path, entry), look in zip(wheels, looks, strict=True):
        where = f"{part.name}/{path}"
        try:
            facts = look.result()
            pin = pins.pop(facts.name, None)
            if pin is None or pin[1] != entry.sha256 or not _same_version(pin[0], facts.version):
                raise RefusalError(
                    "wheels.outside-lock",
                    where,
                    f"{facts.name} {facts.version} is pinned as {pin[0] if pin else 'nothing'}",
                    _LOCK,
                )
        except RefusalError as error:
            yield refusal(error)
            continue
        yield from _judge(facts, where, view.declared, owners)
    for name, (version, _) in sorted(pins.items()):
        yield verdict("wheels.missing", REFUSE, part.name, f"no wheel of {name} {version}", _LOCK)


def _look(view: BundleView, path: str, entry: FileEntry) -> WheelFacts:
    """Read one wheel.

    Raises:
        RefusalError: see :func:`inspect`.
    """
    with view.open(entry) as stream:
        return inspect(stream, path, payload=True)


def parse_pins(text: str, part: str) -> dict[str, tuple[str, str]]:
    """Read a closed ``requirements.txt``: {name: (version, digest)}, one line per package.

    Raises:
        RefusalError: rule ``wheels.pins``.
    """
    pins: dict[str, tuple[str, str]] = {}
    for line in text.splitlines():
        match = _PIN.fullmatch(line)
        if not match or normalise(match[1]) in pins:
            raise RefusalError(
                "wheels.pins",
                f"{part}/requirements.txt",
                f"line {line[:120]!r}",
                "One line 'name==version --hash=sha256:…' per package, no name twice; " + _LOCK,
            )
        pins[normalise(match[1])] = (match[2], match[3])
    return pins


def _own_findings(facts: WheelFacts) -> Iterator[tuple[str, str, str]]:
    """Yield (rule, value, what it means) of what a wheel does beside installing a package."""
    for path in facts.start_up:
        yield (
            "wheels.start-up",
            path,
            f"{path} runs at every start of the interpreter, or replaces it",
        )
    for group, names in sorted(facts.plugins.items()):
        shown = ", ".join(names)
        yield "wheels.plugin", group, f"entry points [{group}] {shown} are loaded by other programs"
    for path in facts.record:
        yield "wheels.record", path, f"RECORD has another size or digest of {path}, or none"


def _judge(
    facts: WheelFacts, where: str, declared: Declarations, owners: dict[str, tuple[str, str]]
) -> Iterator[Verdict]:
    findings = [*_own_findings(facts), *_collisions(facts, owners)]
    for rule, value, meaning in findings:
        if value in declared.allowed(rule, facts.name):
            yield verdict(rule, NOTE, where, f"{meaning} (allowed)")
        else:
            yield verdict(
                rule,
                REFUSE,
                where,
                meaning,
                f"Remove the wheel, or have it reviewed and allowed: rule {rule}, package "
                f"{facts.name}, value {clean(value)}",
            )


def _collisions(
    facts: WheelFacts, owners: dict[str, tuple[str, str]]
) -> Iterator[tuple[str, str, str]]:
    for path, digest in facts.files.items():
        place = _installed(path)
        if place is None:
            continue
        owner = owners.setdefault(place, (facts.name, digest))
        if owner[0] != facts.name and owner[1] != digest:
            yield "wheels.collision", place, f"would replace {place} of {owner[0]}"
    for name in facts.programs:
        owner = owners.setdefault(f"../bin/{name}", (facts.name, ""))
        if owner[0] != facts.name:
            yield "wheels.collision", f"bin/{name}", f"would replace the program of {owner[0]}"
