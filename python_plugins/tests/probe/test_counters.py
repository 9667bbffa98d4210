"""Counters and comparison, on what iptables-save really wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from tresor.probe.counters import (
    DropCounter,
    RulesFormatError,
    drop_counter,
    policies,
    without_counters,
)

DATA = Path(__file__).parent / "data"


def saved(family: str) -> str:
    return (DATA / f"iptables-nft-1.8.9.{family}").read_text()


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_only_the_dropping_rule_with_the_comment_counts(family: str) -> None:
    counter = drop_counter(saved(family), "drop:out")
    line = next(x for x in saved(family).splitlines() if '"drop:out" -j DROP' in x)
    assert counter == DropCounter(1, int(line[1 : line.index(":")]))
    assert counter.packets > 0


def test_a_comment_that_no_rule_has_counts_no_rule() -> None:
    assert drop_counter(saved("v4"), "drop:none") == DropCounter(0, 0)


def test_counters_of_several_chains_are_summed() -> None:
    text = '[3:1] -A A -m comment --comment "drop:out" -j DROP\n'
    assert drop_counter(text + text.replace("[3:1]", "[4:9]"), "drop:out") == DropCounter(2, 7)


def test_rules_saved_without_counters_are_refused() -> None:
    with pytest.raises(RulesFormatError, match="save with -c"):
        drop_counter("-A OUTPUT -j DROP\n", "drop:out")


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_policies_are_those_of_the_filter_table(family: str) -> None:
    nat = "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n"
    expected = {"INPUT": "DROP", "FORWARD": "DROP", "OUTPUT": "DROP"}
    assert policies(nat + saved(family)) == policies(saved(family) + nat) == expected


def test_counters_and_dates_do_not_make_rules_different() -> None:
    text = saved("v4")
    later = text.replace("[0:0]", "[77:8888]").replace("# Generated", "# At another time")
    assert without_counters(text) == without_counters(later)


@pytest.mark.parametrize(
    ("old", "new"),
    [(":OUTPUT DROP", ":OUTPUT ACCEPT"), ("--dport 8443", "--dport 8444"), ("-j NFLOG", "-j LOG")],
)
def test_a_changed_rule_or_policy_makes_a_difference(old: str, new: str) -> None:
    text = saved("v4")
    assert old in text
    assert without_counters(text) != without_counters(text.replace(old, new))
