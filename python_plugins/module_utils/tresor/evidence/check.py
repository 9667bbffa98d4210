"""One check: what was tried, what had to happen, what was seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """A single judged observation.

    ``ok`` is true only for a check that ran and saw what it had to see; a check that could not
    run is built with :func:`not_run` and counts as failed.
    """

    id: str
    what: str
    source: str
    target: str
    expected: str
    observed: str
    ok: bool
    duration: float = 0.0
    """Seconds."""

    def as_dict(self) -> dict[str, Any]:
        """Return the form of the evidence report; ``from`` cannot be a name in Python."""
        return {
            "id": self.id,
            "what": self.what,
            "from": self.source,
            "to": self.target,
            "expected": self.expected,
            "observed": self.observed,
            "ok": self.ok,
            "duration": round(self.duration, 3),
        }


def not_run(
    check_id: str, what: str, reason: str, *, source: str = "-", target: str = "-"
) -> Check:
    """Return the failed check that stands for one that could not be carried out."""
    return Check(check_id, what, source, target, "the check runs", f"not run: {reason}", False)
