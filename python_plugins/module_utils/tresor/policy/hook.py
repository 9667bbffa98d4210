"""What the importer calls: run the gates, refuse the bundle or hand on what the approvers read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from ..bundle.errors import EnvironmentNotReadyError, RejectedError
from ..bundle.manifest import BundleManifest
from . import clamscan, malware, sbom
from .evaluate import GATES as NAMES
from .evaluate import evaluate, one, refusals
from .rules import SiteRules, parse_site_rules
from .verdict import NOTE, RED, REFUSE, RefusalError, Verdict
from .view import BundleView

SITE_RULES = Path("/etc/tresor/bundle-rules.json")
_SHOWN = 5
_HEADINGS = {REFUSE: "REFUSED", RED: "RED: allowed by a waiver", NOTE: "Please read"}


class Active(Protocol):
    """The store, as far as the gates need it."""

    @property
    def current(self) -> Path: ...


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


def view_of(given: Given, rules_file: Path = SITE_RULES) -> BundleView:
    """Return the view for what the importer has at hand.

    Raises:
        EnvironmentNotReadyError: the site's rules cannot be used.
    """
    rules = site_rules(rules_file)
    installed = given.store.current / "tree" / "policy-sbom" / sbom.FILE
    return BundleView(
        given.manifest,
        given.locate,
        given.site,
        given.now,
        rules,
        installed=installed.read_bytes() if installed.is_file() else None,
    )


def run(name: str, given: Given, rules_file: Path = SITE_RULES) -> list[Verdict]:
    """Run one gate; the gate ``malware`` scans first where the site's rules name signatures."""
    view = view_of(given, rules_file)
    if name == malware.GATE and view.rules.malware_signatures:
        wanted = malware.wanted(view)
        contents = {digest: view.locate(digest) for digest in wanted}
        view = replace(view, scan=clamscan.scan(contents, Path(view.rules.malware_signatures)))
    return one(name, view)


GATES: Mapping[str, Callable[[Given], list[Verdict]]] = {name: partial(run, name) for name in NAMES}
"""Every gate as the importer calls it, by name."""


def site_rules(path: Path = SITE_RULES) -> SiteRules:
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


def require(view: BundleView) -> list[Verdict]:
    """Run the gates and return their verdicts.

    Raises:
        RejectedError: rule ``policy.<rule of the first refusal>``; the message lists the first few.
    """
    verdicts = evaluate(view)
    stops = refusals(verdicts)
    if stops:
        shown = "; ".join(str(item) for item in stops[:_SHOWN])
        more = f"; and {len(stops) - _SHOWN} more" if stops[_SHOWN:] else ""
        raise RejectedError(f"policy.{stops[0].rule}", f"{shown}{more}", stops[0].thing)
    return verdicts


def text(verdicts: Sequence[Verdict]) -> str:
    """Return the verdicts for people: what is refused, what is red, what to read, what passed."""
    lines: list[str] = []
    for severity, heading in _HEADINGS.items():
        chosen = [item for item in verdicts if item.severity == severity]
        if chosen:
            lines.append(f"{heading} ({len(chosen)})")
            lines += [f"  {item.thing}: {item.seen} [{item.rule}]" for item in chosen]
    known = {*_HEADINGS}
    lines.append(
        "Gates passed: " + ", ".join(item.gate for item in verdicts if item.severity not in known)
    )
    return "\n".join(lines) + "\n"
