"""Checks of contents that a digest cannot make: does each part hold what its type promises?"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .canonical import load_strict
from .errors import RejectedError
from .manifest import BundleManifest, FileEntry, Part

Locate = Callable[[str], Path]
"""Return where the content with a digest lies on our disk."""

MAX_TEXT_BYTES = 16 * 1024 * 1024
MAX_HEADER_BYTES = 100 * 1024 * 1024
_MODEL_SUFFIXES = (".safetensors", ".json", ".txt", ".jinja", ".md", ".model")
_MODEL_NAMES = ("LICENSE", "NOTICE")
_CODE_KEYS = ("auto_map", "trust_remote_code")
_PIN = re.compile(r"([A-Za-z0-9._-]+)==(\S+)((?: --hash=sha256:[0-9a-f]{64})+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_DTYPES = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "F4": 4,
}  # fmt: skip


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
        RejectedError: rules ``content.wheels``, ``content.debs``, ``content.model``.
    """
    environments = []
    for part in manifest.parts:
        if part.type == "wheels":
            environments.append(_wheels(part, locate))
        elif part.type == "debs":
            _debs(part)
        elif part.type == "model":
            _model(part, locate)
    return tuple(environments)


def parse_requirements(text: str, path: str) -> dict[str, str]:
    """Read a closed ``requirements.txt``: every line pins one name and at least one hash.

    Returns:
        Normalised name by digest of an allowed wheel.

    Raises:
        RejectedError: rule ``content.wheels``.
    """
    found: dict[str, str] = {}
    for line in _logical_lines(text):
        match = _PIN.fullmatch(line)
        if not match:
            raise RejectedError(
                "content.wheels", f"line is not 'name==version --hash=sha256:…': {line[:120]}", path
            )
        for digest in _HASH.findall(match[3]):
            found[digest] = re.sub(r"[-_.]+", "-", match[1]).lower()
    return found


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
        name = re.sub(r"[-_.]+", "-", path.partition("-")[0]).lower()
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


def _model(part: Part, locate: Locate) -> None:
    weights = 0
    for entry in part.files:
        where = f"{part.name}/{entry.path}"
        name = entry.path.rpartition("/")[2]
        if not name.endswith(_MODEL_SUFFIXES) and not name.startswith(_MODEL_NAMES):
            raise RejectedError(
                "content.model", f"only {', '.join(_MODEL_SUFFIXES)} may be in a model", where
            )
        if name.endswith(".safetensors"):
            weights += 1
            check_safetensors(locate(entry.sha256), where)
        elif name.endswith(".json"):
            _no_code_keys(_json(entry, locate, where), where)
    if not weights:
        raise RejectedError("content.model", "no .safetensors file", part.name)


def check_safetensors(path: Path, where: str) -> None:
    """Check the header of a safetensors file: strict JSON, no gaps, overlaps or tail.

    Raises:
        RejectedError: rule ``content.model``.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise RejectedError("content.model", f"header of {length} bytes is not possible", where)
        raw = stream.read(length)
    header = load_strict(raw.rstrip(b" "), limit=MAX_HEADER_BYTES, rule="content", path=where)
    if not isinstance(header, dict):
        raise RejectedError("content.model", "header is not an object", where)
    spans = []
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        try:
            begin, end = tensor["data_offsets"]
            count = 1
            for dimension in tensor["shape"]:
                if not isinstance(dimension, int) or dimension < 0:
                    raise ValueError("shape")
                count *= dimension
            bits = count * _DTYPES[tensor["dtype"]]
            if set(tensor) != {"dtype", "shape", "data_offsets"} or (end - begin) * 8 != bits:
                raise ValueError("size")
        except (KeyError, TypeError, ValueError) as error:
            raise RejectedError(
                "content.model", f"tensor {name[:80]!r} is malformed: {error}", where
            ) from error
        spans.append((begin, end))
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            raise RejectedError("content.model", f"gap or overlap at byte {begin}", where)
        position = end
    if position != size - 8 - length:
        raise RejectedError("content.model", "bytes after the last tensor", where)


def _no_code_keys(value: object, where: str) -> None:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            for key in _CODE_KEYS:
                if key in item:
                    raise RejectedError(
                        "content.model", f"key {key!r} would make a loader run code", where
                    )
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _text(entry: FileEntry, locate: Locate, where: str) -> str:
    if entry.size > MAX_TEXT_BYTES:
        raise RejectedError("content.size", f"more than {MAX_TEXT_BYTES} bytes", where)
    try:
        return locate(entry.sha256).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RejectedError("content.wheels", f"not UTF-8: {error}", where) from error


def _json(entry: FileEntry, locate: Locate, where: str) -> object:
    # Tokenizer files are JSON with floats: only their structure is of interest here.
    if entry.size > 256 * 1024 * 1024:
        raise RejectedError("content.size", "JSON file is too large to check", where)
    try:
        return json.loads(locate(entry.sha256).read_bytes())
    except (ValueError, RecursionError) as error:
        raise RejectedError("content.model", f"not JSON: {error}", where) from error
