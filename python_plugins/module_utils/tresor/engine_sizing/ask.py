"""Ask a running engine: its metrics over mutual TLS, and the log of its present start."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..api_check.client import Endpoint, Request, RequestFailed, call
from .log import parse_log
from .metrics import parse_metrics
from .observed import Observed, first_known

Run = Callable[[Sequence[str]], tuple[int, str]]
"""Runs a command and returns exit status and output."""


@dataclass(frozen=True)
class Asked:
    """What was observed, and what could not be asked."""

    observed: Observed
    problems: tuple[str, ...]


def ask_engine(
    unit: str, endpoint: Endpoint, context: ssl.SSLContext, run: Run, timeout: float
) -> Asked:
    """Return the engine's figures: from its metrics, and where they are silent, from its log."""
    problems: list[str] = []
    told = Observed()
    try:
        answer = call(endpoint, Request("GET", "/metrics"), context, timeout)
        if answer.status == 200:
            told = parse_metrics(answer.body.decode("utf-8", errors="replace"))
        else:
            problems.append(f"{endpoint}/metrics answered with HTTP {answer.status}")
    except RequestFailed as error:
        problems.append(f"{endpoint}/metrics: {error}")
    text, problem = start_log(unit, run)
    if problem:
        problems.append(problem)
    return Asked(first_known([told, parse_log(text)]), tuple(problems))


def start_log(unit: str, run: Run) -> tuple[str, str]:
    """Return the log of the unit's present start, and why there is none."""
    status, shown = run(("systemctl", "show", "--property=InvocationID", "--value", unit))
    invocation = shown.strip()
    if status != 0 or not invocation:
        return "", f"systemd knows no start of {unit}"
    command = ("journalctl", "--no-pager", "--output=cat", f"_SYSTEMD_INVOCATION_ID={invocation}")
    status, text = run(command)
    if status != 0:
        return "", f"journalctl ended with status {status} for {unit}"
    return text, ""
