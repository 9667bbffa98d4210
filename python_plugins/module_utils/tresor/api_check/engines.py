"""Ask the engines directly from a gateway: closed without a client certificate, open with one."""

from __future__ import annotations

import functools
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..evidence.check import Check, not_run
from ..probe.users import Answer, run_as_users
from .client import Endpoint, Request, RequestFailed, TlsRefused, call
from .metrics import MetricMissing, total

METRICS = Request("GET", "/metrics")
_CHILD_MARGIN = 10.0


def engine_endpoints(
    instances: Sequence[Mapping[str, Any]], hosts: Mapping[str, Mapping[str, Any]]
) -> dict[str, Endpoint]:
    """Return where each instance listens, by its id."""
    found: dict[str, Endpoint] = {}
    for item in instances:
        host = hosts[item["host"]]
        address = host.get("ipv4") or host["ipv6"]
        found[item["id"]] = Endpoint(host["fqdn"], address, int(item["port"]))
    return found


def check_engines(
    host: str,
    user: str,
    endpoints: Mapping[str, Endpoint],
    *,
    anonymous: ssl.SSLContext,
    certified: ssl.SSLContext,
    timeout: float,
    run_users: Callable[[Mapping[str, Callable[[], Any]], float], dict[str, Answer]] = run_as_users,
) -> tuple[list[Check], dict[str, float]]:
    """Return the checks, and how many requests each engine has served so far.

    The requests run as the service user, the only one the firewall lets through; the keys are
    already in the contexts, so that user need not be able to read them.
    """
    work = functools.partial(_ask_all, endpoints, anonymous, certified, timeout)
    answer = run_users({user: work}, len(endpoints) * 2 * timeout + _CHILD_MARGIN)[user]
    if answer.error is not None:
        reason = answer.error
        ids = endpoints
        return [_missing(instance, host, reason, endpoints[instance]) for instance in ids], {}
    checks: list[Check] = []
    served: dict[str, float] = {}
    for instance, (refusal, metrics) in answer.value.items():
        endpoint = endpoints[instance]
        checks.append(_check_refusal(instance, host, user, endpoint, refusal))
        checks.append(_check_metrics(instance, host, user, endpoint, metrics))
        if metrics["served"] is not None:
            served[instance] = metrics["served"]
    return checks, served


def _ask_all(
    endpoints: Mapping[str, Endpoint],
    anonymous: ssl.SSLContext,
    certified: ssl.SSLContext,
    timeout: float,
) -> dict[str, Any]:
    return {
        instance: [_without(endpoint, anonymous, timeout), _with(endpoint, certified, timeout)]
        for instance, endpoint in endpoints.items()
    }


def _without(endpoint: Endpoint, context: ssl.SSLContext, timeout: float) -> dict[str, Any]:
    started = time.monotonic()
    refused = False
    try:
        response = call(endpoint, METRICS, context, timeout)
        seen = f"answered with HTTP {response.status}"
    except TlsRefused as error:
        refused, seen = True, str(error)
    except RequestFailed as error:
        seen = f"not run: {error}"
    return {"ok": refused, "seen": seen, "seconds": time.monotonic() - started}


def _with(endpoint: Endpoint, context: ssl.SSLContext, timeout: float) -> dict[str, Any]:
    started = time.monotonic()
    served: float | None = None
    try:
        response = call(endpoint, METRICS, context, timeout)
        seen = f"HTTP {response.status}"
        if response.status == 200:
            served = total(response.body.decode("utf-8", "replace"))
            seen += f", {served:g} requests served so far"
    except (RequestFailed, MetricMissing) as error:
        seen = f"not run: {error}"
    return {"served": served, "seen": seen, "seconds": time.monotonic() - started}


def _check_refusal(
    instance: str, host: str, user: str, endpoint: Endpoint, refusal: Mapping[str, Any]
) -> Check:
    return Check(
        id=f"engine.{instance}.{host}.anonymous",
        what="the engine refuses a client without a certificate",
        source=f"{host} as {user}",
        target=str(endpoint),
        expected="the TLS session is refused",
        observed=refusal["seen"],
        ok=refusal["ok"],
        duration=refusal["seconds"],
    )


def _check_metrics(
    instance: str, host: str, user: str, endpoint: Endpoint, metrics: Mapping[str, Any]
) -> Check:
    return Check(
        id=f"engine.{instance}.{host}.certified",
        what="the engine answers the gateway's certificate",
        source=f"{host} as {user}",
        target=str(endpoint),
        expected="HTTP 200 with its request counter",
        observed=metrics["seen"],
        ok=metrics["served"] is not None,
        duration=metrics["seconds"],
    )


def _missing(instance: str, host: str, reason: str, endpoint: Endpoint) -> Check:
    return not_run(
        f"engine.{instance}.{host}",
        "the engine answers the gateway's certificate and no other client",
        reason,
        source=host,
        target=str(endpoint),
    )
