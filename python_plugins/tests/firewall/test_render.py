"""The rules as text: golden files, and nothing but the flows gets through."""

from __future__ import annotations

import ipaddress
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tresor.firewall.render import render, render_open, render_tracking
from tresor.firewall.rule import Rule, RuleError, parse_rule
from tresor.firewall.saved import filter_table

from .conftest import ROOT, UIDS, Rendered
from .packets import Packet, verdict

GOLDEN = ROOT / "python_plugins/tests/firewall/golden"
SUFFIX = {"ipv4": "v4", "ipv6": "v6"}
TOOL = {"ipv4": "iptables", "ipv6": "ip6tables"}
CHAIN = {"in": "INPUT", "out": "OUTPUT"}


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("host", ["gateway1", "gpu1"])
def test_rules_are_the_golden_ones(rendered: Rendered, host: str, family: str) -> None:
    golden = GOLDEN / f"{host}.{SUFFIX[family]}"

    assert rendered(host, family) == golden.read_text(encoding="utf-8")


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("what", ["host", "tracking", "open"])
def test_kernel_prints_the_rules_as_they_were_written(
    rendered: Rendered, family: str, what: str
) -> None:
    texts = {"host": rendered("gateway1", family), "tracking": render_tracking()}
    text = texts.get(what, render_open())
    script = f"{TOOL[family]}-restore && {TOOL[family]}-save"
    command = ["unshare", "--net", "--", "sh", "-c", script]

    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert filter_table(done.stdout) == filter_table(text)


def expected(rules: list[dict[str, Any]], packet: Packet) -> bool:
    """Say from the plan alone whether a new connection belongs to a flow."""
    for rule in rules:
        first, _, last = rule["ports"].partition(":")
        if (
            CHAIN[rule["direction"]] == packet.chain
            and rule["proto"] == packet.proto
            and ipaddress.ip_address(packet.peer) in ipaddress.ip_network(rule["peer"])
            and int(first) <= packet.port <= int(last or first)
            and (rule["user"] is None or UIDS[rule["user"]] == packet.uid)
        ):
            return True
    return False


PEERS = {
    "ipv4": st.sampled_from([f"198.51.100.{last}" for last in (10, 20, 31, 32, 40, 50, 130, 200)])
    | st.ip_addresses(v=4).map(str),
    "ipv6": st.sampled_from([f"2001:db8:51::{last}" for last in (10, 20, 31, 32, 40, 50)])
    | st.sampled_from(["2001:db8:52::130", "2001:db8:53::10", "fe80::1", "ff02::1"])
    | st.ip_addresses(v=6).map(str),
}
PORTS = st.sampled_from([22, 53, 80, 123, 443, 8099, 8100, 8150, 8199, 8200, 8443, 9100, 19530])
PORTS |= st.integers(1, 65535)


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("host", ["bastion1", "gateway1", "gpu1", "vector1", "ops1"])
@given(data=st.data())
def test_nothing_but_a_flow_is_accepted(
    plan: dict[str, Any], rendered: Rendered, host: str, family: str, data: st.DataObject
) -> None:
    packet = Packet(
        chain=data.draw(st.sampled_from(["INPUT", "OUTPUT", "FORWARD"])),
        peer=data.draw(PEERS[family]),
        proto=data.draw(st.sampled_from(["tcp", "udp"])),
        port=data.draw(PORTS),
        uid=data.draw(st.sampled_from([*UIDS.values(), 33, 1000])),
    )

    target, comment = verdict(rendered(host, family), packet)

    accepted = expected(plan["hosts"][host]["firewall"][family], packet)
    assert target == ("ACCEPT" if accepted else "DROP")
    names = {"INPUT": "drop:in", "OUTPUT": "drop:out", "FORWARD": "drop:forward"}
    assert comment.startswith("flow:") if accepted else comment == names[packet.chain]


@pytest.mark.parametrize("proto", ["icmp", "sctp", "gre", "esp", "112"])
@pytest.mark.parametrize("chain", ["INPUT", "OUTPUT", "FORWARD"])
def test_other_protocols_are_dropped(rendered: Rendered, chain: str, proto: str) -> None:
    text = rendered("bastion1", "ipv4")

    assert verdict(text, Packet(chain, "198.51.100.20", proto, 8))[0] == "DROP"


@pytest.mark.parametrize("chain", ["INPUT", "OUTPUT"])
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_answers_pass_and_invalid_packets_do_not(
    rendered: Rendered, chain: str, family: str
) -> None:
    text, peer = rendered("gpu1", family), "203.0.113.10" if family == "ipv4" else "2001:db8::1"

    def one(state: str) -> tuple[str, str]:
        return verdict(text, Packet(chain, peer, "tcp", 1, state=state))

    assert one("ESTABLISHED") == one("RELATED") == ("ACCEPT", "base:established")
    assert one("INVALID")[0] == "DROP"


def test_ipv6_needs_its_neighbours_and_no_more(rendered: Rendered) -> None:
    text = rendered("gpu1", "ipv6")

    def icmp(chain: str, kind: int, hops: int, peer: str = "fe80::1") -> str:
        return verdict(text, Packet(chain, peer, "ipv6-icmp", kind, hops=hops))[0]

    for chain in ("INPUT", "OUTPUT"):
        assert icmp(chain, 135, 255) == icmp(chain, 136, 255) == "ACCEPT"
        assert icmp(chain, 135, 64) == "DROP"
        assert icmp(chain, 135, 255, "2001:db8:51::20") == "ACCEPT"
        for kind in (128, 129, 133, 134, 137):
            assert icmp(chain, kind, 255) == "DROP"
    # A router would send this one on, whatever its hop limit was at the start.
    assert icmp("OUTPUT", 135, 255, "2001:db8:53::10") == "DROP"
    assert icmp("INPUT", 2, 64, "2001:db8::1") == "ACCEPT"
    assert icmp("OUTPUT", 2, 64, "2001:db8::1") == "DROP"
    assert icmp("OUTPUT", 143, 1, "ff02::16") == "ACCEPT"
    assert icmp("OUTPUT", 143, 1, "2001:db8::1") == "DROP"


def test_policy_drops_even_if_every_rule_were_lost(rendered: Rendered) -> None:
    for line in ("INPUT", "FORWARD", "OUTPUT"):
        assert f":{line} DROP" in rendered("gpu1", "ipv4")


def test_tracking_and_open_rules_drop_nothing() -> None:
    for text in (render_tracking(), render_open()):
        for chain in ("INPUT", "OUTPUT", "FORWARD"):
            assert verdict(text, Packet(chain, "203.0.113.10", "tcp", 443))[0] == "ACCEPT"


def test_unknown_user_is_refused() -> None:
    rule = Rule("time", "out", "udp", "198.51.100.130/32", "123", "_chrony")

    with pytest.raises(RuleError, match=r"'_chrony', whom this host does not have"):
        render([rule], "ipv4", {})


GOOD = {
    "flow": "ssh",
    "direction": "out",
    "proto": "tcp",
    "peer": "198.51.100.10/32",
    "ports": "22",
    "user": None,
}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("flow", 'x" -j ACCEPT\n-A INPUT'),
        ("direction", "forward"),
        ("proto", "icmp"),
        ("peer", "0.0.0.0/0"),
        ("peer", "198.51.100.10/24"),
        ("peer", "2001:db8::/64"),
        ("peer", None),
        ("ports", "22:21"),
        ("ports", "65536"),
        ("ports", "22 -j ACCEPT"),
        ("ports", 22),
        ("user", "root\n"),
        ("user", 0),
    ],
)
def test_rule_that_is_not_well_formed_is_refused(key: str, value: object) -> None:
    assert parse_rule(GOOD, "ipv4")
    with pytest.raises(RuleError, match=r"'x|ssh"):
        parse_rule({**GOOD, key: value}, "ipv4")


def test_rule_with_other_keys_is_refused() -> None:
    with pytest.raises(RuleError, match="exactly the keys"):
        parse_rule({**GOOD, "jump": "ACCEPT"}, "ipv4")


def test_user_on_the_way_in_is_refused() -> None:
    with pytest.raises(RuleError, match="direction out only"):
        parse_rule({**GOOD, "direction": "in", "user": "root"}, "ipv4")
