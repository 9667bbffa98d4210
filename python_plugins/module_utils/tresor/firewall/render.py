"""Render a host's rules as text for iptables-restore and ip6tables-restore.

Pure: rules in, text out. The lines stand in the form in which iptables-save prints them back, so
that a reader can compare the file with the running rules line by line. Everything that no line
accepts is logged (NFLOG, limited) and dropped by a counted rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from .rule import Rule, RuleError

NFLOG_GROUP: Final = 5
"""The group that ulogd listens to; set in the role's ulogd.conf too."""
LOG_RATE: Final = "10/sec"
LOG_BURST: Final = 50
CHAINS: Final = {"INPUT": "in", "FORWARD": "forward", "OUTPUT": "out"}

_SIDE: Final = {"INPUT": "-i", "OUTPUT": "-o"}

_LINK_MANAGEMENT_OUT: Final = (131, 132, 143)
"""MLD reports: a switch that watches them would otherwise stop neighbour discovery."""
_LINK_MANAGEMENT_IN: Final = (130,)
_NEIGHBOUR_DISCOVERY: Final = (135, 136)
"""Solicitation and advertisement. Router messages and redirects stay out: addresses and routes
of a site are fixed."""


def render(
    rules: Iterable[Rule],
    family: str,
    uids: Mapping[str, int],
    link: str | None = None,
    dedicated: Iterable[str] = (),
) -> str:
    """Return the rules of one family, `ipv4` or `ipv6`, as a file of the filter table.

    `uids` maps each user that a rule names to its number on this host; raises RuleError for a
    user that is not in it. `link` is the IPv6 network the host stands in: neighbours in it are
    asked for by their own addresses too. What passes a `dedicated` interface must belong to a rule
    for that interface: other rules do not hold there.
    """
    known = list(dict.fromkeys(rules))
    closed = list(dict.fromkeys(dedicated))
    lines = [
        "*filter",
        *(f":{chain} DROP [0:0]" for chain in CHAINS),
        *_base("INPUT", family, link),
        *_flows("INPUT", known, uids, closed),
        *_rest("INPUT"),
        *_rest("FORWARD"),
        *_base("OUTPUT", family, link),
        *_flows("OUTPUT", known, uids, closed),
        *_rest("OUTPUT"),
        "COMMIT",
    ]
    return "\n".join(lines) + "\n"


def render_tracking() -> str:
    """Return rules that drop nothing and only start connection tracking.

    They are loaded before the first real rules, so that the connections that exist by then are
    known as established. Without them the answer to the very command that loads the rules would
    be the first packet the tracker sees, belong to no flow, and be dropped.
    """
    lines = [
        "*filter",
        *(f":{chain} ACCEPT [0:0]" for chain in CHAINS),
        *(
            f"-A {chain} -m conntrack --ctstate RELATED,ESTABLISHED {_comment('base:tracking')} "
            "-j ACCEPT"
            for chain in ("INPUT", "OUTPUT")
        ),
        "COMMIT",
    ]
    return "\n".join(lines) + "\n"


def render_open() -> str:
    """Return the rules of a host without a firewall: everything is accepted."""
    return "\n".join(["*filter", *(f":{chain} ACCEPT [0:0]" for chain in CHAINS), "COMMIT", ""])


def _base(chain: str, family: str, link: str | None) -> Iterator[str]:
    """Yield what every host needs whatever its flows are."""
    where = CHAINS[chain]
    yield f"-A {chain} {_SIDE[chain]} lo {_comment('base:loopback')} -j ACCEPT"
    yield from _path_mtu(chain, family)
    if family == "ipv6":
        yield from (_link_in() if chain == "INPUT" else _link_out(link))
    yield f"-A {chain} -m conntrack --ctstate INVALID {_comment(f'drop:{where}-invalid')} -j DROP"
    yield (
        f"-A {chain} -m conntrack --ctstate RELATED,ESTABLISHED {_comment('base:established')} "
        "-j ACCEPT"
    )


def _path_mtu(chain: str, family: str) -> Iterator[str]:
    """Yield the one ICMP error that must arrive even when the tracker has lost the connection."""
    if chain != "INPUT":
        return
    if family == "ipv4":
        yield f"-A INPUT -p icmp -m icmp --icmp-type 3/4 {_comment('base:path-mtu')} -j ACCEPT"
    else:
        error = "-p ipv6-icmp -m icmp6 --icmpv6-type 2"
        yield f"-A INPUT {error} {_comment('base:path-mtu')} -j ACCEPT"


def _link_in() -> Iterator[str]:
    """Yield what IPv6 needs from the link: a hop limit of 255 proves that no router sent it on."""
    for kind in _NEIGHBOUR_DISCOVERY:
        yield f"-A INPUT {_icmp6(kind, 255)} {_comment('base:neighbour')} -j ACCEPT"
    for kind in _LINK_MANAGEMENT_IN:
        yield f"-A INPUT -s fe80::/10 {_icmp6(kind, 1)} {_comment('base:multicast')} -j ACCEPT"


def _link_out(link: str | None) -> Iterator[str]:
    """Yield what IPv6 needs on the link.

    Only for addresses on the link: a router would send a solicitation with another address on,
    and it could carry anything out.
    """
    targets = ["ff02::/16", "fe80::/10", *([link] if link else [])]
    for kind in _NEIGHBOUR_DISCOVERY:
        for target in targets:
            yield (
                f"-A OUTPUT -d {target} {_icmp6(kind, 255)} {_comment('base:neighbour')} -j ACCEPT"
            )
    for kind in _LINK_MANAGEMENT_OUT:
        yield f"-A OUTPUT -d ff02::/16 {_icmp6(kind, 1)} {_comment('base:multicast')} -j ACCEPT"


def _icmp6(kind: int, hops: int) -> str:
    return f"-p ipv6-icmp -m icmp6 --icmpv6-type {kind} -m hl --hl-eq {hops}"


def _flows(
    chain: str, rules: Iterable[Rule], uids: Mapping[str, int], closed: Iterable[str]
) -> Iterator[str]:
    """Yield the flows of a chain: those of an interface first, so that it can be closed."""
    here = [rule for rule in rules if rule.direction == CHAINS[chain]]
    yield from (_flow_line(rule, uids) for rule in here if rule.interface is not None)
    for name in closed:
        yield from _rest(chain, name)
    yield from (_flow_line(rule, uids) for rule in here if rule.interface is None)


def _flow_line(rule: Rule, uids: Mapping[str, int]) -> str:
    chain, end = ("INPUT", "-s") if rule.direction == "in" else ("OUTPUT", "-d")
    where = "" if rule.interface is None else f"{_SIDE[chain]} {rule.interface} "
    return (
        f"-A {chain} {end} {rule.peer} {where}-p {rule.proto} -m {rule.proto} --dport {rule.ports}"
        f"{_owner(rule, uids)} -m conntrack --ctstate NEW {_comment(f'flow:{rule.flow}')} -j ACCEPT"
    )


def _owner(rule: Rule, uids: Mapping[str, int]) -> str:
    if rule.user is None:
        return ""
    if rule.user not in uids:
        raise RuleError(
            f"the flow {rule.flow!r} is for the user {rule.user!r}, whom this host does not have; "
            "create the user first, or change user of the flow in flows.yml"
        )
    return f" -m owner --uid-owner {uids[rule.user]}"


def _rest(chain: str, interface: str | None = None) -> Iterator[str]:
    """Yield the end of a chain, or of one interface in it: log within limits, count, drop."""
    name = f"drop:{CHAINS[chain]}"
    where = f"-A {chain}" if interface is None else f"-A {chain} {_SIDE[chain]} {interface}"
    yield (
        f"{where} -m limit --limit {LOG_RATE} --limit-burst {LOG_BURST} "
        f'-j NFLOG --nflog-prefix "{name}" --nflog-group {NFLOG_GROUP}'
    )
    yield f"{where} {_comment(name)} -j DROP"


def _comment(text: str) -> str:
    return f'-m comment --comment "{text}"'
