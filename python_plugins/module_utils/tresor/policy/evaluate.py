"""Run every gate over a bundle and decide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from ..bundle.errors import BundleError
from ..bundle.manifest import Part
from . import caches, debs, licences, malware, models, npm, sbom, vulnerabilities, wheels
from .rules import Declarations, parse_declarations
from .verdict import PASS, REFUSE, RefusalError, Verdict, blocking, refusal, verdict
from .view import BundleView

DECLARED_FILE = "policy.json"
_MAX_DECLARED = 4 * 1024 * 1024
PartGate = Callable[[BundleView, Part], Iterator[Verdict]]
BundleGate = Callable[[BundleView], Iterator[Verdict]]
Remember = Callable[[str, Part, Callable[[], list[Verdict]]], list[Verdict]]

PART_GATES: Mapping[str, tuple[str, PartGate]] = {
    wheels.GATE: ("wheels", wheels.gate),
    debs.GATE: ("debs", debs.gate),
    npm.GATE: ("npm", npm.gate),
    models.GATE: ("model", models.gate),
    caches.GATE: ("engine_cache", caches.gate),
}
BUNDLE_GATES: Mapping[str, BundleGate] = {
    sbom.GATE: sbom.gate,
    licences.GATE: licences.gate,
    vulnerabilities.GATE: vulnerabilities.gate,
    malware.GATE: malware.gate,
}
GATES = (*PART_GATES, *BUNDLE_GATES)
"""Names of all gates; each must have said something before a bundle may go on."""


def declarations(view: BundleView) -> Declarations:
    """Return what the bundle's people declared; nothing when it carries no ``policy.json``.

    Raises:
        RefusalError: rules ``declared.*``.
    """
    raw = view.document("report", DECLARED_FILE, "declared", _MAX_DECLARED)
    return Declarations() if raw is None else parse_declarations(raw)


def evaluate(view: BundleView, remember: Remember | None = None) -> list[Verdict]:
    """Run all gates.

    Args:
        view: the bundle, all contents verified and on our disk.
        remember: returns the verdicts of (gate, part) from an earlier run, or calls its third
            argument; for the builder, which judges the same parts again and again.

    Returns:
        Verdicts; :func:`refusals` tells which stop the bundle.
    """
    try:
        view = with_declarations(view)
    except RefusalError as error:
        return [refusal(error)]
    found: list[Verdict] = []
    for name in GATES:
        found += one(name, view, remember)
    return found


def with_declarations(view: BundleView) -> BundleView:
    """Return the view with what the bundle declares, read from it unless it was given.

    Raises:
        RefusalError: rules ``declared.*``.
    """
    if not view.read_declared:
        return view
    return replace(view, declared=declarations(view), read_declared=False)


def one(name: str, view: BundleView, remember: Remember | None = None) -> list[Verdict]:
    """Run one gate; its verdicts end with :data:`verdict.PASS`, or refuse."""
    try:
        view = with_declarations(view)
    except RefusalError as error:
        return [_owned(name, refusal(error))]
    if name in BUNDLE_GATES:
        gate = BUNDLE_GATES[name]
        return _ended(name, _run(name, lambda: gate(view)), "the bundle")
    part_type, part_gate = PART_GATES[name]
    verdicts: list[Verdict] = []
    for part in view.parts(part_type):

        def compute(part: Part = part) -> list[Verdict]:
            return _run(name, lambda: part_gate(view, part))

        verdicts += remember(name, part, compute) if remember else compute()
    return _ended(name, verdicts, f"{len(view.parts(part_type))} part(s)")


def refusals(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Return what stops the bundle; an empty list lets it go on."""
    return blocking(verdicts, GATES)


def _run(name: str, start: Callable[[], Iterator[Verdict]]) -> list[Verdict]:
    """Collect a gate's verdicts; whatever goes wrong inside is a refusal."""
    found: list[Verdict] = []
    try:
        for item in start():
            found.append(item)
    except RefusalError as error:
        found.append(refusal(error))
    except BundleError as error:
        found.append(verdict(f"{name}.form", REFUSE, error.path or name, str(error)))
    except Exception as error:
        found.append(
            verdict(
                f"{name}.error",
                REFUSE,
                name,
                f"{type(error).__name__}: {error}",
                "Nothing was accepted; report this with the bundle's id",
            )
        )
    return [item if item.gate == name else _owned(name, item) for item in found]


def _owned(name: str, item: Verdict) -> Verdict:
    return Verdict(name, item.rule, item.severity, item.thing, item.seen, item.action)


def _ended(name: str, verdicts: list[Verdict], what: str) -> list[Verdict]:
    if any(item.severity == REFUSE for item in verdicts):
        return verdicts
    return [*verdicts, verdict(f"{name}.passed", PASS, what, f"{len(verdicts)} remark(s)")]
