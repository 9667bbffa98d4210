"""A small reader of rules files that says what becomes of one packet.

It knows only the matches that our rules use and fails for any other, so that a new kind of rule
cannot pass a test unread.
"""

from __future__ import annotations

import ipaddress
import shlex
from dataclasses import dataclass


@dataclass(frozen=True)
class Packet:
    """The first packet of a connection (or an ICMP message, with its type as the port)."""

    chain: str
    peer: str
    proto: str
    port: int
    uid: int = 0
    state: str = "NEW"
    loopback: bool = False
    hops: int = 64


def verdict(text: str, packet: Packet) -> tuple[str, str]:
    """Return (ACCEPT or DROP, comment of the rule that decided)."""
    policy = "?"
    for line in text.splitlines():
        if line.startswith(f":{packet.chain} "):
            policy = line.split()[1]
        if not line.startswith(f"-A {packet.chain} "):
            continue
        words = shlex.split(line)[2:]
        matched, comment, target = _match(words, packet)
        if matched and target != "NFLOG":
            return target, comment
    return policy, "policy"


def _match(words: list[str], packet: Packet) -> tuple[bool, str, str]:
    matched, comment, target = True, "", ""
    icmp = packet.proto in ("icmp", "ipv6-icmp")
    while words:
        option, value = words.pop(0), words.pop(0)
        if option in ("-i", "-o"):
            matched &= packet.loopback and value == "lo"
        elif option in ("-s", "-d"):
            peer, network = ipaddress.ip_address(packet.peer), ipaddress.ip_network(value)
            matched &= peer.version == network.version and peer in network
        elif option == "-p":
            matched &= packet.proto == value
        elif option == "--dport":
            first, _, last = value.partition(":")
            matched &= not icmp and int(first) <= packet.port <= int(last or first)
        elif option in ("--icmp-type", "--icmpv6-type"):
            matched &= icmp and packet.port == int(value.partition("/")[0])
        elif option == "--hl-eq":
            matched &= packet.hops == int(value)
        elif option == "--ctstate":
            matched &= packet.state in value.split(",")
        elif option == "--uid-owner":
            matched &= packet.uid == int(value)
        elif option == "--comment":
            comment = value
        elif option == "-j":
            target = value
        elif option not in ("-m", "--limit", "--limit-burst", "--nflog-prefix", "--nflog-group"):
            raise AssertionError(f"unknown option {option} in the rules")
    return matched, comment, target
