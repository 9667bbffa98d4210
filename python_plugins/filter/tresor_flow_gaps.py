#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible filter: targets that no flow of the matrix lets a host reach."""

from __future__ import annotations

DOCUMENTATION = r"""
---
name: tresor_flow_gaps
short_description: Targets that the flow matrix does not allow
description:
  - Returns those targets that no TCP flow of the plan lets a user of a host reach, as
    C(name:port) with the job in brackets, each once. What lies on the host itself needs no flow.
positional: _input, flows, source, user
options:
  _input:
    description: Targets, each with C(job), C(host), C(name) and C(port).
    type: list
    elements: dict
    required: true
  flows:
    description: Flows of the plan, each with C(proto), C(ports), C(user), C(from) and C(to).
    type: list
    elements: dict
    required: true
  source:
    description: The host that opens the connections, by its inventory name.
    type: str
    required: true
  user:
    description: The user of the process that opens them.
    type: str
    required: true
author: Tresor
"""

EXAMPLES = r"""
- name: Refuse targets that the firewalls would drop
  ansible.builtin.assert:
    that: targets | tresor_flow_gaps(tresor_plan.flows, 'ops1', 'prometheus') | length == 0
"""

RETURN = r"""
_value:
  description: What cannot be reached.
  type: list
  elements: str
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


def tresor_flow_gaps(
    targets: Iterable[Mapping[str, Any]],
    flows: Sequence[Mapping[str, Any]],
    source: str,
    user: str,
) -> list[str]:
    """Return the targets that no flow allows."""
    own = [
        flow
        for flow in flows
        if flow["proto"] == "tcp"
        and flow.get("user") in (None, user)
        and any(end["name"] == source for end in flow["from"])
    ]
    missing = [
        f"{target['name']}:{target['port']} ({target['job']})"
        for target in targets
        if target["host"] != source and not any(_leads(flow, target) for flow in own)
    ]
    return list(dict.fromkeys(missing))


def _leads(flow: Mapping[str, Any], target: Mapping[str, Any]) -> bool:
    first, _, last = str(flow["ports"]).partition(":")
    return int(first) <= int(target["port"]) <= int(last or first) and any(
        end["name"] == target["host"] for end in flow["to"]
    )


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"tresor_flow_gaps": tresor_flow_gaps}
