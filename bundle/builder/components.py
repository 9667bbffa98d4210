"""Components of the bill of materials: what each part carries, with licence and digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bundle.builder.blobs import BlobStore
from bundle.builder.errors import BuilderError
from bundle.builder.licence_names import from_hints
from bundle.builder.lock import PartLock
from tresor.policy import debs, models, npm, purl, sbom, wheels
from tresor.policy.verdict import RefusalError

OWN_LICENCE = "Apache-2.0"
_OWN = "tresor"
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Identity:
    """What a component is called; ``licence`` as the package states it, maybe empty."""

    url: str
    name: str
    version: str
    licence: str


@dataclass(frozen=True, slots=True)
class Source:
    """What describing a part takes.

    Attributes:
        entry: the part as it stands in the manifest.
        model: its entry among the manifest's models.
        lock: its lock, if it has one.
        store: where contents lie.
        release: id of the bundle: the version of what is made here.
        decisions: licence by package URL without version, from the spec's policy.
    """

    entry: Mapping[str, Any]
    model: Mapping[str, Any] | None
    lock: PartLock | None
    store: BlobStore
    release: str
    decisions: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the part's name."""
        return str(self.entry["name"])


def describe(source: Source) -> list[dict[str, Any]]:
    """Return the CycloneDX components of a part.

    Raises:
        BuilderError: a package cannot be read.
    """
    makers: Mapping[str, Callable[[Source, Row], dict[str, Any] | None]] = {
        "wheels": _wheel,
        "debs": _deb,
        "npm": _npm,
        "binaries": _binary,
    }
    kind = source.entry["type"]
    rows: Sequence[Row] = source.entry["files"]
    if kind == "model":
        return [_model(source, rows)]
    if kind == "collections":
        return _collections(source, rows)
    if kind == "engine_cache":
        return [_cache(source, rows)]
    if kind == "distribution":
        return [_own(source, rows, "application", _OWN)]
    found: list[dict[str, Any]] = []
    made: list[Row] = []
    for row in rows:
        try:
            component = makers[kind](source, row)
        except RefusalError as error:
            raise BuilderError(
                f"{error.thing}: {error.seen} ({error.rule}). {error.action}"
            ) from error
        if component is None:
            made.append(row)
        else:
            found.append(component)
    if made:
        found.append(_own(source, made, "data", f"{source.name}-index"))
    return found


def _described(source: Source, identity: Identity) -> dict[str, Any]:
    decided = source.decisions.get(identity.url.partition("@")[0], identity.licence)
    return {
        "name": identity.name,
        "version": identity.version,
        "purl": identity.url,
        "licenses": [{"expression": decided}] if decided else [],
    }


def _package(source: Source, row: Row, identity: Identity) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": f"{source.name}/{row['path']}",
        **_described(source, identity),
        "hashes": _hashes(row),
        "properties": [_place(source, row)],
    }


def _hashes(row: Row) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": row["sha256"]}]


def _place(source: Source, row: Row) -> dict[str, str]:
    return {"name": sbom.PLACE, "value": f"{source.name}/{row['path']}"}


def _wheel(source: Source, row: Row) -> dict[str, Any] | None:
    if not row["path"].endswith(".whl"):
        return None
    with source.store.path(row["sha256"]).open("rb") as stream:
        facts = wheels.inspect(stream, row["path"])
    url = purl.make("pypi", facts.name, facts.version)
    licence = from_hints(facts.licence, facts.licence_hints)
    return _package(source, row, Identity(url, facts.name, facts.version, licence))


def _deb(source: Source, row: Row) -> dict[str, Any] | None:
    if not row["path"].startswith("pool/"):
        return None
    with source.store.path(row["sha256"]).open("rb") as stream:
        facts = debs.inspect(stream, row["size"], row["path"])
    file = row["path"].removeprefix("pool/")
    locked = [item for item in source.lock.files if item.file == file] if source.lock else []
    origin = str(locked[0].extra.get("source", "debian")) if locked else "unknown"
    url = purl.make("deb", facts.name, facts.version, namespace=origin, arch=facts.architecture)
    # Debian's archive reviewed what it carries in main; contrib and non-free say so in the section.
    main = origin == "debian" and "/" not in facts.section
    told = str(locked[0].extra.get("licence", "")) if locked else ""
    licence = "LicenseRef-Debian-main" if main else told
    return _package(source, row, Identity(url, facts.name, facts.version, licence))


def _npm(source: Source, row: Row) -> dict[str, Any] | None:
    if not row["path"].endswith(".tgz"):
        return None
    with source.store.path(row["sha256"]).open("rb") as stream:
        facts = npm.inspect(stream, row["path"])
    namespace, _, name = facts.name.rpartition("/")
    url = purl.make("npm", name, facts.version, namespace=namespace)
    licence = from_hints(facts.licence, ())
    return _package(source, row, Identity(url, facts.name, facts.version, licence))


def _binary(source: Source, row: Row) -> dict[str, Any]:
    locked = [item for item in source.lock.files if item.file == row["path"]] if source.lock else []
    if not locked:
        raise BuilderError(f"{source.name}/{row['path']} is not in the part's lock")
    url = purl.make("generic", locked[0].name, locked[0].version)
    licence = str(locked[0].extra.get("licence", ""))
    return _package(source, row, Identity(url, locked[0].name, locked[0].version, licence))


def _files(source: Source, rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [
        {
            "type": "file",
            "bom-ref": f"{source.name}/{row['path']}",
            "name": row["path"],
            "hashes": _hashes(row),
            "properties": [_place(source, row)],
        }
        for row in rows
    ]


def _owner(source: Source, rows: Sequence[Row], kind: str, identity: Identity) -> dict[str, Any]:
    return {
        "type": kind,
        "bom-ref": identity.url,
        **_described(source, identity),
        "components": _files(source, rows),
    }


def _own(source: Source, rows: Sequence[Row], kind: str, name: str) -> dict[str, Any]:
    namespace = "" if name == _OWN else _OWN
    url = purl.make("generic", name, source.release, namespace=namespace)
    return _owner(source, rows, kind, Identity(url, name, source.release, OWN_LICENCE))


def _cache(source: Source, rows: Sequence[Row]) -> dict[str, Any]:
    """Describe compiled kernels: code of several projects, so a person decides the licence."""
    (record,) = [row for row in rows if row["path"] == "cache.json"]
    version = str(record["sha256"])[:16]
    url = purl.make("generic", source.name, version, namespace="engine-cache")
    return _owner(source, rows, "data", Identity(url, source.name, version, OWN_LICENCE))


def _collections(source: Source, rows: Sequence[Row]) -> list[dict[str, Any]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault("/".join(row["path"].split("/")[:3]), []).append(row)
    found = []
    for folder, members in sorted(groups.items()):
        (manifest,) = [row for row in members if row["path"] == f"{folder}/MANIFEST.json"]
        raw = source.store.path(manifest["sha256"]).read_bytes()
        info = json.loads(raw)["collection_info"]
        name = f"{info['namespace']}.{info['name']}"
        url = purl.make("generic", name, info["version"], namespace="ansible-collection")
        # A collection lists every licence of its files: all apply.
        licence = " AND ".join(dict.fromkeys(info.get("license") or []))
        found.append(
            _owner(source, members, "library", Identity(url, name, info["version"], licence))
        )
    return found


def _model(source: Source, rows: Sequence[Row]) -> dict[str, Any]:
    model = source.model or {}
    name, revision = str(model["name"]), str(model["revision"])
    repository = _repository(source.lock)
    namespace, _, bare = repository.rpartition("/")
    url = (
        purl.make("huggingface", bare, revision, namespace=namespace)
        if repository
        else purl.make("generic", name, revision)
    )
    identity = Identity(url, name, revision, str(model["license"]))
    component = _owner(source, rows, "machine-learning-model", identity)
    config = [row for row in rows if row["path"] == "config.json"]
    raw = source.store.path(config[0]["sha256"]).read_bytes() if config else b"{}"
    architecture, family = models.describe(raw)
    parameters = {"architectureFamily": family, "modelArchitecture": architecture}
    component["modelCard"] = {
        "modelParameters": {key: value for key, value in parameters.items() if value}
    }
    component["properties"] = [
        {"name": f"tresor:{key}", "value": str(model[key])}
        for key in ("format", "template_sha256")
        if key in model
    ]
    return component


def _repository(lock: PartLock | None) -> str:
    """Return ``<owner>/<name>`` of a model that came from a hub's snapshot."""
    place = str(lock.files[0].extra.get("path", "")).split("/") if lock and lock.files else [""]
    if place[0].startswith("models--"):
        return "/".join(place[0].split("--")[1:3])
    return "/".join(place[:2])


def key(source: Source, code: str) -> str:
    """Return what the description of a part depends on, as a digest."""
    value = [
        dict(source.entry),
        dict(source.model or {}),
        source.lock.digest() if source.lock else "",
        source.release if source.entry["type"] not in ("model", "collections") else "",
        sorted(source.decisions.items()),
        code,
    ]
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
