"""What the importer calls: each gate by its name, with what the importer has at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from ..bundle.canonical import sha256_hex
from ..bundle.errors import EnvironmentNotReadyError
from ..bundle.manifest import BundleManifest, parse_manifest
from ..bundle.release import installed_digest
from . import clamscan, licences, malware, sbom, vulnerabilities
from .evaluate import GATES as NAMES
from .evaluate import one
from .rules import SiteRules, parse_site_rules
from .verdict import RefusalError, Verdict
from .view import BundleView

SITE_RULES = Path("/etc/tresor/bundle-rules.json")
AGEING = (licences.GATE, vulnerabilities.GATE)
"""Gates over documents whose answer changes after the import: findings grow old, statements end, a
site denies a licence."""


class Active(Protocol):
    """The store, as far as the gates need it."""

    @property
    def current(self) -> Path: ...
    @property
    def state(self) -> Path: ...


class Given(Protocol):
    """What the importer hands to a gate: manifest, contents, site, time, store."""

    @property
    def manifest(self) -> BundleManifest: ...
    @property
    def locate(self) -> Callable[[str], Path]: ...
    @property
    def site(self) -> str: ...
    @property
    def now(self) -> datetime: ...
    @property
    def store(self) -> Active: ...


def view_of(given: Given, rules_file: Path | None = None) -> BundleView:
    """Return the view for what the importer has at hand.

    Raises:
        EnvironmentNotReadyError: the site's rules cannot be used.
    """
    rules = site_rules(rules_file or SITE_RULES)
    return BundleView(
        given.manifest,
        given.locate,
        given.site,
        given.now,
        rules,
        installed=_installed(given.store),
    )


def _installed(store: Active) -> bytes | None:
    """Return the bill of materials of what runs, None while nothing does.

    Raises:
        EnvironmentNotReadyError: ``state.content``: it is not the one that was imported.
    """
    path = store.current / "tree" / "policy-sbom" / sbom.FILE
    if not path.is_file():
        return None
    raw = path.read_bytes()
    # A list that somebody shortened would hide what the advisories are about.
    digest = installed_digest(store.current)
    try:
        listed = parse_manifest((store.state / "manifests" / f"{digest}.json").read_bytes())
    except OSError as error:
        raise EnvironmentNotReadyError(
            "state.manifest", f"manifest of the release is not there: {error.strerror}", str(path)
        ) from error
    if sha256_hex(raw) not in listed.blobs():
        raise EnvironmentNotReadyError(
            "state.content", "the bill of materials is not the one that was imported", str(path)
        )
    return raw


def run(name: str, given: Given, rules_file: Path | None = None) -> list[Verdict]:
    """Run one gate; the gate ``malware`` scans first where the site's rules name signatures.

    Raises:
        EnvironmentNotReadyError: the site's rules, or the scanner, cannot be used.
    """
    view = view_of(given, rules_file)
    if name == malware.GATE and view.rules.malware_signatures:
        wanted = malware.wanted(view)
        contents = {digest: view.locate(digest) for digest in wanted}
        view = replace(view, scan=clamscan.scan(contents, Path(view.rules.malware_signatures)))
    return one(name, view)


GATES: Mapping[str, Callable[[Given], list[Verdict]]] = {name: partial(run, name) for name in NAMES}
"""Every gate as the importer calls it, by name."""


def site_rules(path: Path) -> SiteRules:
    """Return the site's rules; the built-in ones when the site has none.

    Raises:
        EnvironmentNotReadyError: ``environment.rules``: the file is there and cannot be used.
    """
    try:
        return parse_site_rules(path.read_bytes())
    except FileNotFoundError:
        return SiteRules()
    except OSError as error:
        raise EnvironmentNotReadyError(
            "environment.rules", str(error.strerror), str(path)
        ) from error
    except RefusalError as error:
        raise EnvironmentNotReadyError(
            "environment.rules", f"{error.seen}. {error.action}", str(path)
        ) from error
