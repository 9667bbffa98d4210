"""From the flow matrix to the rules of one host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ..firewall.rule import Rule
from .matrix import Flow, Peer


def host_rules(host: str, flows: Iterable[Flow], family: str) -> tuple[Rule, ...]:
    """Return the rules of a host for `ipv4` or `ipv6`, in the order of the matrix.

    A flow of a host with itself needs no rule: it never leaves the loopback interface.
    """
    rules: dict[Rule, None] = {}
    for flow in flows:
        for own in (peer for peer in flow.sources if peer.name == host):
            for network in _others(host, flow.targets, family):
                rule = Rule(flow.name, "out", flow.proto, network, flow.ports, flow.user)
                rules[replace(rule, interface=own.interface)] = None
        for own in (peer for peer in flow.targets if peer.name == host):
            for network in _others(host, flow.sources, family):
                rule = Rule(flow.name, "in", flow.proto, network, flow.ports, None)
                rules[replace(rule, interface=own.interface)] = None
    return tuple(rules)


def _others(host: str, peers: Iterable[Peer], family: str) -> Iterator[str]:
    for peer in peers:
        network = peer.network(family)
        if peer.name != host and network is not None:
            yield str(network)
