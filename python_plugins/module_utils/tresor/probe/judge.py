"""Turn outcomes and counters into checks."""

from __future__ import annotations

from ..evidence.check import Check
from .counters import DropCounter
from .exchange import BLOCKED, REACHED, REFUSED, SILENT, Outcome
from .targets import Probe


def judge(probe: Probe, outcome: Outcome, host: str) -> Check:
    """Say whether the outcome is the one the matrix wants.

    An error such as "no route" is no proof that a rule dropped anything, so it fails a forbidden
    probe; so does a refusal, which somebody answered.
    """
    if probe.allowed:
        good = {REACHED, REFUSED} if probe.refusal_is_reach else {REACHED}
        expected = "the target answers"
        if probe.refusal_is_reach:
            expected = "the target answers or refuses (no listener is planned there)"
    else:
        good = {SILENT, BLOCKED}
        expected = "dropped without an answer"
    return Check(
        id=probe.id,
        what=probe.what,
        source=f"{host} as {probe.user}",
        target=endpoint(probe),
        expected=expected,
        observed=f"{outcome.kind}: {outcome.detail}",
        ok=outcome.kind in good,
        duration=outcome.seconds,
    )


def judge_counter(
    host: str, family: str, comment: str, *, sent: int, before: DropCounter, after: DropCounter
) -> Check:
    """Say whether the dropping rules counted at least the packets that had to be dropped."""
    rose = after.packets - before.packets
    if not sent:
        observed = "the plan has no forbidden probe from this host in this family"
    elif not after.rules:
        observed = f"no DROP rule has the comment {comment}"
    else:
        observed = f"rose by {rose} ({before.packets} to {after.packets})"
    return Check(
        id=f"network.counter.{host}.{family}",
        what=f"the rule {comment} counted the forbidden packets",
        source=host,
        target=f"{family} rules of {host}",
        expected=f"the counter rises by at least {max(1, sent)}",
        observed=observed,
        ok=after.rules > 0 and sent > 0 and rose >= sent,
    )


def endpoint(probe: Probe) -> str:
    """Return target, address and port as one reads them."""
    address = f"[{probe.address}]" if probe.family == "ipv6" else probe.address
    return f"{probe.target} {probe.proto} {address}:{probe.port}"
