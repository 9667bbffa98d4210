"""Turn outcomes and counters into checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..evidence.check import Check
from .counters import DropCounter
from .exchange import BLOCKED, REACHED, REFUSED, SILENT, Outcome
from .targets import Probe

CLOSED_CHAINS = ("INPUT", "FORWARD", "OUTPUT")


@dataclass(frozen=True)
class Attempt:
    """One sending of all forbidden probes of a family, with the counters around it."""

    sent: int
    before: DropCounter
    after: DropCounter
    late: int = 0
    """TCP sockets that were open so long that their SYN may have been sent again."""

    @property
    def rose(self) -> int:
        """Return by how many packets the dropping rules counted up."""
        return self.after.packets - self.before.packets

    @property
    def exact(self) -> bool:
        """Say whether each probe was dropped: one packet sent for each, all of them counted."""
        return self.sent > 0 and self.after.rules > 0 and self.rose == self.sent and not self.late

    @property
    def unclear(self) -> bool:
        """Say whether another attempt can tell more.

        With a surplus, or a SYN that may have gone out twice, a packet that left could hide behind
        one that does not belong to a probe. Fewer than sent is clear: one was not dropped.
        """
        return not self.exact and self.sent > 0 and self.after.rules > 0 and self.rose >= self.sent

    def __str__(self) -> str:
        """Return the numbers as the report shows them."""
        text = f"sent {self.sent}, rose by {self.rose} ({self.before.packets} to "
        text += f"{self.after.packets})"
        return f"{text}, {self.late} SYN may have been sent twice" if self.late else text


def judge(probe: Probe, outcome: Outcome, host: str, *, served: bool = False) -> Check:
    """Say whether the outcome is the one the matrix wants.

    An error such as "no route" is no proof that a rule dropped anything, so it fails a forbidden
    probe; so does a refusal, which somebody answered. When this host's own rules drop a datagram,
    the sender is told (EPERM): silence on UDP means that it left. A dropped SYN is not told, so
    there silence passes, and the counter proves the drop.

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
        expected, good = dropped_here(probe.proto)
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


def dropped_here(proto: str) -> tuple[str, set[str]]:
    """Return how to say that the sender's own rules drop a probe, and the outcomes that fit."""
    if proto == "udp":
        return "this host's own rules refuse to send it", {BLOCKED}
    return "dropped without an answer", {SILENT, BLOCKED}


def judge_counter(host: str, family: str, comment: str, attempts: Sequence[Attempt]) -> Check:
    """Say whether the dropping rules counted exactly the packets that had to be dropped.

    One exact attempt is the proof; a single one that counted fewer than were sent refutes it.
    """
    last = attempts[-1]
    short = any(item.rose < item.sent for item in attempts)
    ok = not short and any(item.exact for item in attempts)
    if not last.sent:
        observed = "the plan has no forbidden probe from this host in this family"
    elif not last.after.rules:
        observed = f"no DROP rule has the comment {comment}"
    else:
        observed = "; again: ".join(map(str, attempts))
        if short:
            observed += "; a packet that had to be dropped was not"
        elif not ok:
            observed += (
                "; something else on this host sends what the rules drop: "
                f"find it in the log of {comment}, stop it, and verify again"
            )
    return Check(
        id=f"network.counter.{host}.{family}",
        what=f"the rule {comment} counted the forbidden packets",
        source=host,
        target=f"{family} rules of {host}",
        expected=f"the counter rises by exactly {max(1, last.sent)}",
        observed=observed,
        ok=ok,
    )


def judge_policies(host: str, family: str, policies: Mapping[str, str]) -> Check:
    """Say whether the filter table drops what no rule names."""
    seen = {chain: policies.get(chain, "none") for chain in CLOSED_CHAINS}
    return Check(
        id=f"network.policy.{host}.{family}",
        what="what no rule names is dropped",
        source=host,
        target=f"{family} rules of {host}",
        expected=f"policy DROP of {', '.join(CLOSED_CHAINS)}",
        observed=", ".join(f"{chain} {policy}" for chain, policy in seen.items()),
        ok=set(seen.values()) == {"DROP"},
    )


def endpoint(probe: Probe) -> str:
    """Return target, address and port as one reads them."""
    address = f"[{probe.address}]" if probe.family == "ipv6" else probe.address
    return f"{probe.target} {probe.proto} {address}:{probe.port}"
