"""Judge what keeps a site's trust alive: time, revocation lists, renewal and backup.

Each function takes text that a program printed, and returns a check; reading is the module's.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Final

from .check import Check, not_run

MAX_OFFSET_SECONDS = 1.0
"""Tokens and certificates tolerate much more; a clock that is synchronised is far below."""


def time_sources(host: str, sources_csv: str, allowed: Sequence[str]) -> Check:
    """Judge ``chronyc -c -n sources``: the company's servers, one of them selected, no other.

    Args:
        host: inventory name.
        sources_csv: what chronyc printed.
        allowed: addresses of the company's time servers.
    """
    check_id, what = f"trust.time_sources.{host}", "the clock follows the company's servers only"
    rows = [line.split(",") for line in sources_csv.splitlines() if line.strip()]
    if any(len(row) < 3 for row in rows):
        return not_run(check_id, what, f"chronyc printed {sources_csv[:100]!r}", source=host)
    used = {row[2] for row in rows}
    selected = [row[2] for row in rows if row[1] == "*"]
    problems = [f"foreign source {name}" for name in sorted(used - set(allowed))]
    if not selected:
        problems.append("no source is selected")
    return Check(
        id=check_id,
        what=what,
        source=host,
        target=", ".join(sorted(used)) or "-",
        expected=f"sources out of {', '.join(allowed)}, one selected",
        observed="; ".join([f"selected {', '.join(selected) or 'none'}", *problems]),
        ok=not problems,
    )


def clock(host: str, tracking_csv: str) -> Check:
    """Judge ``chronyc -c tracking``: synchronised, and not off."""
    check_id, what = f"trust.clock.{host}", "the clock is synchronised and right"
    row = tracking_csv.strip().split(",")
    try:
        # Reference id, name, stratum, reference time, system time, last offset, ..., leap status.
        stratum, leap = int(row[2]), row[13]
        # The correction that is still under way, and what the last look at the server found: a
        # daemon that may not set the clock, or has not begun to, shows the error in the second.
        offset = max(float(row[4]), float(row[5]), key=abs)
    except (IndexError, ValueError):
        return not_run(check_id, what, f"chronyc printed {tracking_csv[:100]!r}", source=host)
    return Check(
        id=check_id,
        what=what,
        source=host,
        target=row[1] or "-",
        expected=f"synchronised, off by at most {MAX_OFFSET_SECONDS} s",
        observed=f"stratum {stratum}, off by {offset:+.6f} s, leap status {leap}",
        ok=leap != "Not synchronised" and 0 < stratum < 16 and abs(offset) <= MAX_OFFSET_SECONDS,
    )


def revocation_list(
    host: str, path: str, next_update: dt.datetime | None, now: dt.datetime
) -> Check:
    """Judge a list of revoked certificates by its end; ``None``: it is missing or unreadable."""
    what = "the list of revoked certificates is current"
    check_id = f"trust.crl.{host}.{path.rsplit('/', 1)[-1]}"
    if next_update is None:
        return not_run(check_id, what, f"{path} is missing or unreadable", source=host, target=path)
    return Check(
        id=check_id,
        what=what,
        source=host,
        target=path,
        expected="it has not ended",
        observed=f"it ends {next_update:%Y-%m-%d %H:%M} UTC",
        ok=next_update > now,
    )


_BUSY: Final = "5"
"""Exit status of ``tresor`` while another run holds the lock."""


def timer(host: str, name: str, shown: Mapping[str, str], service: Mapping[str, str]) -> Check:
    """Judge a timer by what systemd shows: enabled, waiting, and its last run good.

    Args:
        host: inventory name.
        name: the timer's name without its ending.
        shown: properties UnitFileState and ActiveState of the timer.
        service: properties Result, ActiveState and ExecMainStatus of the service it starts. One
            that waits for its next try because another run held the lock (verify itself, say)
            has not failed.
    """
    waits = service.get("ActiveState") == "activating" and service.get("ExecMainStatus") == _BUSY
    problems = []
    if shown.get("UnitFileState") != "enabled":
        problems.append(f"the timer is {shown.get('UnitFileState') or 'missing'}")
    if shown.get("ActiveState") != "active":
        problems.append(f"the timer is {shown.get('ActiveState') or 'missing'}")
    if service.get("Result") != "success" and not waits:
        problems.append(f"its last run ended with {service.get('Result') or 'nothing known'}")
    return Check(
        id=f"trust.timer.{name}",
        what=f"the timer {name} runs and its last run was good",
        source=host,
        target=f"{name}.timer",
        expected="enabled, active, last run successful",
        observed="; ".join(problems) or "enabled, active, last run successful",
        ok=not problems,
    )


def backup_age(
    host: str, newest: dt.datetime | None, now: dt.datetime, most: dt.timedelta
) -> Check:
    """Judge the newest backup by its age."""
    return Check(
        id="trust.backup_age",
        what="there is a recent backup",
        source=host,
        target="/var/backups/tresor",
        expected=f"at most {most} old",
        observed="no backup" if newest is None else f"made {newest:%Y-%m-%d %H:%M} UTC",
        ok=newest is not None and now - newest <= most,
    )
