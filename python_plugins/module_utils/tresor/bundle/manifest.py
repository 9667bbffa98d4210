"""``bundle.json``: strict reading into frozen values.

The raw bytes are what is hashed and signed; this parser runs only on bytes whose digest the
signed metadata vouches for, and still trusts nothing: every key, type and limit is checked.
The JSON Schema of the same file is ``schema/bundle.schema.json``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from .canonical import dump_canonical, load_strict, sha256_hex
from .errors import RejectedError
from .paths import check_path, check_unique

__all__ = [
    "PART_TYPES",
    "SCOPES",
    "Audience",
    "BundleManifest",
    "FileEntry",
    "ModelEntry",
    "Part",
    "dump_canonical",
    "model_digest",
    "parse_manifest",
]

MAX_MANIFEST_BYTES = 64 * 1024 * 1024
MAX_PARTS = 1_000
MAX_FILES = 500_000
MAX_FILE_BYTES = 2**43  # 8 TiB
MAX_SHARDS = 8_192
SCOPES = ("product", "lab")
PART_TYPES = (
    "wheels",
    "debs",
    "rpms",
    "npm",
    "binaries",
    "model",
    "engine_cache",
    "collections",
    "distribution",
    "roles",
    "sbom",
    "vex",
    "report",
    "advisories",
)

_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._+-]{0,99}")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")
_GLIBC = re.compile(r"(>=)?\d{1,3}\.\d{1,3}")
_REVISION = re.compile(r"[0-9A-Za-z._+-]{1,64}")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a part; ``size`` in bytes, ``sha256`` as 64 hex digits."""

    path: str
    size: int
    sha256: str
    shard_size: int = 0
    shards: tuple[str, ...] = ()
    licenses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """Files that belong together: an environment's wheels, a model, a package pool."""

    name: str
    type: str
    scope: str
    files: tuple[FileEntry, ...]


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """What is known of a model beside its files."""

    name: str
    revision: str
    format: str
    license: str
    template_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Audience:
    """For whom the bundle was made; ``site`` is a name or ``*``.

    ``glibc`` is the lowest version that will do, ``python`` the versions of the system's Python
    (as ``3.13``); None and empty stand for any.
    """

    site: str
    arch: tuple[str, ...]
    os: tuple[str, ...]
    glibc: tuple[int, int] | None = None
    python: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BundleManifest:
    """A verified, parsed ``bundle.json``; ``digest`` is the SHA-256 of its raw bytes."""

    digest: str
    id: str
    serial: int
    created: datetime
    expires: datetime
    audience: Audience
    base_digest: str | None
    parts: tuple[Part, ...]
    models: tuple[ModelEntry, ...]

    @property
    def scopes(self) -> frozenset[str]:
        """Return the scopes of all parts."""
        return frozenset(part.scope for part in self.parts)

    @property
    def advisory_only(self) -> bool:
        """Tell whether the bundle carries only news about what is installed."""
        types = {part.type for part in self.parts}
        return "advisories" in types and types <= {"advisories", "vex"}

    def blobs(self) -> dict[str, FileEntry]:
        """Return every distinct content once, by digest, in the order of the manifest."""
        found: dict[str, FileEntry] = {}
        for part in self.parts:
            for entry in part.files:
                found.setdefault(entry.sha256, entry)
        return found

    def total_bytes(self) -> int:
        """Return the bytes of all distinct contents."""
        return sum(entry.size for entry in self.blobs().values())


def model_digest(files: tuple[FileEntry, ...]) -> str:
    """Return ``sha256:<hex>`` over the canonical list of a model's files, sorted by path."""
    listing = [
        {"path": entry.path, "size": entry.size, "sha256": entry.sha256}
        for entry in sorted(files, key=lambda entry: entry.path)
    ]
    return "sha256:" + sha256_hex(dump_canonical(listing))


def parse_manifest(raw: bytes) -> BundleManifest:
    """Parse the raw bytes of ``bundle.json``.

    Raises:
        RejectedError: rules ``manifest.*``; ``path`` names the field or file.
    """
    data = load_strict(raw, limit=MAX_MANIFEST_BYTES, rule="manifest", path="bundle.json")
    if not isinstance(data, dict):
        raise RejectedError("manifest.type", "must be an object", "$")
    if data.get("schema") != "bundle/v1":
        raise RejectedError(
            "manifest.schema",
            f"schema is {data.get('schema')!r}, this importer reads 'bundle/v1'",
            "$.schema",
        )
    if dump_canonical(data) != raw:
        raise RejectedError(
            "manifest.canonical", "bytes are not in canonical form (sorted, no spaces)", "$"
        )
    top = _Fields(data, "$")
    top.text("schema", _NAME_OR_SCHEMA)
    parts = _parts(top)
    manifest = BundleManifest(
        digest=sha256_hex(raw),
        id=top.text("id", _ID),
        serial=top.integer("serial", 1, 2**53 - 1),
        created=top.time("created"),
        expires=top.time("expires"),
        audience=_audience(top.child("audience")),
        base_digest=_base(top),
        parts=parts,
        models=_models(top, {part.name for part in parts}),
    )
    top.free("policy")
    top.done()
    if manifest.expires <= manifest.created:
        raise RejectedError("manifest.time", "expires is not after created", "$.expires")
    return manifest


_NAME_OR_SCHEMA = re.compile(r"bundle/v1")


class _Fields:
    """Reads the keys of one object; what nobody asked for is an error in :meth:`done`."""

    def __init__(self, data: object, where: str) -> None:
        if not isinstance(data, dict):
            raise RejectedError("manifest.type", "must be an object", where)
        self.data: dict[str, object] = data
        self.where = where
        self.seen: set[str] = set()

    def _get(self, key: str) -> object:
        self.seen.add(key)
        if key not in self.data:
            raise RejectedError("manifest.missing", "required key is absent", f"{self.where}.{key}")
        return self.data[key]

    def _wrong(self, key: str, want: str) -> RejectedError:
        seen = repr(self.data.get(key))[:80]
        return RejectedError("manifest.value", f"{seen} is not {want}", f"{self.where}.{key}")

    def has(self, key: str) -> bool:
        self.seen.add(key)
        return self.data.get(key) is not None

    def free(self, key: str) -> None:
        """Accept an optional object that this importer does not judge."""
        if self.has(key) and not isinstance(self.data[key], dict):
            raise self._wrong(key, "an object")

    def text(self, key: str, pattern: re.Pattern[str]) -> str:
        value = self._get(key)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise self._wrong(key, f"text of the form {pattern.pattern}")
        return value

    def any_text(self, key: str, limit: int = 200) -> str:
        value = self._get(key)
        if not isinstance(value, str) or not 1 <= len(value) <= limit:
            raise self._wrong(key, f"text of 1 to {limit} characters")
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        value = self._get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._wrong(key, f"an integer from {low} to {high}")
        return value

    def choice(self, key: str, allowed: tuple[str, ...]) -> str:
        value = self._get(key)
        if value not in allowed:
            raise self._wrong(key, "one of " + ", ".join(allowed))
        return str(value)

    def time(self, key: str) -> datetime:
        value = self._get(key)
        if isinstance(value, str) and _TIME.fullmatch(value):
            try:
                return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
            except ValueError:
                pass
        raise self._wrong(key, "a UTC time of the form 2026-11-23T12:00:00Z")

    def child(self, key: str) -> _Fields:
        return _Fields(self._get(key), f"{self.where}.{key}")

    def items(self, key: str, low: int, high: int) -> list[object]:
        value = self._get(key)
        if not isinstance(value, list) or not low <= len(value) <= high:
            raise self._wrong(key, f"a list of {low} to {high} items")
        return value

    def texts(self, key: str, low: int = 0) -> tuple[str, ...]:
        found = []
        for value in self.items(key, low, MAX_SHARDS):
            if not isinstance(value, str) or not 1 <= len(value) <= 100:
                raise self._wrong(key, "a list of short texts")
            found.append(value)
        return tuple(found)

    def done(self) -> None:
        unknown = sorted(set(self.data) - self.seen)
        if unknown:
            raise RejectedError(
                "manifest.unknown", f"unknown key {unknown[0]!r}", f"{self.where}.{unknown[0]}"
            )


def _audience(fields: _Fields) -> Audience:
    site = fields.any_text("site", 100)
    glibc = None
    if fields.has("glibc"):
        words = fields.text("glibc", _GLIBC).removeprefix(">=").split(".")
        glibc = (int(words[0]), int(words[1]))
    python = fields.texts("python") if fields.has("python") else ()
    audience = Audience(site, fields.texts("arch", 1), fields.texts("os", 1), glibc, python)
    fields.done()
    return audience


def _base(top: _Fields) -> str | None:
    if not top.has("base"):
        return None
    base = top.child("base")
    base.text("id", _ID)
    digest = base.text("digest", re.compile(r"sha256:[0-9a-f]{64}"))
    base.done()
    return digest.removeprefix("sha256:")


def _parts(top: _Fields) -> tuple[Part, ...]:
    parts: list[Part] = []
    sizes: dict[str, int] = {}
    count = 0
    for index, item in enumerate(top.items("parts", 1, MAX_PARTS)):
        fields = _Fields(item, f"$.parts[{index}]")
        name = check_path(fields.text("name", _NAME))
        for key in ("lock", "sbom"):
            if fields.has(key):
                fields.text(key, re.compile(r"sha256:[0-9a-f]{64}"))
        entries = [
            _file(_Fields(entry, f"{fields.where}.files[{number}]"))
            for number, entry in enumerate(fields.items("files", 1, MAX_FILES))
        ]
        count += len(entries)
        part_type = fields.choice("type", PART_TYPES)
        parts.append(Part(name, part_type, fields.choice("scope", SCOPES), tuple(entries)))
        fields.done()
        check_unique([entry.path for entry in entries])
        for entry in entries:
            if sizes.setdefault(entry.sha256, entry.size) != entry.size:
                raise RejectedError(
                    "manifest.size-conflict", f"one digest, two sizes: {entry.sha256}", entry.path
                )
    if count > MAX_FILES:
        raise RejectedError("manifest.count", f"{count} files, at most {MAX_FILES}", "$.parts")
    names = [part.name for part in parts]
    check_unique(names)
    if names != sorted(names):
        raise RejectedError("manifest.order", "parts are not sorted by name", "$.parts")
    return tuple(parts)


def _file(fields: _Fields) -> FileEntry:
    path = fields.any_text("path", 400)
    check_path(path)
    size = fields.integer("size", 0, MAX_FILE_BYTES)
    sha256 = fields.text("sha256", _SHA256)
    shard_size = 0
    shards: tuple[str, ...] = ()
    if fields.has("shards"):
        child = fields.child("shards")
        shard_size = child.integer("size", 1024, 2**40)
        shards = child.texts("sha256", 1)
        child.done()
        if not all(_SHA256.fullmatch(shard) for shard in shards):
            raise RejectedError("manifest.value", "shard digest is not SHA-256", path)
        if len(shards) != -(-size // shard_size):
            raise RejectedError("manifest.value", "number of shards does not fit the size", path)
    licenses = fields.texts("licenses") if fields.has("licenses") else ()
    if fields.has("origin"):
        fields.any_text("origin", 300)
    fields.done()
    return FileEntry(path, size, sha256, shard_size, shards, licenses)


def _models(top: _Fields, parts: set[str]) -> tuple[ModelEntry, ...]:
    if not top.has("models"):
        return ()
    models: list[ModelEntry] = []
    for index, item in enumerate(top.items("models", 0, 1_000)):
        fields = _Fields(item, f"$.models[{index}]")
        name = fields.text("name", _NAME)
        if f"model-{name}" not in parts:
            raise RejectedError("manifest.value", f"there is no part 'model-{name}'", fields.where)
        model = ModelEntry(
            name,
            fields.text("revision", _REVISION),
            fields.choice("format", ("safetensors", "gguf")),
            fields.any_text("license"),
            fields.text("template_sha256", _SHA256) if fields.has("template_sha256") else "",
        )
        if fields.has("signature"):
            fields.any_text("signature")
        fields.done()
        models.append(model)
    check_unique([model.name for model in models])
    return tuple(models)
