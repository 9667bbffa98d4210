"""Ask Prometheus and Alertmanager, with a certificate and without."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..api_check.client import Endpoint, Request, RequestFailed, TlsRefused, call
from ..evidence.check import Check, not_run
from .expected import Target
from .judge import judge_alertmanagers, judge_rules, judge_targets, judge_watchdog

_PAUSE_S = 2.0


def check_refusal(
    host: str, name: str, endpoint: Endpoint, anonymous: ssl.SSLContext, timeout: float
) -> Check:
    """Return the check that ``endpoint`` answers nobody without a certificate."""
    started = time.monotonic()
    refused = False
    try:
        seen = f"answered with HTTP {call(endpoint, _get('/metrics'), anonymous, timeout).status}"
    except TlsRefused as error:
        refused, seen = True, str(error)
    except RequestFailed as error:
        seen = f"not run: {error}"
    return Check(
        id=f"monitoring.refused.{name}.{host}",
        what=f"{name} refuses a client without a certificate",
        source=host,
        target=str(endpoint),
        expected="the TLS session is refused",
        observed=seen,
        ok=refused,
        duration=time.monotonic() - started,
    )


def check_prometheus(
    host: str,
    endpoint: Endpoint,
    certified: ssl.SSLContext,
    expected: Sequence[Target],
    *,
    timeout: float,
    wait: float,
) -> list[Check]:
    """Return the checks of targets, rules, Alertmanager and Watchdog.

    Asks again for ``wait`` seconds while one is not as it should be: after a start, not every
    target has been scraped yet.
    """
    judges: Mapping[str, Callable[[object], list[Check]]] = {
        "targets?state=active": lambda answer: judge_targets(host, expected, answer),
        "rules": lambda answer: [judge_rules(host, answer)],
        "alertmanagers": lambda answer: [judge_alertmanagers(host, answer)],
        "alerts": lambda answer: [judge_watchdog(host, answer)],
    }
    end = time.monotonic() + wait
    while True:
        checks = [
            check
            for path, judge in judges.items()
            for check in _asked(path, judge, host=host, at=(endpoint, certified), timeout=timeout)
        ]
        if all(check.ok for check in checks) or time.monotonic() >= end:
            return checks
        time.sleep(_PAUSE_S)


def _asked(
    path: str,
    judge: Callable[[object], list[Check]],
    *,
    host: str,
    at: tuple[Endpoint, ssl.SSLContext],
    timeout: float,
) -> list[Check]:
    endpoint, context = at
    topic = path.partition("?")[0]
    try:
        answer: Any = call(endpoint, _get(f"/api/v1/{path}"), context, timeout)
    except RequestFailed as error:
        reason = str(error)
    else:
        if answer.status == 200:
            return judge(answer.json())
        reason = f"HTTP {answer.status}"
    name = f"monitoring.{topic}.{host}"
    return [
        not_run(
            name, f"Prometheus answers for its {topic}", reason, source=host, target=str(endpoint)
        )
    ]


def _get(path: str) -> Request:
    return Request("GET", path)
