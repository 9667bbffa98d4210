"""One host's share of the network proof: forbidden probes, counters around them, flows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..evidence.check import Check, not_run
from .boot import UNIT, judge_boot
from .counters import RulesFormatError, Saved, drop_counter, policies
from .exchange import AT_ONCE, FIRST_RETRANSMISSION, REACHED, Outcome, exchange
from .judge import Attempt, endpoint, judge, judge_counter, judge_policies
from .targets import FAMILIES, Probe
from .users import Answer, run_as_users

SaveRules = Callable[[str], str]
"""Takes a family, returns what iptables-save -c (or ip6tables-save -c) of it prints.

Raises RulesReadError."""

ShowUnit = Callable[[], str]
"""Returns what ``boot.SHOW`` prints. Raises RulesReadError."""

RunAsUsers = Callable[[dict[str, Callable[[], Any]], float], dict[str, Answer]]

_CHILD_MARGIN = 10.0
"""Seconds beyond the probe timeout for the child processes themselves, on a busy host."""


_ATTEMPTS = 3
"""How often the forbidden probes are sent at most, while other packets disturb the counters."""


class RulesReadError(RuntimeError):
    """The rules of a family, or the state of the unit that loads them, could not be read."""


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
    show_unit: ShowUnit,
    run_users: RunAsUsers = run_as_users,
) -> list[Check]:
    """Send all probes of this host; return a check for each, for counters, policies and boot.

    Forbidden probes go first and alone, so that nothing else of ours moves the counters between
    their two readings. What else the host sends can: then they are all sent again. A probe that
    met the wrong thing once has failed, whatever it met in the other attempts.
    """
    checks: list[Check] = []
    counted: dict[str, list[Attempt | str]] = {family: [] for family in families}
    versions: list[list[Check]] = []
    for _ in range(_ATTEMPTS):
        before = {family: _read(save_rules, family, comment) for family in families}
        results = send(forbidden, timeout, run_users)
        after = {family: _read(save_rules, family, comment) for family in families}
        versions.append(_judge(host, results))
        for family in families:
            own = [item for item in results if item[0].family == family]
            counted[family].append(_attempt(own, before[family], after[family]))
        if not any(_again(attempts) for attempts in counted.values()):
            break
    for same in zip(*versions, strict=True):
        checks.append(next((check for check in same if not check.ok), same[-1]))
    checks.extend(_counter_check(host, family, comment, counted[family]) for family in families)
    # Both families on every host: one without an IPv6 address in the plan still has link-local.
    checks.extend(_policy_check(host, family, save_rules, comment) for family in FAMILIES)
    checks.append(_boot_check(host, show_unit))
    return checks + _judge(host, send(allowed, allowed_timeout, run_users))


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


def _judge(host: str, results: Sequence[tuple[Probe, Outcome | str]]) -> list[Check]:
    checks: list[Check] = []
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
    return 1 + max((len(own) for own in by_user.values()), default=0) // AT_ONCE


def _read(save_rules: SaveRules, family: str, comment: str) -> Saved | str:
    try:
        text = save_rules(family)
        return Saved(drop_counter(text, comment), policies(text))
    except (RulesReadError, RulesFormatError) as error:
        return str(error)


def _attempt(
    results: Sequence[tuple[Probe, Outcome | str]], before: Saved | str, after: Saved | str
) -> Attempt | str:
    """Return the numbers of one attempt in one family, or why there are none."""
    if isinstance(before, str):
        return before
    if isinstance(after, str):
        return after
    late = sum(
        1
        for probe, result in results
        if isinstance(result, Outcome)
        and probe.proto == "tcp"
        and result.seconds >= FIRST_RETRANSMISSION
    )
    return Attempt(len(results), before.dropped, after.dropped, late)


def _again(attempts: Sequence[Attempt | str]) -> bool:
    """Say whether this family needs another attempt: all were unclear so far."""
    return all(isinstance(attempt, Attempt) and attempt.unclear for attempt in attempts)


def _counter_check(
    host: str, family: str, comment: str, attempts: Sequence[Attempt | str]
) -> Check:
    reasons = [attempt for attempt in attempts if isinstance(attempt, str)]
    if not reasons:
        good = [attempt for attempt in attempts if isinstance(attempt, Attempt)]
        return judge_counter(host, family, comment, good)
    return not_run(
        f"network.counter.{host}.{family}",
        f"the rule {comment} counted the forbidden packets",
        reasons[0],
        source=host,
        target=f"{family} rules of {host}",
    )


def _policy_check(host: str, family: str, save_rules: SaveRules, comment: str) -> Check:
    saved = _read(save_rules, family, comment)
    if isinstance(saved, Saved):
        return judge_policies(host, family, saved.policies)
    what = "what no rule names is dropped"
    target = f"{family} rules of {host}"
    return not_run(f"network.policy.{host}.{family}", what, saved, source=host, target=target)


def _boot_check(host: str, show_unit: ShowUnit) -> Check:
    try:
        return judge_boot(host, show_unit())
    except RulesReadError as error:
        what = "the firewall is loaded at boot"
        return not_run(f"network.boot.{host}", what, str(error), source=host, target=UNIT)
