"""What a waiting bundle would change against the running release, in words for two approvers."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import gates
from .errors import printable
from .manifest import BundleManifest, FileEntry, ModelEntry, Part

Locate = Callable[[str], Path]
_DEB = re.compile(r"([a-z0-9][a-z0-9+.-]+)_([^_]+)_[a-z0-9-]+\.deb")
_WHEEL = re.compile(r"([A-Za-z0-9_.]+)-([^-]+)(-[^-]+)?-[^-]+-[^-]+-[^-]+\.whl")
_NPM = re.compile(r"(.+?)-(\d+\.\d+\.\d+[^/]*)\.tgz")
_FORMS = {"debs": _DEB, "wheels": _WHEEL, "npm": _NPM}
_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")
_MAX_TEMPLATE_BYTES = 4 * 1024 * 1024
_MAX_DIFF_LINES = 400


@dataclass(frozen=True, slots=True)
class Change:
    """One package, file or property: what it was and what it would be; empty is absent."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class PartChange:
    """One part: its size in bytes before and after, and what changes inside."""

    name: str
    type: str
    before_bytes: int
    after_bytes: int
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class ModelChange:
    """One model: its properties, and the lines of its prompt template that differ."""

    name: str
    changes: tuple[Change, ...]
    template_diff: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """Everything the approvers are shown."""

    bundle_sha256: str
    id: str
    serial: int
    created: str
    expires: str
    running: str
    released_by: tuple[str, ...]
    single_key: bool
    new_bytes: int
    total_bytes: int
    parts: tuple[PartChange, ...]
    models: tuple[ModelChange, ...]
    new_licences: tuple[str, ...]
    verdicts: tuple[gates.Verdict, ...] = field(default=())
    advisory: bool = False


def compare(
    running: BundleManifest | None,
    waiting: BundleManifest,
    locate: Locate,
    verdicts: Sequence[gates.Verdict],
    *,
    released_by: tuple[str, ...],
    single_key: bool,
) -> Difference:
    """Compare two verified manifests; ``locate`` finds contents of both in the store.

    Advisories replace nothing: they are shown for what they are, with the verdicts on what runs.
    """
    replaced = running.id if running else ""
    if waiting.advisory_only:
        running = None
    old_parts = {part.name: part for part in running.parts} if running else {}
    new_parts = {part.name: part for part in waiting.parts}
    parts = []
    for name in sorted({*old_parts, *new_parts}):
        change = _part(old_parts.get(name), new_parts.get(name))
        if change is not None:
            parts.append(change)
    old_blobs = running.blobs() if running else {}
    return Difference(
        bundle_sha256=waiting.digest,
        id=waiting.id,
        serial=waiting.serial,
        created=f"{waiting.created:%Y-%m-%d}",
        expires=f"{waiting.expires:%Y-%m-%d}",
        running=replaced,
        released_by=released_by,
        single_key=single_key,
        new_bytes=sum(
            entry.size for digest, entry in waiting.blobs().items() if digest not in old_blobs
        ),
        total_bytes=waiting.total_bytes(),
        parts=tuple(parts),
        models=tuple(_models(running, waiting, locate)),
        new_licences=tuple(sorted(_licences(waiting) - (_licences(running) if running else set()))),
        verdicts=tuple(_gravest_first(verdicts)),
        advisory=waiting.advisory_only,
    )


def _gravest_first(verdicts: Sequence[gates.Verdict]) -> list[gates.Verdict]:
    """Leave out what only says that a gate ended; an unknown severity counts as a refusal."""
    order = {gates.RED: 1, gates.NOTE: 2}
    told = [item for item in verdicts if item.severity != gates.PASS]
    return sorted(told, key=lambda item: order.get(item.severity, 0))


def _part(old: Part | None, new: Part | None) -> PartChange | None:
    present = new or old
    if present is None or (old and new and old.files == new.files):
        return None
    before, after = _names(old), _names(new)
    changes = tuple(
        Change(name, before.get(name, ""), after.get(name, ""))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    )
    return PartChange(present.name, present.type, _bytes(old), _bytes(new), changes)


def _bytes(part: Part | None) -> int:
    return sum(entry.size for entry in part.files) if part else 0


def _names(part: Part | None) -> dict[str, str]:
    """Return version by package, or short digest by path where files are no packages."""
    if part is None:
        return {}
    found: dict[str, str] = {}
    form = _FORMS.get(part.type)
    for entry in part.files:
        name = entry.path.rpartition("/")[2]
        match = form.fullmatch(name) if form else None
        if match:
            key = match[1].replace("_", "-").lower() if part.type == "wheels" else match[1]
            version = match[2]
            found[key] = f"{found[key]}, {version}" if key in found else version
            found[key] += _rebuilt(entry)
        else:
            found[entry.path] = f"sha256 {entry.sha256[:12]}"
    return found


def _rebuilt(entry: FileEntry) -> str:
    """Tell two builds of one version apart: the same version with other bytes is a change."""
    return f" ({entry.sha256[:8]})"


def _models(
    running: BundleManifest | None, waiting: BundleManifest, locate: Locate
) -> list[ModelChange]:
    old = {model.name: model for model in running.models} if running else {}
    new = {model.name: model for model in waiting.models}
    found = []
    for name in sorted({*old, *new}):
        changes = tuple(_properties(old.get(name), new.get(name)))
        before = _template(running, name, locate) if name in old else ""
        after = _template(waiting, name, locate) if name in new else ""
        lines: tuple[str, ...] = ()
        if before != after:
            lines = _lines(before, after)
        if changes or lines:
            found.append(ModelChange(name, changes, lines))
    return found


def _properties(old: ModelEntry | None, new: ModelEntry | None) -> list[Change]:
    found = []
    for key in ("revision", "format", "license", "template_sha256"):
        before = str(getattr(old, key)) if old else ""
        after = str(getattr(new, key)) if new else ""
        if before != after:
            found.append(Change(key, printable(before), printable(after)))
    return found


def _template(manifest: BundleManifest | None, model: str, locate: Locate) -> str:
    """Return the text that becomes part of every prompt, empty if the model has none."""
    parts = [part for part in manifest.parts if part.name == f"model-{model}"] if manifest else []
    files: Mapping[str, FileEntry] = {entry.path: entry for part in parts for entry in part.files}
    texts = []
    for name in _TEMPLATE_FILES:
        entry = files.get(name)
        if entry is None or entry.size > _MAX_TEMPLATE_BYTES:
            continue
        try:
            text = locate(entry.sha256).read_text(encoding="utf-8")
            if name.endswith(".json"):
                found = json.loads(text)
                value = found.get("chat_template", "") if isinstance(found, dict) else ""
                text = value if isinstance(value, str) else json.dumps(value, indent=1)
        except (OSError, ValueError, RecursionError):
            text = f"(cannot be read: {name})"
        if text:
            texts.append(text)
    return "\n".join(texts)


def _lines(before: str, after: str) -> tuple[str, ...]:
    diff = difflib.unified_diff(
        before.split("\n"), after.split("\n"), "running", "waiting", lineterm="", n=2
    )
    lines = [printable(line) for line in diff]
    if len(lines) > _MAX_DIFF_LINES:
        more = len(lines) - _MAX_DIFF_LINES
        lines = [*lines[:_MAX_DIFF_LINES], f"({more} more lines: compare the files themselves)"]
    return tuple(lines)


def _licences(manifest: BundleManifest) -> set[str]:
    of_files = {name for part in manifest.parts for entry in part.files for name in entry.licenses}
    return {printable(name) for name in of_files | {model.license for model in manifest.models}}
