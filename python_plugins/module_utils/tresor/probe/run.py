"""One host's share of the network proof: forbidden probes, counters around them, flows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..evidence.check import Check, not_run
from .counters import DropCounter, RulesFormatError, drop_counter
from .exchange import REACHED, Outcome, exchange
from .judge import endpoint, judge, judge_counter
from .targets import Probe
from .users import Answer, run_as_users

SaveRules = Callable[[str], str]
"""Takes a family, returns what iptables-save -c (or ip6tables-save -c) of it prints.

Raises RulesReadError."""

RunAsUsers = Callable[[dict[str, Callable[[], Any]], float], dict[str, Answer]]

_CHILD_MARGIN = 10.0
"""Seconds beyond the probe timeout for the child processes themselves, on a busy host."""


class RulesReadError(RuntimeError):
    """The rules of a family could not be read."""


def prove(
    host: str,
    families: Sequence[str],
    allowed: Sequence[Probe],
    forbidden: Sequence[Probe],
    *,
    comment: str,
    timeout: float,
    allowed_timeout: float,
    save_rules: SaveRules,
    run_users: RunAsUsers = run_as_users,
) -> list[Check]:
    """Send all probes of this host and return one check for each, and one for each counter.

    Forbidden probes go first and alone, so that nothing else of ours moves the counters between
    their two readings.
    """
    before = {family: _read(save_rules, family, comment) for family in families}
    checks = _send(host, forbidden, timeout, run_users)
    after = {family: _read(save_rules, family, comment) for family in families}
    for family in families:
        sent = sum(1 for probe in forbidden if probe.family == family)
        checks.append(
            _counter_check(
                host, family, comment, sent=sent, before=before[family], after=after[family]
            )
        )
    checks.extend(_send(host, allowed, allowed_timeout, run_users))
    return checks


def send(
    probes: Sequence[Probe], timeout: float, run_users: RunAsUsers = run_as_users
) -> list[tuple[Probe, Outcome | str]]:
    """Send each probe as its user; the answer is an outcome, or the reason why there is none."""
    by_user: dict[str, list[Probe]] = {}
    for probe in probes:
        by_user.setdefault(probe.user, []).append(probe)
    answers = run_users(
        {user: functools.partial(_in_child, own, timeout) for user, own in by_user.items()},
        _groups(by_user) * timeout + _CHILD_MARGIN,
    )
    results: list[tuple[Probe, Outcome | str]] = []
    for user, own in by_user.items():
        answer = answers[user]
        if answer.error is not None or len(answer.value) != len(own):
            reason = answer.error or "the child process answered for other probes"
            results.extend((probe, reason) for probe in own)
            continue
        results.extend(
            (probe, Outcome(*fields)) for probe, fields in zip(own, answer.value, strict=True)
        )
    return results


def _send(host: str, probes: Sequence[Probe], timeout: float, run_users: RunAsUsers) -> list[Check]:
    checks: list[Check] = []
    results = send(probes, timeout, run_users)
    served = {
        _service(probe)
        for probe, result in results
        if isinstance(result, Outcome) and result.kind == REACHED
    }
    for probe, result in results:
        if isinstance(result, Outcome):
            checks.append(judge(probe, result, host, served=_service(probe) in served))
        else:
            source = f"{host} as {probe.user}"
            target = endpoint(probe)
            checks.append(not_run(probe.id, probe.what, result, source=source, target=target))
    return checks


def _service(probe: Probe) -> tuple[str, str, int, str]:
    """Return what the probes of one service over both families have in common."""
    return probe.target, probe.proto, probe.port, probe.user


def _in_child(probes: Sequence[Probe], timeout: float) -> list[list[str | float]]:
    return [outcome.as_list() for outcome in exchange(probes, timeout)]


def _groups(by_user: dict[str, list[Probe]]) -> int:
    """Return how many waiting periods the busiest child needs."""
    return 1 + max((len(own) for own in by_user.values()), default=0) // 200


def _read(save_rules: SaveRules, family: str, comment: str) -> DropCounter | str:
    try:
        return drop_counter(save_rules(family), comment)
    except (RulesReadError, RulesFormatError) as error:
        return str(error)


def _counter_check(
    host: str,
    family: str,
    comment: str,
    *,
    sent: int,
    before: DropCounter | str,
    after: DropCounter | str,
) -> Check:
    if isinstance(before, DropCounter) and isinstance(after, DropCounter):
        return judge_counter(host, family, comment, sent=sent, before=before, after=after)
    reason = before if isinstance(before, str) else after
    return not_run(
        f"network.counter.{host}.{family}",
        f"the rule {comment} counted the forbidden packets",
        str(reason),
        source=host,
        target=f"{family} rules of {host}",
    )
