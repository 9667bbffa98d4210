"""One host's proof with fake sockets and rules: what makes it fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tresor.evidence.check import Check
from tresor.probe.exchange import BLOCKED, ERROR, REACHED, REFUSED, SILENT, Outcome
from tresor.probe.judge import judge
from tresor.probe.run import RulesReadError, prove
from tresor.probe.targets import Probe
from tresor.probe.users import Answer

BOOTED = (
    "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\n"
    "ConditionTimestampMonotonic=1234567\n"
)


def make(allowed: bool, *, family: str = "ipv4", reach: bool = False, proto: str = "tcp") -> Probe:
    return Probe("p", "w", allowed, "t", family, "192.0.2.1", proto, 443, "root", reach)


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


@pytest.mark.parametrize(
    ("kind", "ok"), [(BLOCKED, True), (SILENT, False), (REACHED, False), (ERROR, False)]
)
def test_a_silent_datagram_has_left_the_host(kind: str, ok: bool) -> None:
    assert judge(make(False, proto="udp"), Outcome(kind, "d", 0.1), "gpu1").ok is ok


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
        show_unit=lambda: BOOTED,
        run_users=answers,
    )
    flows = [check for check in checks if check.id == "p"]
    assert flows[1].ok is ok


class Host:
    """Counts up by what it is told to at each forbidden batch, by the last of them afterwards."""

    def __init__(self, *rises: int, kind: str = SILENT, seconds: float = 0.7) -> None:
        self.rises = rises
        self.kinds = [kind]
        self.seconds = [seconds]
        self.packets = 100
        self.batches = 0
        self.policy = "DROP"

    def save(self, family: str) -> str:
        if family == "ipv6":
            raise RulesReadError("ip6tables-save is not installed")
        return (
            f"*nat\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n*filter\n:INPUT {self.policy} [0:0]\n"
            ":FORWARD DROP [0:0]\n:OUTPUT DROP [7:0]\n"
            f'[{self.packets}:1] -A OUTPUT -m comment --comment "drop:out" -j DROP\nCOMMIT\n'
        )

    def run_users(self, work: dict[str, Callable[[], Any]], _timeout: float) -> dict[str, Answer]:
        if not work:
            return {}
        kind, seconds, rise = (
            of[min(self.batches, len(of) - 1)] for of in (self.kinds, self.seconds, self.rises)
        )
        self.packets += rise
        self.batches += 1
        return {user: Answer([[kind, "d", seconds]] * 2, None) for user in work}


def all_checks(host: Host, families: list[str], show_unit: Callable[[], str]) -> list[Check]:
    return prove(
        "gpu1",
        families,
        [],
        [make(False), make(False)],
        comment="drop:out",
        timeout=0.7,
        allowed_timeout=1,
        save_rules=host.save,
        show_unit=show_unit,
        run_users=host.run_users,
    )


def counters(host: Host, families: list[str]) -> dict[str, tuple[bool, str]]:
    checks = all_checks(host, families, lambda: BOOTED)
    return {c.id: (c.ok, c.observed) for c in checks if c.id.startswith("network.counter")}


def test_silence_alone_is_no_proof_the_counter_must_rise() -> None:
    host = Host(2)
    assert counters(host, ["ipv4"])["network.counter.gpu1.ipv4"] == (
        True,
        "sent 2, rose by 2 (100 to 102)",
    )
    assert host.batches == 1


@pytest.mark.parametrize("rises", [(1,), (3, 1), (5, 5, 1)])
def test_a_packet_that_was_not_counted_fails_without_another_chance(rises: tuple[int, ...]) -> None:
    host = Host(*rises, 2)
    ok, observed = counters(host, ["ipv4"])["network.counter.gpu1.ipv4"]
    assert not ok
    assert observed.endswith("a packet that had to be dropped was not")
    assert host.batches == len(rises)


def test_other_packets_of_the_host_are_no_proof_and_the_probes_go_out_again() -> None:
    host = Host(3, 2)
    assert counters(host, ["ipv4"])["network.counter.gpu1.ipv4"] == (
        True,
        "sent 2, rose by 3 (100 to 103); again: sent 2, rose by 2 (103 to 105)",
    )
    assert host.batches == 2


def test_a_host_that_never_is_quiet_fails_with_the_numbers() -> None:
    host = Host(3, 4, 5, 2)
    ok, observed = counters(host, ["ipv4"])["network.counter.gpu1.ipv4"]
    assert not ok
    assert observed.startswith("sent 2, rose by 3 (100 to 103); again: sent 2, rose by 4")
    assert "something else on this host sends what the rules drop" in observed
    assert host.batches == 3


def test_a_syn_that_may_have_gone_out_twice_is_no_proof() -> None:
    host = Host(2)
    host.seconds = [1.0, 0.7]
    ok, observed = counters(host, ["ipv4"])["network.counter.gpu1.ipv4"]
    assert ok
    assert observed.startswith("sent 2, rose by 2 (100 to 102), 2 SYN may have been sent twice; ag")
    host.seconds, host.batches = [1.0], 0
    assert not counters(host, ["ipv4"])["network.counter.gpu1.ipv4"][0]


def test_a_probe_that_was_answered_once_has_failed() -> None:
    host = Host(3, 2)
    host.kinds = [REACHED, SILENT]
    probes = [c for c in all_checks(host, ["ipv4"], lambda: BOOTED) if c.id == "p"]
    assert [(c.ok, c.observed) for c in probes] == [(False, "reached: d")] * 2


@pytest.mark.parametrize(("policy", "ok"), [("DROP", True), ("ACCEPT", False)])
def test_the_filter_table_must_drop_what_no_rule_names(policy: str, ok: bool) -> None:
    host = Host(2)
    host.policy = policy
    checks = {c.id: c for c in all_checks(host, ["ipv4"], lambda: BOOTED)}
    assert checks["network.policy.gpu1.ipv4"].ok is ok
    assert checks["network.policy.gpu1.ipv4"].observed == (
        f"INPUT {policy}, FORWARD DROP, OUTPUT DROP"
    )
    # Read on every host: one without an IPv6 address in the plan still has link-local.
    assert checks["network.policy.gpu1.ipv6"].observed == (
        "not run: ip6tables-save is not installed"
    )


def test_the_boot_unit_is_asked_on_every_host() -> None:
    def none() -> str:
        raise RulesReadError("systemctl show ended with 1: no bus")

    for show, ok in (
        (lambda: BOOTED, True),
        (lambda: "LoadState=not-found\n", False),
        (none, False),
    ):
        checks = {c.id: c for c in all_checks(Host(2), ["ipv4"], show)}
        assert checks["network.boot.gpu1"].ok is ok


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
        show_unit=lambda: BOOTED,
        run_users=no_user,
    )
    assert [(c.ok, c.observed) for c in checks if c.id == "p"] == [
        (False, "not run: there is no user root on this host")
    ] * 2
