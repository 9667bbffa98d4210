"""``cache.json``: what a cache fits, and the list of its files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..bundle.canonical import dump_canonical, load_strict
from ..bundle.errors import RejectedError
from .layout import fault

RECORD_FILE = "cache.json"
ARCHIVE_FILE = "cache.tar"
SCHEMA = "engine-cache/v1"
MAX_RECORD_BYTES = 64 * 1024 * 1024
MAX_FILES = 200_000
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TEXTS = {
    "environment": re.compile(r"[a-z0-9][a-z0-9-]{0,60}"),
    "requirements_sha256": _SHA256,
    "gpu": re.compile(r"[0-9A-Za-z][0-9A-Za-z ._/+-]{0,60}"),
    "capability": re.compile(r"[0-9]{1,2}\.[0-9]"),
    "driver": re.compile(r"[0-9]{3,4}(\.[0-9]{1,4}){1,3}"),
    "model": re.compile(r"[a-z0-9][a-z0-9._-]{0,99}"),
    "model_digest": re.compile(r"sha256:[0-9a-f]{64}"),
    "engine_sha256": _SHA256,
}


@dataclass(frozen=True, slots=True)
class Fits:
    """What a cache was made with; it is used only where all of it is the same.

    ``gpu`` is the type as the site's plan writes it, ``capability`` its compute capability,
    ``driver`` the exact version, ``requirements_sha256`` the digest of the environment,
    ``engine_sha256`` that of :func:`engine_digest`.
    """

    environment: str
    requirements_sha256: str
    gpu: str
    capability: str
    driver: str
    model: str
    model_digest: str
    engine_sha256: str

    def as_json(self) -> dict[str, str]:
        """Return the values by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class CacheFile:
    """One file; ``size`` in bytes."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Record:
    """A parsed ``cache.json``; its files are sorted by path."""

    fits: Fits
    files: tuple[CacheFile, ...]

    def dump(self) -> bytes:
        """Return the bytes of ``cache.json``."""
        files = [asdict(entry) for entry in self.files]
        return dump_canonical({"schema": SCHEMA, "fits": self.fits.as_json(), "files": files})


def engine_digest(instance: Mapping[str, Any]) -> str:
    """Return the digest of what an instance of the plan compiles for.

    The GPUs that it runs on are not part of it, nor names, ports and the folder of the model.
    """
    lora = [int(adapter["rank"]) for adapter in instance.get("lora") or []]
    speculative = instance.get("speculative") or {}
    env = {key: str(value) for key, value in (instance.get("env") or {}).items()}
    env.pop("CUDA_VISIBLE_DEVICES", None)
    value = {
        "args": dict(instance.get("args") or {}),
        "env": env,
        "lora": sorted(lora),
        "speculative": {
            key: speculative[key] for key in ("method", "tokens") if key in speculative
        },
        "task": instance["task"],
    }
    raw = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(raw.encode()).hexdigest()


def fits_of(value: object) -> Fits:
    """Check the values of ``fits``.

    Raises:
        RejectedError: rule ``cache.record``.
    """
    if not isinstance(value, dict) or set(value) != set(_TEXTS):
        raise RejectedError("cache.record", f"fits needs {', '.join(sorted(_TEXTS))}", RECORD_FILE)
    for key, pattern in _TEXTS.items():
        if not isinstance(value[key], str) or not pattern.fullmatch(value[key]):
            seen = repr(value[key])[:80]
            raise RejectedError(
                "cache.record", f"{key} is {seen}, not of the right form", RECORD_FILE
            )
    return Fits(**value)


def parse(raw: bytes) -> Record:
    """Read ``cache.json``.

    Raises:
        RejectedError: rules ``cache.record``, ``cache.path``.
    """
    data = load_strict(raw, limit=MAX_RECORD_BYTES, rule="cache.record", path=RECORD_FILE)
    if not isinstance(data, dict) or set(data) != {"schema", "fits", "files"}:
        raise RejectedError("cache.record", "needs schema, fits and files only", RECORD_FILE)
    if data["schema"] != SCHEMA:
        raise RejectedError("cache.record", f"schema is not {SCHEMA!r}", RECORD_FILE)
    rows = data["files"]
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_FILES:
        raise RejectedError("cache.record", f"needs 1 to {MAX_FILES} files", RECORD_FILE)
    files = tuple(_file(row) for row in rows)
    paths = [entry.path for entry in files]
    if paths != sorted(set(paths)):
        raise RejectedError("cache.record", "files are not sorted by path, or twice", RECORD_FILE)
    known = set(paths)
    for path in paths:
        parts = path.split("/")
        for depth in range(1, len(parts)):
            if "/".join(parts[:depth]) in known:
                raise RejectedError("cache.path", "lies below a file", path)
    return Record(fits_of(data["fits"]), files)


def _file(row: object) -> CacheFile:
    if not isinstance(row, dict) or set(row) != {"path", "size", "sha256"}:
        raise RejectedError("cache.record", "a file needs path, size and sha256", RECORD_FILE)
    path, size, digest = row["path"], row["size"], row["sha256"]
    if not isinstance(path, str) or not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise RejectedError("cache.record", "path or size has the wrong type", RECORD_FILE)
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise RejectedError("cache.record", "sha256 is not 64 hex digits", path)
    wrong = fault(path)
    if wrong:
        raise RejectedError("cache.path", wrong, ascii(path)[1:-1])
    return CacheFile(path, size, digest)
