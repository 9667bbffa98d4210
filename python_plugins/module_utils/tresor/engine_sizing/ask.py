"""Ask a running engine: its metrics over mutual TLS, and the log of its present start."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ..api_check.client import Endpoint, Request, RequestFailed, call
from .log import parse_log
from .metrics import parse_metrics
from .observed import Observed

Run = Callable[[Sequence[str]], tuple[int, str]]
"""Runs a command and returns exit status and output."""


START_S: Final = 7200
"""Seconds within which an engine has told its figures; later lines are about requests."""


@dataclass(frozen=True)
class Start:
    """The present start of a unit: systemd's id of it, and when it began (Unix time)."""

    invocation: str
    began: int


@dataclass(frozen=True)
class Asked:
    """What was observed, and what could not be asked."""

    observed: Observed
    problems: tuple[str, ...]


def ask_metrics(endpoint: Endpoint, context: ssl.SSLContext, timeout: float) -> Asked:
    """Return what the engine's metrics tell."""
    try:
        answer = call(endpoint, Request("GET", "/metrics"), context, timeout)
    except RequestFailed as error:
        return Asked(Observed(), (f"{endpoint}/metrics: {error}",))
    if answer.status != 200:
        return Asked(Observed(), (f"{endpoint}/metrics answered with HTTP {answer.status}",))
    return Asked(parse_metrics(answer.body.decode("utf-8", errors="replace")), ())


def present_start(unit: str, run: Run) -> Start | None:
    """Return the unit's present start; None if systemd knows none."""
    status, shown = run(
        ("systemctl", "show", "--timestamp=unix",
         "--property=InvocationID", "--property=InactiveExitTimestamp", unit)
    )  # fmt: skip
    values = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    began = values.get("InactiveExitTimestamp", "").removeprefix("@")
    if status != 0 or not values.get("InvocationID") or not began.isdecimal():
        return None
    return Start(values["InvocationID"], int(began))


def ask_log(unit: str, start: Start, run: Run) -> Asked:
    """Return what the log of that start tells."""
    status, text = run(
        ("journalctl", "--no-pager", "--output=cat", f"--until=@{start.began + START_S}",
         f"_SYSTEMD_INVOCATION_ID={start.invocation}")
    )  # fmt: skip
    if status != 0:
        return Asked(Observed(), (f"journalctl ended with status {status} for {unit}",))
    return Asked(parse_log(text), ())
