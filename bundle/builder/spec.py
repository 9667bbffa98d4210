"""Read ``bundle/spec``: YAML, one file per concern, checked against ``spec.schema.json``.

A file below ``spec/lab/`` holds lab-only parts, one below ``spec/production/`` what only sites with
GPUs and vendors' packages carry; everything else is in every bundle. A part names what is wanted;
what it resolves to is the lock's business.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from bundle.builder.errors import SpecError

# The same safe loader, in C where PyYAML was built with it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
BUILD_TYPE = "build-environment"  # used while building, never carried
SCOPES: Mapping[str, tuple[str, ...]] = {
    "product": ("product",),
    "lab": ("product", "lab"),
    "production": ("product", "production"),
}
"""Which parts a build of each scope carries."""


@dataclass(frozen=True, slots=True)
class PartSpec:
    """One entry of the spec; ``want`` is the entry as written, checked by the schema."""

    name: str
    type: str
    scope: str
    want: Mapping[str, Any]
    source: Path

    @property
    def manifest_scope(self) -> str:
        """Return the scope an importer sees: it only tells lab parts from all others."""
        return "lab" if self.scope == "lab" else "product"

    @property
    def carried(self) -> bool:
        """Tell whether the part travels in the bundle."""
        return self.type != BUILD_TYPE


@dataclass(frozen=True, slots=True)
class Spec:
    """The whole spec: what the bundle is for, and its parts sorted by name."""

    audience: Mapping[str, Any]
    valid_days: int
    parts: tuple[PartSpec, ...]
    policies: tuple[tuple[str, Mapping[str, Any]], ...] = ()

    def policy(self, scopes: tuple[str, ...]) -> dict[str, list[Mapping[str, Any]]]:
        """Return what the people behind the spec declared for a build of these scopes."""
        merged: dict[str, list[Mapping[str, Any]]] = {}
        for scope, policy in self.policies:
            if scope in scopes:
                for key, rows in policy.items():
                    merged.setdefault(key, []).extend(rows)
        return merged

    def part(self, name: str) -> PartSpec:
        """Return the part called ``name``.

        Raises:
            SpecError: there is none.
        """
        for part in self.parts:
            if part.name == name:
                return part
        raise SpecError(
            f"there is no part {name!r} in the spec; parts are "
            + ", ".join(part.name for part in self.parts)
        )


def inputs_digest(value: object) -> str:
    """Return ``sha256:<hex>`` of a JSON value, independent of the order of keys."""
    raw = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return "sha256:" + hashlib.sha256(raw).hexdigest()


@functools.cache
def _validator(path: Path) -> jsonschema.Draft202012Validator:
    schema = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def validate(value: object, schema: Path) -> str | None:
    """Return the most telling violation of ``schema`` as ``key: value seen, rule``, or None."""
    errors = list(_validator(schema).iter_errors(value))
    if not errors:
        return None
    error = jsonschema.exceptions.best_match(errors)
    where = error.json_path.removeprefix("$").removeprefix(".") or "(top level)"
    return f"{where}: {error.message[:300]}"


def load_spec(folder: Path, schema: Path) -> Spec:
    """Read all ``*.yml`` of ``folder``, ``folder/lab`` and ``folder/production``.

    Raises:
        SpecError: unreadable file, unknown key, a name twice, or no ``bundle`` entry.
    """
    bundle: Mapping[str, Any] | None = None
    parts: dict[str, PartSpec] = {}
    policies: list[tuple[str, Mapping[str, Any]]] = []
    files = [(path, "product") for path in sorted(folder.glob("*.yml"))]
    for scope in ("lab", "production"):
        files += [(path, scope) for path in sorted(folder.glob(f"{scope}/*.yml"))]
    if not files:
        raise SpecError(f"{folder} has no *.yml file: give the folder of the spec with --spec")
    for path, scope in files:
        data = _read(path, schema)
        if "bundle" in data:
            if bundle is not None or scope != "product":
                raise SpecError(f"{path}: 'bundle' may appear once, and only in the product part")
            bundle = data["bundle"]
        if "policy" in data:
            policies.append((scope, data["policy"]))
        for entry in data.get("parts", []):
            name = entry["name"]
            if name in parts:
                raise SpecError(f"{path}: part {name!r} is already in {parts[name].source}")
            parts[name] = PartSpec(name, entry["type"], scope, entry, path)
    if bundle is None:
        raise SpecError(f"{folder}: no file has the top-level key 'bundle' (audience, valid_days)")
    ordered = tuple(parts[name] for name in sorted(parts))
    return Spec(bundle["audience"], bundle["valid_days"], ordered, tuple(policies))


def _read(path: Path, schema: Path) -> Mapping[str, Any]:
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read as YAML: {error}") from error
    wrong = validate(data, schema)
    if wrong:
        raise SpecError(f"{path}: {wrong}")
    result: Mapping[str, Any] = data
    return result
