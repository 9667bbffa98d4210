"""Gate ``sbom``: the bill of materials lists everything that is carried, and nothing else.

CycloneDX 1.6 (JSON). Where a component lies is told by properties ``tresor:place`` with the value
``<part>/<path>``; files of a model or collection are nested in its component.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..bundle.manifest import BundleManifest
from . import purl
from .documents import Fields, load_object
from .verdict import REFUSE, RefusalError, Verdict, refusal, verdict, words
from .view import BundleView

GATE = "sbom"
FILE = "sbom.cdx.json"
PLACE = "tresor:place"
MAX_BYTES = 256 * 1024 * 1024
_MAX_DEPTH = 8
_BUILD = "Build the bundle again with the current builder"
_SHA256 = re.compile(r"[0-9a-f]{64}")
# What kind of package URL the files of a part must have; other parts may have any.
_KINDS = {
    "wheels": ("pypi",),
    "debs": ("deb",),
    "npm": ("npm",),
    "model": ("huggingface", "generic"),
}
# Files that the builder makes; they belong to the part itself, not to a package.
_INDEXES = re.compile(
    r"requirements\.txt|environment\.json|package-tree\.json|dists/site/.*|evidence/[^/]+"
)


@dataclass(frozen=True, slots=True)
class Component:
    """One package, model or application of the bill of materials.

    Attributes:
        purl: its package URL as written.
        type: CycloneDX component type.
        name: name of the package.
        version: its version.
        licences: SPDX expressions; all of them apply.
        places: ``<part>/<path>`` by SHA-256.
    """

    purl: str
    type: str
    name: str
    version: str
    licences: tuple[str, ...]
    places: dict[str, str]


def parse(raw: bytes) -> tuple[Component, ...]:
    """Read a bill of materials.

    Raises:
        RefusalError: rules ``sbom.*``.
    """
    data = load_object(raw, limit=MAX_BYTES, rule="sbom", thing=FILE)
    source = Fields(data, "sbom", FILE)
    if (data.get("bomFormat"), data.get("specVersion")) != ("CycloneDX", "1.6"):
        raise source.wrong("specVersion", data.get("specVersion"), "CycloneDX 1.6")
    return tuple(_component(item) for item in source.children("components"))


def _component(item: Fields) -> Component:
    name = item.text("name")
    item.thing = f"{FILE} component {name}"
    places: dict[str, str] = {}
    _collect(item, places, 0)
    url = item.optional("purl")
    try:
        parsed = purl.parse(url)
    except ValueError as error:
        raise RefusalError("sbom.purl", name, f"purl: {error}", _BUILD) from error
    version = item.optional("version")
    if not parsed.version or parsed.version != version:
        raise RefusalError("sbom.purl", name, f"version {version!r}, purl {url!r}", _BUILD)
    return Component(url, item.text("type"), name, version, _licences(item), places)


def _collect(item: Fields, places: dict[str, str], depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise item.wrong("components", "deeper", f"nested at most {_MAX_DEPTH} deep")
    found = [row.text("value") for row in item.children("properties") if row.text("name") == PLACE]
    if found:
        digests = [
            row.text("content") for row in item.children("hashes") if row.text("alg") == "SHA-256"
        ]
        if len(digests) != 1 or not _SHA256.fullmatch(digests[0]):
            raise item.wrong("hashes", digests, "one SHA-256")
        for place in found:
            if place in places:
                raise item.wrong(PLACE, place, "a place named once")
            places[place] = digests[0]
    for child in item.children("components"):
        if child.text("type") != "file":
            raise child.wrong("type", child.data["type"], "'file' below another component")
        _collect(child, places, depth + 1)


def _licences(item: Fields) -> tuple[str, ...]:
    found = []
    for row in item.children("licenses"):
        if "expression" in row.data:
            found.append(row.text("expression"))
        else:
            inner = row.child("license")
            found.append(inner.optional("id") or inner.text("name"))
    return tuple(found)


# Types whose content a gate looks into, or that run nothing by themselves.
_KNOWN_TYPES = words(
    """
    wheels debs npm model engine_cache binaries collections distribution roles sbom vex report
    advisories
    """
)


def gate(view: BundleView) -> Iterator[Verdict]:
    """Compare the bundle's bill of materials with its manifest."""
    for part in view.manifest.parts:
        if part.type not in _KNOWN_TYPES:
            action = "Use an importer whose gates do"
            yield verdict("sbom.type", REFUSE, part.name, f"no gate knows {part.type!r}", action)
    if view.advisory_only:
        if view.installed is None:
            yield verdict(
                "sbom.installed",
                REFUSE,
                "advisories",
                "no release is active",
                "Import a bundle first",
            )
        return
    try:
        raw = view.document("sbom", FILE, "sbom", MAX_BYTES)
        if raw is None:
            raise RefusalError("sbom.missing", FILE, "the bundle has no bill of materials", _BUILD)
        components = parse(raw)
    except RefusalError as error:
        yield refusal(error)
        return
    yield from complete(components, view.manifest)


def complete(components: tuple[Component, ...], manifest: BundleManifest) -> Iterator[Verdict]:
    """Yield what is missing from, or too much in, a bill of materials."""
    carried = {
        f"{part.name}/{entry.path}": (part.type, entry.path, entry.sha256)
        for part in manifest.parts
        if part.type not in ("sbom", "vex", "report", "advisories")
        for entry in part.files
    }
    listed: dict[str, str] = {}
    for component in components:
        for place, digest in component.places.items():
            if place in listed:
                yield verdict("sbom.twice", REFUSE, place, "listed by two components", _BUILD)
            listed[place] = digest
            if place in carried:
                yield from _fits(component, place, *carried[place][:2])
        if not component.places:
            yield verdict(
                "sbom.extra", REFUSE, component.purl, "lies nowhere in the bundle", _BUILD
            )
    for place, (_, _, digest) in carried.items():
        if place not in listed:
            yield verdict("sbom.missing", REFUSE, place, "not in the bill of materials", _BUILD)
        elif listed[place] != digest:
            yield verdict("sbom.digest", REFUSE, place, f"listed as {listed[place]}", _BUILD)
    for place in sorted(set(listed) - set(carried)):
        yield verdict("sbom.extra", REFUSE, place, "listed, but not carried", _BUILD)


def _fits(component: Component, place: str, part_type: str, path: str) -> Iterator[Verdict]:
    """A package must be listed under its own name, or its vulnerabilities would be another's."""
    kinds = _KINDS.get(part_type)
    if kinds is None or _INDEXES.fullmatch(path):
        return
    url = purl.parse(component.purl)
    wrong = url.type not in kinds or url.version != component.version
    if part_type == "wheels":
        fields = path.split("-")
        wrong |= _plain(fields[0]) != url.name or len(fields) < 2
        wrong |= not wrong and not _same(fields[1], url.version)
    elif part_type == "debs":
        fields = path.rpartition("/")[2].split("_")
        version = url.version.partition(":")[2] or url.version
        wrong |= fields[0] != url.name or fields[1:2] not in ([version], [url.version])
    elif part_type == "npm":
        name = f"{url.namespace}/{url.name}" if url.namespace else url.name
        wrong |= path != f"{name.removeprefix('@').replace('/', '-')}-{url.version}.tgz"
    elif part_type == "model":
        wrong |= component.type != "machine-learning-model"
        wrong |= not place.startswith(f"model-{component.name}/")
    if wrong:
        yield verdict("sbom.purl", REFUSE, place, f"listed as {component.purl}", _BUILD)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _same(left: str, right: str) -> bool:
    return left.replace("_", "-").replace("-", ".") == right.replace("_", "-").replace("-", ".")
