"""Gate ``vulnerabilities``: everything was looked at, lately, and what was found is dealt with.

The report (``vulnerability-report/v1``) names the bill of materials by digest and every package
that was looked at; a count would not show that nothing was. Severities are ``critical``, ``high``,
``medium``, ``low`` and ``unknown``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from . import advisories, sbom, vex, waivers
from .documents import Fields, load_object
from .verdict import NOTE, RED, REFUSE, RefusalError, Verdict, refusal, verdict
from .view import BundleView

GATE = "vulnerabilities"
FILE = "report.json"
MAX_BYTES = 64 * 1024 * 1024
SEVERITIES = ("critical", "high", "medium", "low", "unknown")
_SCAN = "Scan the bill of materials with a current database and build again"
_CLOCK = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Finding:
    """One known vulnerability of one carried package.

    ``fixed`` is the first version without it (empty: none), ``exploited`` tells of known attacks.
    """

    id: str
    purl: str
    severity: str
    fixed: str
    exploited: bool
    published: datetime


@dataclass(frozen=True, slots=True)
class Report:
    """What a scanner said; ``database`` is None when it had none."""

    sbom_sha256: str
    scanner: str
    created: datetime
    database: datetime | None
    audited: frozenset[str]
    findings: tuple[Finding, ...]


def parse(raw: bytes) -> Report:
    """Read a report.

    Raises:
        RefusalError: rules ``vulnerabilities.*``.
    """
    data = load_object(raw, limit=MAX_BYTES, rule=GATE, thing=FILE)
    source = Fields(data, GATE, FILE)
    if source.text("schema") != "vulnerability-report/v1":
        raise source.wrong("schema", data.get("schema"), "'vulnerability-report/v1'")
    scanner = source.child("scanner")
    database = None
    if data.get("database") is not None:
        child = source.child("database")
        child.text("sha256")
        database = child.time("date")
    audited = source.texts("audited")
    if len(set(audited)) != len(audited):
        raise source.wrong("audited", "a package twice", "each package once")
    return Report(
        source.text("sbom_sha256"),
        f"{scanner.text('name')} {scanner.text('version')}",
        source.time("created"),
        database,
        frozenset(audited),
        tuple(_finding(item) for item in source.children("findings")),
    )


def _finding(item: Fields) -> Finding:
    severity = item.text("severity")
    if severity not in SEVERITIES:
        raise item.wrong("severity", severity, "one of " + ", ".join(SEVERITIES))
    exploited = item.data.get("exploited")
    if not isinstance(exploited, bool):
        raise item.wrong("exploited", exploited, "true or false")
    return Finding(
        item.text("id"),
        item.text("purl"),
        severity,
        item.optional("fixed"),
        exploited,
        item.time("published"),
    )


def gate(view: BundleView) -> Iterator[Verdict]:
    """Judge the report of the bundle, or the news of an advisory bundle."""
    try:
        statements, stale = _statements(view)
        yield from stale
        if view.advisory_only:
            yield from _news(view, statements)
            return
        bill = view.document("sbom", sbom.FILE, GATE, sbom.MAX_BYTES)
        raw = view.document("report", FILE, GATE, MAX_BYTES)
        if bill is None or raw is None:
            missing = sbom.FILE if bill is None else FILE
            raise RefusalError("vulnerabilities.missing", missing, "absent", _SCAN)
        report = parse(raw)
        components = sbom.parse(bill)
    except RefusalError as error:
        yield refusal(error)
        return
    digest = hashlib.sha256(bill).hexdigest()
    if report.sbom_sha256 != digest:
        yield verdict(
            "vulnerabilities.foreign",
            REFUSE,
            FILE,
            f"made for the bill of materials {report.sbom_sha256}, this is {digest}",
            _SCAN,
        )
        return
    if report.database is None:
        if report.findings or report.audited:
            yield verdict(
                "vulnerabilities.form", REFUSE, FILE, "findings without a database", _SCAN
            )
        yield from waivers.judge(
            view,
            "vulnerability-database",
            "vulnerabilities.no-database",
            f"nothing was audited: {report.scanner} had no database",
            _SCAN,
        )
        return
    yield from _coverage(report.audited, components)
    yield from _age(view, report)
    yield from _open(view, report.findings, statements)


def _statements(
    view: BundleView,
) -> tuple[dict[tuple[str, str], vex.Statement], list[Verdict]]:
    raw = view.document("vex", vex.FILE, "vex", vex.MAX_BYTES)
    if raw is None:
        return {}, []
    good, stale = vex.usable(vex.parse(raw), view.now, view.rules.vex_max_days)
    return good, [
        verdict(
            "vulnerabilities.vex-ended",
            NOTE,
            f"{item.vulnerability} {item.purl}",
            f"statement {item.justification!r} with the end {item.expires:%Y-%m-%d} does not count",
        )
        for item in stale
    ]


def _coverage(audited: frozenset[str], components: Sequence[sbom.Component]) -> Iterator[Verdict]:
    wanted = {component.purl for component in components}
    missing, extra = sorted(wanted - audited), sorted(audited - wanted)
    if not wanted:
        yield verdict("vulnerabilities.coverage", REFUSE, FILE, "no package at all", _SCAN)
    if missing:
        yield verdict(
            "vulnerabilities.coverage",
            REFUSE,
            missing[0],
            f"{len(missing)} of {len(wanted)} packages were not audited",
            _SCAN,
        )
    if extra:
        yield verdict(
            "vulnerabilities.coverage",
            REFUSE,
            extra[0],
            f"{len(extra)} audited packages are not in this bundle",
            _SCAN,
        )


def _age(view: BundleView, report: Report) -> Iterator[Verdict]:
    limit = timedelta(days=view.rules.database_max_days)
    database = report.database or report.created
    # A bundle travels and waits; what counts is how old the database was when it was used.
    if database > view.manifest.created + _CLOCK or report.created > view.now + _CLOCK:
        yield verdict(
            "vulnerabilities.time",
            REFUSE,
            FILE,
            f"database of {database:%Y-%m-%d}: later than "
            f"the bundle of {view.manifest.created:%Y-%m-%d}",
            _SCAN,
        )
    elif view.manifest.created - database > limit:
        yield verdict(
            "vulnerabilities.stale",
            REFUSE,
            FILE,
            f"database of {database:%Y-%m-%d}, bundle of {view.manifest.created:%Y-%m-%d}, at most "
            f"{limit.days} days",
            _SCAN,
        )


def _open(
    view: BundleView,
    findings: Sequence[Finding],
    statements: dict[tuple[str, str], vex.Statement],
) -> Iterator[Verdict]:
    grace = view.now - timedelta(days=view.rules.open_finding_days)
    for item in findings:
        thing = f"{item.id} {item.purl}"
        fix = f"fixed in {item.fixed}" if item.fixed else "no fix"
        statement = statements.get((item.id, item.purl))
        if statement is not None:
            yield verdict(
                "vulnerabilities.vex",
                NOTE,
                thing,
                f"{item.severity}, {statement.justification} until {statement.expires:%Y-%m-%d}",
            )
            continue
        severe = item.severity == "critical" or (
            item.severity in ("high", "unknown") and item.fixed
        )
        # What is published only in the future has no time of grace: the date is wrong.
        old = item.published <= grace or item.published > view.now + _CLOCK
        if (severe or item.exploited) and old:
            yield verdict(
                "vulnerabilities.open",
                REFUSE,
                thing,
                f"{item.severity}, {fix}{', exploited' if item.exploited else ''}, known since "
                f"{item.published:%Y-%m-%d}",
                "Take the fixed version, or state with a reason and an end why it does not matter",
            )
        else:
            yield verdict("vulnerabilities.note", NOTE, thing, f"{item.severity}, {fix}")


def _news(view: BundleView, statements: dict[tuple[str, str], vex.Statement]) -> Iterator[Verdict]:
    """Judge what is installed by newer advisories: the regular scan inside the perimeter."""
    if view.installed is None:
        return  # the gate sbom has refused already
    components = sbom.parse(view.installed)
    digest = hashlib.sha256(view.installed).hexdigest()
    found = advisories.read(view, digest)
    yield from _coverage(found.audited, components)
    if view.manifest.created - found.date > timedelta(days=view.rules.database_max_days):
        yield verdict(
            "vulnerabilities.stale", REFUSE, advisories.FILE, f"of {found.date:%Y-%m-%d}", _SCAN
        )
    findings = [
        Finding(hit.id, hit.purl, hit.severity, hit.fixed, hit.exploited, hit.published)
        for hit in advisories.match(components, found.records)
    ]
    for item in _open(view, findings, statements):
        # The news are good news: it is the installed release that needs an answer, in red.
        yield replace(item, severity=RED) if item.severity == REFUSE else item
