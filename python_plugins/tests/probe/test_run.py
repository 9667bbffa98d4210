"""One host's proof with fake sockets and rules: what makes it fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tresor.probe.exchange import BLOCKED, ERROR, REACHED, REFUSED, SILENT, Outcome
from tresor.probe.judge import judge
from tresor.probe.run import RulesReadError, prove
from tresor.probe.targets import Probe
from tresor.probe.users import Answer


def make(allowed: bool, *, family: str = "ipv4", reach: bool = False) -> Probe:
    return Probe("p", "w", allowed, "t", family, "192.0.2.1", "tcp", 443, "root", reach)


@pytest.mark.parametrize(
    ("allowed", "kind", "ok"),
    [
        (True, REACHED, True),
        (True, REFUSED, False),
        (True, SILENT, False),
        (False, SILENT, True),
        (False, BLOCKED, True),
        (False, REACHED, False),
        (False, REFUSED, False),
        (False, ERROR, False),
    ],
)
def test_only_the_right_outcome_passes(allowed: bool, kind: str, ok: bool) -> None:
    assert judge(make(allowed), Outcome(kind, "d", 0.1), "gpu1").ok is ok


def test_a_refusal_is_arrival_only_where_no_listener_is_known() -> None:
    assert judge(make(True, reach=True), Outcome(REFUSED, "d", 0.1), "gpu1").ok
    assert not judge(make(True, reach=True), Outcome(SILENT, "d", 0.1), "gpu1").ok


@pytest.mark.parametrize(
    ("other", "kind", "ok"),
    [(REACHED, REFUSED, True), (REFUSED, REFUSED, False), (REACHED, SILENT, False)],
)
def test_a_service_on_one_family_leaves_the_way_of_the_other_to_prove(
    other: str, kind: str, ok: bool
) -> None:
    def answers(work: dict[str, Callable[[], Any]], _timeout: float) -> dict[str, Answer]:
        return {user: Answer([[other, "d", 0.1], [kind, "d", 0.1]], None) for user in work}

    checks = prove(
        "gateway1",
        [],
        [make(True), make(True, family="ipv6")],
        [],
        comment="drop:out",
        timeout=1,
        allowed_timeout=1,
        save_rules=Host(0).save,
        run_users=answers,
    )
    assert checks[1].ok is ok


class Host:
    """Counts up by what it is told to at each forbidden batch."""

    def __init__(self, rise: int, kind: str = SILENT) -> None:
        self.rise = rise
        self.kind = kind
        self.packets = 100

    def save(self, family: str) -> str:
        if family == "ipv6":
            raise RulesReadError("ip6tables-save is not installed")
        return f'[{self.packets}:1] -A OUTPUT -m comment --comment "drop:out" -j DROP\n'

    def run_users(self, work: dict[str, Callable[[], Any]], _timeout: float) -> dict[str, Answer]:
        self.packets += self.rise
        return {user: Answer([[self.kind, "d", 0.1]] * 2, None) for user in work}


def counters(host: Host, families: list[str]) -> dict[str, tuple[bool, str]]:
    checks = prove(
        "gpu1",
        families,
        [],
        [make(False), make(False)],
        comment="drop:out",
        timeout=1,
        allowed_timeout=1,
        save_rules=host.save,
        run_users=host.run_users,
    )
    return {c.id: (c.ok, c.observed) for c in checks if c.id.startswith("network.counter")}


def test_silence_alone_is_no_proof_the_counter_must_rise() -> None:
    assert counters(Host(2), ["ipv4"])["network.counter.gpu1.ipv4"] == (
        True,
        "rose by 2 (100 to 102)",
    )
    assert counters(Host(1), ["ipv4"])["network.counter.gpu1.ipv4"][0] is False


def test_unreadable_rules_fail_the_counter() -> None:
    ok, observed = counters(Host(5), ["ipv6"])["network.counter.gpu1.ipv6"]
    assert (ok, observed) == (False, "not run: ip6tables-save is not installed")


def test_no_forbidden_probe_in_a_family_is_no_proof() -> None:
    class BothFamilies(Host):
        def save(self, family: str) -> str:
            return super().save("ipv4" if family == "ipv6" else family)

    ok, observed = counters(BothFamilies(9), ["ipv6"])["network.counter.gpu1.ipv6"]
    assert not ok
    assert observed == "the plan has no forbidden probe from this host in this family"


def test_a_child_that_failed_fails_all_its_probes() -> None:
    def no_user(work: dict[str, Callable[[], Any]], _timeout: float) -> dict[str, Answer]:
        return {user: Answer(None, f"there is no user {user} on this host") for user in work}

    checks = prove(
        "gpu1",
        [],
        [make(True)],
        [make(False)],
        comment="drop:out",
        timeout=1,
        allowed_timeout=1,
        save_rules=Host(0).save,
        run_users=no_user,
    )
    assert [(c.ok, c.observed) for c in checks] == [
        (False, "not run: there is no user root on this host")
    ] * 2
