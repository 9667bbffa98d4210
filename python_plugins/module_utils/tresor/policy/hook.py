"""What the importer calls: run the gates, refuse the bundle or hand on what the approvers read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..bundle.errors import EnvironmentNotReadyError, RejectedError
from .evaluate import evaluate, refusals
from .rules import SiteRules, parse_site_rules
from .verdict import NOTE, RED, REFUSE, RefusalError, Verdict
from .view import BundleView

SITE_RULES = Path("/etc/tresor/bundle-rules.json")
_SHOWN = 5
_HEADINGS = {REFUSE: "REFUSED", RED: "RED: allowed by a waiver", NOTE: "Please read"}


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
