"""When a site does without a kind of evidence: named site, reason, end, red in every report."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from .verdict import RED, REFUSE, Verdict, verdict
from .view import BundleView


def judge(view: BundleView, kind: str, rule: str, missing: str, action: str) -> Iterator[Verdict]:
    """Yield RED when a waiver of ``kind`` holds on this site now, else the refusal and why.

    Args:
        view: bundle and site.
        kind: one of :data:`rules.WAIVERS`.
        rule: rule of the verdict.
        missing: what is not there.
        action: what to do instead of waiving.
    """
    known = [item for item in view.declared.waivers if item.kind == kind]
    problems: list[str] = []
    for item in known:
        ends = f"{item.expires:%Y-%m-%d}"
        if not view.rules.waivers_allowed:
            problems.append("this site's rules allow no waivers")
        elif item.site != view.site:
            problems.append(f"its waiver is for site {item.site!r}, this is {view.site!r}")
        elif item.expires <= view.now:
            problems.append(f"its waiver ended on {ends}")
        elif item.expires > view.now + timedelta(days=view.rules.waiver_max_days):
            problems.append(f"its waiver runs longer than {view.rules.waiver_max_days} days")
        else:
            yield verdict(
                rule,
                RED,
                kind,
                f"WAIVED until {ends} for site {item.site} by {item.approved_by}: {item.reason}",
                action,
            )
            return
    detail = "; ".join(dict.fromkeys(problems)) or "no waiver"
    yield verdict(rule, REFUSE, kind, f"{missing} ({detail})", action)
