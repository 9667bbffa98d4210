"""Checks of contents that a digest cannot make: does each part hold what its type promises?

Only the form that a release needs is checked here; whether a site may use it is for the gates.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..engine_cache import record
from .canonical import load_strict
from .errors import RejectedError
from .manifest import BundleManifest, FileEntry, Part

Locate = Callable[[str], Path]
"""Return where the content with a digest lies on our disk."""
_CACHE_PREFIX = "engine-cache-"

MAX_TEXT_BYTES = 16 * 1024 * 1024
_PIN = re.compile(r"([A-Za-z0-9._-]+)==(\S+)((?: --hash=sha256:[0-9a-f]{64})+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Environment:
    """A closed set of wheels, from the ``environment.json`` of its part."""

    name: str
    part: str
    version: str
    python: str
    requirements_sha256: str


def check(manifest: BundleManifest, locate: Locate) -> tuple[Environment, ...]:
    """Check every part and return the environments that the bundle carries.

    Raises:
        RejectedError: rules ``content.wheels``, ``content.debs``.
    """
    environments = []
    for part in manifest.parts:
        if part.type == "wheels":
            environments.append(_wheels(part, locate))
        elif part.type == "debs":
            _debs(part)
    return tuple(environments)


def engine_caches(manifest: BundleManifest, locate: Locate) -> dict[str, dict[str, str]]:
    """Return what the caches of a bundle fit, by the name of the cache.

    Raises:
        RejectedError: rules ``content.cache``, ``cache.*``.
    """
    found = {}
    for part in manifest.parts:
        if part.type != "engine_cache":
            continue
        files = {entry.path: entry for entry in part.files}
        if set(files) != {record.RECORD_FILE, record.ARCHIVE_FILE}:
            wanted = f"{record.RECORD_FILE} and {record.ARCHIVE_FILE}"
            raise RejectedError("content.cache", f"must hold {wanted} only", part.name)
        if not part.name.startswith(_CACHE_PREFIX):
            raise RejectedError("content.cache", f"is not called {_CACHE_PREFIX}…", part.name)
        listed = files[record.RECORD_FILE]
        if listed.size > record.MAX_RECORD_BYTES:
            raise RejectedError(
                "content.size", f"more than {record.MAX_RECORD_BYTES} bytes", part.name
            )
        read = record.parse(locate(listed.sha256).read_bytes())
        found[part.name.removeprefix(_CACHE_PREFIX)] = read.fits.as_json()
    return found


def parse_requirements(text: str, path: str) -> dict[str, str]:
    """Read a closed ``requirements.txt``: every line pins one name and at least one hash.

    Returns:
        Normalised name by digest of an allowed wheel.

    Raises:
        RejectedError: rule ``content.wheels``.
    """
    found: dict[str, str] = {}
    for name, line in requirement_lines(text, path).items():
        for digest in _HASH.findall(line):
            found[digest] = name
    return found


def requirement_lines(text: str, path: str) -> dict[str, str]:
    """Return the lines of a closed ``requirements.txt`` by normalised name.

    Raises:
        RejectedError: rule ``content.wheels``.
    """
    found = {}
    for line in _logical_lines(text):
        match = _PIN.fullmatch(line)
        if not match:
            raise RejectedError(
                "content.wheels", f"line is not 'name==version --hash=sha256:…': {line[:120]}", path
            )
        found[normalised(match[1])] = line
    return found


def normalised(name: str) -> str:
    """Return a project's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _logical_lines(text: str) -> list[str]:
    joined = text.replace("\\\n", " ")
    lines = (" ".join(line.split()) for line in joined.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _wheels(part: Part, locate: Locate) -> Environment:
    files = {entry.path: entry for entry in part.files}
    for name in ("requirements.txt", "environment.json"):
        if name not in files:
            raise RejectedError("content.wheels", f"{name} is missing", part.name)
    where = f"{part.name}/requirements.txt"
    pins = parse_requirements(_text(files["requirements.txt"], locate, where), where)
    for path, entry in files.items():
        if path in ("requirements.txt", "environment.json"):
            continue
        name = normalised(path.partition("-")[0])
        if not path.endswith(".whl") or "/" in path or pins.get(entry.sha256) != name:
            raise RejectedError(
                "content.wheels",
                "file is not a wheel that requirements.txt pins",
                part.name + "/" + path,
            )
    missing = set(pins.values()) - {
        pins[entry.sha256] for entry in part.files if entry.sha256 in pins
    }
    if missing:
        raise RejectedError("content.wheels", f"no wheel of {sorted(missing)[0]}", part.name)
    return _environment(part, files, locate)


def _environment(part: Part, files: dict[str, FileEntry], locate: Locate) -> Environment:
    where = f"{part.name}/environment.json"
    raw = _text(files["environment.json"], locate, where).encode()
    data = load_strict(raw, limit=64 * 1024, rule="content", path=where)
    keys = ("name", "version", "python", "requirements_sha256")
    if not isinstance(data, dict) or not all(isinstance(data.get(key), str) for key in keys):
        raise RejectedError("content.wheels", f"needs the texts {', '.join(keys)}", where)
    environment = Environment(
        name=data["name"],
        part=part.name,
        version=data["version"],
        python=data["python"],
        requirements_sha256=data["requirements_sha256"].removeprefix("sha256:"),
    )
    if f"wheels-{environment.name}" != part.name:
        raise RejectedError("content.wheels", f"name {environment.name!r} is not the part's", where)
    if environment.requirements_sha256 != files["requirements.txt"].sha256:
        raise RejectedError(
            "content.wheels", "requirements_sha256 is not requirements.txt's", where
        )
    if not re.fullmatch(r"[0-9][0-9A-Za-z.+]{0,60}", environment.version):
        raise RejectedError("content.wheels", f"version is {environment.version!r}", where)
    return environment


def _debs(part: Part) -> None:
    paths = {entry.path for entry in part.files}
    for wanted in ("dists/site/Release", "dists/site/main/binary-amd64/Packages"):
        if wanted not in paths:
            raise RejectedError("content.debs", f"{wanted} is missing", part.name)
    for path in sorted(paths):
        if path.startswith("pool/") and not path.endswith(".deb"):
            raise RejectedError(
                "content.debs", "file in pool/ is not a package", f"{part.name}/{path}"
            )


def _text(entry: FileEntry, locate: Locate, where: str) -> str:
    if entry.size > MAX_TEXT_BYTES:
        raise RejectedError("content.size", f"more than {MAX_TEXT_BYTES} bytes", where)
    try:
        return locate(entry.sha256).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RejectedError("content.wheels", f"not UTF-8: {error}", where) from error
