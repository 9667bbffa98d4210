"""Advisories (OSV records) and which carried packages they concern."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from . import purl, versions
from .documents import Fields, load_object
from .sbom import Component
from .verdict import RefusalError
from .view import BundleView

FILE = "advisories.json"
MAX_BYTES = 512 * 1024 * 1024
_RULE = "vulnerabilities"
_ACTION = "Build the advisory bundle again for the bill of materials that is installed"
_ECOSYSTEMS = {"PyPI": "pypi", "npm": "npm", "Debian": "deb"}
_KEYS: Mapping[str, versions.Key] = {
    "pypi": versions.pypi,
    "npm": versions.npm,
    "deb": versions.deb,
}
_WORDS = {
    "CRITICAL": "critical",
    "HIGH": "high",
    "MODERATE": "medium",
    "MEDIUM": "medium",
    "LOW": "low",
}
_SCORE = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class News:
    """The content of an advisory bundle: records, their date, and the packages looked at."""

    date: datetime
    audited: frozenset[str]
    records: tuple[Mapping[str, object], ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """A record that concerns a package."""

    id: str
    purl: str
    severity: str
    fixed: str
    exploited: bool
    published: datetime


def read(view: BundleView, sbom_sha256: str) -> News:
    """Return the advisories of an advisory bundle.

    Raises:
        RefusalError: absent, malformed, or made for another bill of materials.
    """
    raw = view.document("advisories", FILE, _RULE, MAX_BYTES)
    if raw is None:
        raise RefusalError(f"{_RULE}.missing", FILE, "absent", _ACTION)
    data = load_object(raw, limit=MAX_BYTES, rule=_RULE, thing=FILE, action=_ACTION)
    source = Fields(data, _RULE, FILE, _ACTION)
    if source.text("schema") != "advisories/v1":
        raise source.wrong("schema", data.get("schema"), "'advisories/v1'")
    if source.text("sbom_sha256") != sbom_sha256:
        raise RefusalError(
            f"{_RULE}.foreign",
            FILE,
            f"made for {source.text('sbom_sha256')}, installed is {sbom_sha256}",
            _ACTION,
        )
    records = tuple(item.data for item in source.children("records"))
    return News(source.time("date"), frozenset(source.texts("audited")), records)


def match(
    components: Iterable[Component], records: Sequence[Mapping[str, object]]
) -> Iterator[Hit]:
    """Yield what concerns a component, each (record, package) once.

    Raises:
        RefusalError: a record is malformed, or a version in it cannot be ordered.
    """
    table: dict[tuple[str, str, str], list[tuple[Mapping[str, object], Fields]]] = {}
    for record in records:
        if record.get("withdrawn"):
            continue
        source = Fields(record, _RULE, f"{FILE} {record.get('id')}", _ACTION)
        for affected in source.children("affected"):
            key = _package(affected)
            if key is not None:
                table.setdefault(key, []).append((record, affected))
    for component in components:
        url = purl.parse(component.purl)
        seen: set[str] = set()
        for record, affected in table.get(url.package, []):
            name = str(record.get("id"))
            fixed = _affects(affected, url)
            if fixed is not None and name not in seen:
                seen.add(name)
                yield Hit(
                    name,
                    component.purl,
                    _severity(record),
                    fixed,
                    _exploited(record),
                    _published(record),
                )


def packages_of(record: Mapping[str, object]) -> set[tuple[str, str, str]]:
    """Return the packages a record speaks about.

    Raises:
        RefusalError: the record is malformed.
    """
    source = Fields(record, _RULE, f"{FILE} {record.get('id')}", _ACTION)
    found = (_package(affected) for affected in source.children("affected"))
    return {key for key in found if key is not None}


def _package(affected: Fields) -> tuple[str, str, str] | None:
    package = affected.child("package")
    url = package.optional("purl")
    if url:
        try:
            return purl.parse(url).package
        except ValueError as error:
            raise package.wrong("purl", url, str(error)) from error
    ecosystem = package.text("ecosystem").partition(":")[0]
    kind = _ECOSYSTEMS.get(ecosystem)
    if kind is None:
        return None
    name = package.text("name")
    namespace = "debian" if kind == "deb" else ""
    if kind == "npm" and name.startswith("@"):
        namespace, _, name = name.partition("/")
    if kind == "pypi":
        name = re.sub(r"[-_.]+", "-", name).lower()
    return kind, namespace, name


def _affects(affected: Fields, url: purl.Purl) -> str | None:
    """Return the version that fixes it (maybe empty), or None when the version is not affected."""
    key = _KEYS.get(url.type)
    if key is None:
        return None
    hit = url.version in affected.texts("versions")
    fixes: list[str] = []
    for item in affected.children("ranges"):
        if item.text("type") == "GIT":
            continue
        events = [row.data for row in item.children("events")]
        try:
            inside = versions.in_range(url.version, events, key)
        except ValueError as error:
            # A local version, or a record with a word for a version: concern it, a person decides.
            inside = True
            fixes.append(f"not known ({error})")
        if inside:
            hit = True
            fixes += [str(row["fixed"]) for row in events if isinstance(row.get("fixed"), str)]
    return (fixes[0] if fixes else "") if hit else None


def _severity(record: Mapping[str, object]) -> str:
    specific = record.get("database_specific")
    if isinstance(specific, dict):
        word = _WORDS.get(str(specific.get("severity", "")).upper())
        if word:
            return word
        score = str(specific.get("cvss_score", ""))
        if _SCORE.fullmatch(score):
            return _by_score(float(score))
    return "unknown"


def _by_score(score: float) -> str:
    for limit, word in ((9.0, "critical"), (7.0, "high"), (4.0, "medium")):
        if score >= limit:
            return word
    return "low"


def _exploited(record: Mapping[str, object]) -> bool:
    specific = record.get("database_specific")
    return isinstance(specific, dict) and specific.get("known_exploited") is True


def _published(record: Mapping[str, object]) -> datetime:
    text = str(record.get("published") or record.get("modified") or "")
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        return datetime(1970, 1, 1, tzinfo=UTC)  # unknown: old enough to matter
    return value if value.tzinfo else value.replace(tzinfo=UTC)
