"""Statements about findings (VEX): CycloneDX or OpenVEX, each with a reason and an end.

Neither format has an end date of its own, and a statement without one is never looked at again:
CycloneDX carries it in a property ``tresor:expires`` of the vulnerability, OpenVEX in
``status_notes`` as ``expires=<time>``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from . import purl
from .documents import Fields, load_object
from .verdict import RefusalError, words

FILE = "vex.json"
MAX_BYTES = 64 * 1024 * 1024
EXPIRES = "tresor:expires"
_ACTION = "Have the statement written again, with its justification and an end"
_OPEN_NOTE = re.compile(r"\bexpires=(\S+)")
_OPEN_JUSTIFICATIONS = frozenset(
    [
        "component_not_present",
        "vulnerable_code_not_present",
        "vulnerable_code_not_in_execute_path",
        "vulnerable_code_cannot_be_controlled_by_adversary",
        "inline_mitigations_already_exist",
    ]
)
_CYCLONE_JUSTIFICATIONS = words(
    """
    code_not_present code_not_reachable requires_configuration requires_dependency
    requires_environment protected_by_compiler protected_at_runtime protected_at_perimeter
    protected_by_mitigating_control
    """
)


@dataclass(frozen=True, slots=True)
class Statement:
    """One finding of one package version that does not concern the site, until ``expires``."""

    vulnerability: str
    purl: str
    justification: str
    expires: datetime


def parse(raw: bytes) -> tuple[Statement, ...]:
    """Read a VEX document; statements that excuse nothing are dropped.

    Raises:
        RefusalError: rules ``vex.*``: unknown format, no justification, no explanation, no end.
    """
    data = load_object(raw, limit=MAX_BYTES, rule="vex", thing=FILE, action=_ACTION)
    source = Fields(data, "vex", FILE, _ACTION)
    if data.get("bomFormat") == "CycloneDX":
        return tuple(item for row in source.children("vulnerabilities") for item in _cyclone(row))
    if str(data.get("@context", "")).startswith("https://openvex.dev/ns"):
        return tuple(item for row in source.children("statements") for item in _open(row))
    raise source.wrong("format", data.get("@context"), "CycloneDX or OpenVEX")


def _cyclone(row: Fields) -> list[Statement]:
    name = row.text("id")
    analysis = row.child("analysis")
    if analysis.text("state") not in ("not_affected", "false_positive", "resolved"):
        return []
    if not analysis.optional("detail"):
        raise analysis.wrong(f"{name} detail", None, "an explanation")
    reason = analysis.text("state")
    if reason == "not_affected":
        reason = analysis.text("justification")
        if reason not in _CYCLONE_JUSTIFICATIONS:
            raise analysis.wrong(f"{name} justification", reason, "one of CycloneDX")
    ends = [
        item.text("value") for item in row.children("properties") if item.text("name") == EXPIRES
    ]
    if len(ends) != 1:
        raise row.wrong(f"{name} {EXPIRES}", ends, "one end")
    expires = row.moment(EXPIRES, ends[0])
    return [
        Statement(name, _exact(item, item.text("ref")), reason, expires)
        for item in row.children("affects")
    ]


def _open(row: Fields) -> list[Statement]:
    status = row.text("status")
    if status not in ("not_affected", "fixed"):
        return []
    vulnerability = row.data.get("vulnerability")
    name = (
        vulnerability if isinstance(vulnerability, str) else row.child("vulnerability").text("name")
    )
    reason = status
    if status == "not_affected":
        reason = row.text("justification")
        if reason not in _OPEN_JUSTIFICATIONS:
            raise row.wrong(f"{name} justification", reason, "one of OpenVEX")
        row.text("impact_statement")
    note = _OPEN_NOTE.search(row.optional("status_notes"))
    if note is None:
        raise row.wrong(f"{name} status_notes", row.data.get("status_notes"), "expires=<time>")
    expires = row.moment("expires", note[1])
    return [
        Statement(name, _exact(item, item.text("@id")), reason, expires)
        for item in row.children("products")
    ]


def _exact(row: Fields, url: str) -> str:
    """A statement holds for one version: the next one has to be looked at again."""
    # A reference into another document (BOM-Link) ends in the package URL.
    text = url[url.find("pkg:") :] if "#pkg:" in url else url
    try:
        if not purl.parse(text).version:
            raise ValueError("it names no version")
    except ValueError as error:
        raise RefusalError("vex.purl", FILE, f"{url}: {error}", _ACTION) from error
    return text


def usable(
    statements: tuple[Statement, ...], now: datetime, max_days: int
) -> tuple[dict[tuple[str, str], Statement], list[Statement]]:
    """Split into {(vulnerability, purl): statement} that holds now, and those that do not."""
    good: dict[tuple[str, str], Statement] = {}
    stale: list[Statement] = []
    for item in statements:
        if now < item.expires <= now + timedelta(days=max_days):
            good[(item.vulnerability, item.purl)] = item
        else:
            stale.append(item)
    return good, stale
