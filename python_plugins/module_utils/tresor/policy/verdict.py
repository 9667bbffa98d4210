"""What a gate says: one verdict per finding, and how verdicts become a decision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

REFUSE = "refuse"  # the bundle may not become active
RED = "red"  # allowed by a waiver; every report shows it in red
NOTE = "note"  # the approvers should read it
PASS = "pass"  # noqa: S105 - the gate ran to its end and refused nothing
SEVERITIES = (REFUSE, RED, NOTE, PASS)
_MAX_TEXT = 300


@dataclass(frozen=True, slots=True)
class Verdict:
    """One finding of a gate.

    Attributes:
        gate: name of the gate.
        rule: stable name of the rule for machines, for example ``models.pickle``.
        severity: one of :data:`SEVERITIES`.
        thing: what it is about: a component, a path, a document.
        seen: the value that was seen.
        action: what to do, as a sentence; empty when there is nothing to do.
    """

    gate: str
    rule: str
    severity: str
    thing: str
    seen: str
    action: str = ""

    def as_json(self) -> dict[str, str]:
        """Return the verdict for reports and events."""
        return asdict(self)

    def __str__(self) -> str:
        tail = f" -> {self.action}" if self.action else ""
        return f"{self.severity.upper()} {self.rule}: {self.thing}: {self.seen}{tail}"


class RefusalError(Exception):
    """Ends a check early with the reason; gates turn it into a verdict."""

    def __init__(self, rule: str, thing: str, seen: str, action: str) -> None:
        super().__init__(f"{rule}: {thing}: {seen}")
        self.rule = rule
        self.thing = thing
        self.seen = seen
        self.action = action


def words(text: str) -> frozenset[str]:
    """Return the words of a text as a set; for long allow-lists."""
    return frozenset(text.split())


def clean(value: object) -> str:
    """Return a value as one printable line: what a hostile file says must not forge a log."""
    text = value if isinstance(value, str) else repr(value)
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[:_MAX_TEXT])
    return shown + ("…" if len(text) > _MAX_TEXT else "")


def verdict(rule: str, severity: str, thing: object, seen: object, action: str = "") -> Verdict:
    """Return a verdict; the gate's name is the first part of ``rule``."""
    return Verdict(rule.partition(".")[0], rule, severity, clean(thing), clean(seen), action)


def refusal(error: RefusalError) -> Verdict:
    """Return the verdict of a check that ended early."""
    return verdict(error.rule, REFUSE, error.thing, error.seen, error.action)


def blocking(verdicts: Iterable[Verdict], gates: Sequence[str]) -> list[Verdict]:
    """Return what stops the bundle: refusals, unknown severities, and gates that said nothing.

    Args:
        verdicts: all verdicts.
        gates: names of the gates that had to run.
    """
    found = list(verdicts)
    stops = [item for item in found if item.severity not in (RED, NOTE, PASS)]
    ended = {item.gate for item in found if item.severity == PASS}
    refused = {item.gate for item in stops}
    stops += [
        verdict(f"{gate}.silent", REFUSE, gate, "no result", "Report this as a bug of the importer")
        for gate in gates
        if gate not in ended and gate not in refused
    ]
    return stops
