#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: probe the network from a host."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tresor_probe
short_description: Prove from a host which packets pass and which are dropped
description:
  - Sends the probes that the flow matrix asks of this host. Allowed flows must be answered,
    forbidden ones must be dropped by this host's own rules, and the counter of the dropping rule
    must rise by exactly the number of forbidden probes, for IPv4 and IPv6 each. Where it rises by
    more, the host sent something else too, and all of them are sent again, three times at most.
  - The policies of the chains INPUT, FORWARD and OUTPUT must be DROP in both families, and the
    unit C(tresor-firewall.service), which loads the rules at boot, must be enabled.
  - Each probe is sent as the user that owns the flow. Flows that belong to service users are
    tried as the user C(nobody) too and must then be dropped.
  - A probe that could not be carried out is a failed check, not an error of the module.
options:
  host:
    description: The name of this host in the plan.
    type: str
    required: true
  flows:
    description: The flows of the plan, C(tresor_plan.flows).
    type: list
    elements: dict
    required: true
  forbidden:
    description: The forbidden probes of the plan, C(tresor_plan.probes.forbidden).
    type: list
    elements: dict
    required: true
  instances:
    description: The model instances of the plan. They say which ports of a range have a listener.
    type: list
    elements: dict
    default: []
  families:
    description: The address families this host has.
    type: list
    elements: str
    choices: [ipv4, ipv6]
    default: [ipv4, ipv6]
  drop_comment:
    description: The comment of the rules that drop what leaves this host.
    type: str
    default: "drop:out"
  timeout:
    description:
      - Seconds to wait for an answer to a forbidden probe, for each from its own sending on.
      - At most 0.8, because the kernel sends an unanswered SYN again after a second.
    type: float
    default: 0.7
  allowed_timeout:
    description: Seconds to wait for an answer on an allowed flow.
    type: float
    default: 4.0
attributes:
  check_mode:
    support: full
    description: The module only sends probes; it does so in check mode too.
author: Tresor
"""

EXAMPLES = r"""
- name: Prove the flows of this host
  tresor_probe:
    host: gpu1
    flows: "{{ tresor_plan.flows }}"
    forbidden: "{{ tresor_plan.probes.forbidden }}"
"""

RETURN = r"""
checks:
  description: One entry per probe and reading of the rules, as the evidence report holds them.
  type: list
  elements: dict
  returned: always
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.probe.boot import SHOW
from ansible.module_utils.tresor.probe.exchange import LONGEST_FORBIDDEN
from ansible.module_utils.tresor.probe.run import RulesReadError, prove
from ansible.module_utils.tresor.probe.targets import (
    ProbeInputError,
    allowed_probes,
    forbidden_probes,
    owner_probes,
)

SAVE_COMMANDS = {"ipv4": "iptables-save", "ipv6": "ip6tables-save"}


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "host": {"type": "str", "required": True},
        "flows": {"type": "list", "elements": "dict", "required": True},
        "forbidden": {"type": "list", "elements": "dict", "required": True},
        "instances": {"type": "list", "elements": "dict", "default": []},
        "families": {
            "type": "list",
            "elements": "str",
            "choices": ["ipv4", "ipv6"],
            "default": ["ipv4", "ipv6"],
        },
        "drop_comment": {"type": "str", "default": "drop:out"},
        "timeout": {"type": "float", "default": 0.7},
        "allowed_timeout": {"type": "float", "default": 4.0},
    }


def main() -> None:
    """Send the probes and return the checks."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    options = module.params
    host, flows, instances = options["host"], options["flows"], options["instances"]

    if not 0 < options["timeout"] <= LONGEST_FORBIDDEN:
        module.fail_json(
            msg=f"timeout is {options['timeout']:g}, it must be above 0 and at most "
            f"{LONGEST_FORBIDDEN:g}: the kernel sends an unanswered SYN again after a second, and "
            "the counters could not be compared with the probes"
        )

    def save_rules(family: str) -> str:
        name = SAVE_COMMANDS[family]
        program = module.get_bin_path(name)
        if program is None:
            raise RulesReadError(f"{name} is not installed on {host}: converge the firewall first")
        code, out, err = module.run_command([program, "-c"])
        if code:
            raise RulesReadError(f"{name} -c ended with {code}: {err.strip()}")
        return str(out)

    def show_unit() -> str:
        code, out, err = module.run_command(list(SHOW))
        if code:
            raise RulesReadError(f"systemctl show ended with {code}: {err.strip()}")
        return str(out)

    try:
        allowed = allowed_probes(host, flows, instances)
        forbidden = forbidden_probes(host, options["forbidden"], flows)
        forbidden += owner_probes(host, flows, instances)
    except (ProbeInputError, KeyError, TypeError, ValueError) as error:
        module.fail_json(msg=f"no probes can be made from the plan for {host}: {error!r}")
    checks = prove(
        host,
        options["families"],
        allowed,
        forbidden,
        comment=options["drop_comment"],
        timeout=options["timeout"],
        allowed_timeout=options["allowed_timeout"],
        save_rules=save_rules,
        show_unit=show_unit,
    )
    module.exit_json(changed=False, checks=[check.as_dict() for check in checks])


if __name__ == "__main__":
    main()
