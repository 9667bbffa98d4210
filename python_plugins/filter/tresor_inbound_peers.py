# SPDX-License-Identifier: Apache-2.0
"""Ansible filter: who may open connections to ports of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
---
name: tresor_inbound_peers
short_description: Peers that the plan lets in on certain ports
description:
  - Returns the peers of those inbound TCP rules of a host whose ports cover one of the given
    ports, each once, in the order of the rules.
positional: _input, ports
options:
  _input:
    description:
      - Firewall rules of a host from the plan, each with C(direction), C(proto), C(ports) and
        C(peer).
    type: list
    elements: dict
    required: true
  ports:
    description: The ports of a service.
    type: list
    elements: int
    required: true
author: Tresor
"""

EXAMPLES = r"""
- name: Show who may talk to the engines of this host
  ansible.builtin.debug:
    msg: "{{ tresor_plan.hosts['gpu1'].firewall.ipv4 | tresor_inbound_peers([8100, 8101]) }}"
"""

RETURN = r"""
_value:
  description: The peers, as networks.
  type: list
  elements: str
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any


def tresor_inbound_peers(rules: Iterable[Mapping[str, Any]], ports: Iterable[int]) -> list[str]:
    """Return the peers of the inbound TCP rules that cover one of ``ports``."""
    wanted = [int(port) for port in ports]
    peers = [
        str(rule["peer"])
        for rule in rules
        if rule["direction"] == "in"
        and rule["proto"] == "tcp"
        and any(_covers(str(rule["ports"]), port) for port in wanted)
    ]
    return list(dict.fromkeys(peers))


def _covers(ports: str, port: int) -> bool:
    first, _, last = ports.partition(":")
    return int(first) <= port <= int(last or first)


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"tresor_inbound_peers": tresor_inbound_peers}
