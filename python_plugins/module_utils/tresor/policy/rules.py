"""What the gates judge by: the site's rules, and what a bundle's people declared and signed.

The site decides. A bundle's ``policy.json`` can explain (this licence was reviewed, this plugin is
wanted, this site waives the report until then), and each explanation is shown to the approvers; the
site's own rules may forbid what it explains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from .documents import Fields, load_object
from .verdict import words

_LIMIT = 4 * 1024 * 1024
_REASON = 20  # characters; shorter reasons have never explained anything
WAIVERS = ("vulnerability-database", "malware-scan")
ALLOWABLE = (
    "caches.code",
    "models.template",
    "npm.nested",
    "npm.script",
    "wheels.collision",
    "wheels.plugin",
    "wheels.record",
    "wheels.start-up",
)
"""Rules with a harmless case that only a person can tell from a harmful one."""

ALLOWED_LICENCES = words(
    """
    0BSD Apache-2.0 Artistic-2.0 BSD-1-Clause BSD-2-Clause BSD-3-Clause BSD-3-Clause-Clear
    BSL-1.0 BlueOak-1.0.0 CC-BY-3.0 CC-BY-4.0 CC-BY-SA-4.0 CC-PDDC CC0-1.0 CNRI-Python HPND ICU
    ISC LGPL-2.1-only LGPL-2.1-or-later LGPL-3.0-only LGPL-3.0-or-later Libpng MIT MIT-0 MIT-CMU
    MPL-2.0 NCSA OFL-1.1 OpenSSL PSF-2.0 Python-2.0 Unicode-3.0 Unlicense WTFPL X11 ZPL-2.1 Zlib
    GPL-2.0-only GPL-2.0-or-later GPL-3.0-only GPL-3.0-or-later LicenseRef-Debian-main
    """
)
"""SPDX identifiers a site takes unless its rules deny them: free licences whose terms a site that
only uses (and does not sell) the software fulfils. ``LicenseRef-Debian-main`` is what Debian's
archive carries in ``main``, reviewed there against the Debian Free Software Guidelines."""

ALLOWED_EXCEPTIONS = frozenset(
    ["Classpath-exception-2.0", "GCC-exception-3.1", "LLVM-exception", "OpenSSL-exception"]
)


@dataclass(frozen=True, slots=True)
class SiteRules:
    """The site's own limits; days unless the name says otherwise.

    ``malware_signatures`` is a folder of signatures for ClamAV; the bastion scans when it is set.
    """

    licences_denied: frozenset[str] = frozenset()
    model_formats: frozenset[str] = frozenset({"safetensors"})
    database_max_days: int = 7
    open_finding_days: int = 14
    vex_max_days: int = 365
    waiver_max_days: int = 92
    signatures_max_days: int = 7
    waivers_allowed: bool = True
    malware_signatures: str = ""


def parse_site_rules(raw: bytes) -> SiteRules:
    """Read a site's rules (JSON object; every key is optional, unknown keys are refused).

    Raises:
        RefusalError: rules ``rules.*``.
    """
    action = "Correct the site's rules file"
    data = load_object(raw, limit=_LIMIT, rule="rules", thing="site rules", action=action)
    source = Fields(data, "rules", "site rules", action)
    defaults = {item.name: item.default for item in fields(SiteRules)}
    values: dict[str, Any] = {}
    for key in data:
        default = defaults.get(key)
        if isinstance(default, frozenset):
            values[key] = frozenset(source.texts(key))
        elif isinstance(default, bool):
            if not isinstance(data[key], bool):
                raise source.wrong(key, data[key], "true or false")
            values[key] = data[key]
        elif isinstance(default, int):
            values[key] = source.integer(key)
        elif isinstance(default, str):
            values[key] = source.text(key)
        else:
            raise source.wrong(key, data[key], "a key of " + ", ".join(sorted(defaults)))
    rules = SiteRules(**values)
    unknown = rules.model_formats - {"safetensors", "gguf"}
    if unknown:
        raise source.wrong("model_formats", sorted(unknown), "of safetensors, gguf")
    return rules


@dataclass(frozen=True, slots=True)
class Waiver:
    """Lets one named site do without one kind of evidence until a day."""

    kind: str
    site: str
    reason: str
    approved_by: str
    expires: datetime


@dataclass(frozen=True, slots=True)
class Declarations:
    """A bundle's ``policy.json``.

    Attributes:
        licences: further licences with the reason why they are accepted.
        allow: (rule, package) -> values that this one rule lets pass for this one package.
        waivers: see :class:`Waiver`.
    """

    licences: Mapping[str, str] = field(default_factory=dict)
    allow: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    waivers: tuple[Waiver, ...] = ()

    def allowed(self, rule: str, package: str) -> frozenset[str]:
        """Return the values that ``rule`` lets pass for ``package``."""
        return self.allow.get((rule, package), frozenset())


def parse_declarations(raw: bytes) -> Declarations:
    """Read ``policy.json``.

    Raises:
        RefusalError: rules ``declared.*``.
    """
    data = load_object(raw, limit=_LIMIT, rule="declared", thing="policy.json")
    source = Fields(data, "declared", "policy.json")
    if source.text("schema") != "policy/v1":
        raise source.wrong("schema", data.get("schema"), "'policy/v1'")
    known = {"schema", "licences", "allow", "waivers"}
    unknown = sorted(set(data) - known)
    if unknown:
        raise source.wrong(unknown[0], data[unknown[0]], "a known key")
    licences = {item.text("licence"): _reason(item) for item in source.children("licences")}
    allow: dict[tuple[str, str], frozenset[str]] = {}
    for item in source.children("allow"):
        _reason(item)
        key = (item.text("rule"), item.text("package"))
        if key[0] not in ALLOWABLE:
            raise item.wrong("rule", key[0], "one of " + ", ".join(ALLOWABLE))
        allow[key] = allow.get(key, frozenset()) | frozenset(item.texts("values"))
    waivers = tuple(_waiver(item) for item in source.children("waivers"))
    return Declarations(licences, allow, waivers)


def _reason(item: Fields) -> str:
    reason = item.text("reason")
    if len(reason.strip()) < _REASON:
        raise item.wrong("reason", reason, f"an explanation of at least {_REASON} characters")
    return reason


def _waiver(item: Fields) -> Waiver:
    kind, site = item.text("kind"), item.text("site")
    if kind not in WAIVERS:
        raise item.wrong("kind", kind, "one of " + ", ".join(WAIVERS))
    if not site.isprintable() or "*" in site:
        raise item.wrong("site", site, "the name of one site")
    return Waiver(kind, site, _reason(item), item.text("approved_by"), item.time("expires"))
