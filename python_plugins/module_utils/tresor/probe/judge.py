"""Turn outcomes and counters into checks."""

from __future__ import annotations

from ..evidence.check import Check
from .counters import DropCounter
from .exchange import BLOCKED, REACHED, REFUSED, SILENT, Outcome
from .targets import Probe


def judge(probe: Probe, outcome: Outcome, host: str, *, served: bool = False) -> Check:
    """Say whether the outcome is the one the matrix wants.

    An error such as "no route" is no proof that a rule dropped anything, so it fails a forbidden
    probe; so does a refusal, which somebody answered.

    On an allowed flow a refusal comes from the target's kernel (the site's rules drop, they never
    reject), so the way is open but nothing listens. That passes only where nothing is planned to
    listen, or where the same service is ``served`` over the other address family.
    """
    if probe.allowed:
        expected, good = "the target answers", {REACHED}
        if probe.refusal_is_reach:
            expected = "the target answers or refuses: no listener is planned there"
            good = {REACHED, REFUSED}
        elif served and outcome.kind == REFUSED:
            expected = "the way is open; the service listens on the other address family"
            good = {REFUSED}
    else:
        expected, good = "dropped without an answer", {SILENT, BLOCKED}
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
