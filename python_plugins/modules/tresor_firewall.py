#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: the host firewall of Tresor."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tresor_firewall
short_description: Load a host's firewall rules so that a mistake undoes itself
description:
  - Renders the rules of the resolved plan for C(iptables) and C(ip6tables), compares them with the
    running rules and loads them, each family in one step.
  - The default is to drop in all three chains and both families. Only the flows of the matrix are
    accepted.
  - Before new rules are loaded, a timer on the host is armed that puts the previous rules back. It
    is stopped by C(/usr/local/sbin/tresor-firewall confirm TOKEN), which must come over a new SSH
    connection.
options:
  state:
    description:
      - V(prepared) refuses to go on beside another firewall, masks the units of other firewalls,
        creates the users that O(rules) name and the host lacks, and starts connection tracking
        without dropping anything. It must run some tasks before the first V(present), so that the
        connections of Ansible itself are known by then.
      - V(present) loads the rules.
      - V(absent) removes the rules, their files, and accepts everything.
    type: str
    choices: [present, prepared, absent]
    default: present
  rules:
    description:
      - The rules of this host as in the resolved plan, C(tresor_plan.hosts[...].firewall), with the
        lists C(ipv4) and C(ipv6).
      - Required with O(state=present) and O(state=prepared).
    type: dict
  link_network:
    description:
      - The IPv6 network the host stands in. Neighbours in it are asked for by their own addresses.
      - Without it only link-local and multicast addresses can be asked.
    type: str
  dedicated_interfaces:
    description:
      - Interfaces on which only those rules hold that name them. Everything else that comes in or
        would leave there is dropped, whatever addresses it bears.
    type: list
    elements: str
    default: []
  rollback_seconds:
    description: The seconds after which unconfirmed rules are undone, 10 to 3600.
    type: int
    default: 90
attributes:
  check_mode:
    support: full
    description: Compares with the running rules and changes nothing.
  diff_mode:
    support: full
    description: Shows the running and the wanted rules.
requirements:
  - iptables with ip6tables, util-linux and systemd on the host
author:
  - Tresor
"""

EXAMPLES = r"""
- name: Load the rules of this host
  tresor_firewall:
    rules: "{{ tresor_plan.hosts[inventory_hostname].firewall }}"
    link_network: "{{ tresor_plan.site.subnets.site.ipv6 }}"
    rollback_seconds: 60
  register: firewall

- name: Remove the firewall
  tresor_firewall:
    state: absent
"""

RETURN = r"""
token:
  description: What the confirmation must name. Only there if rules were loaded.
  returned: when rules were loaded
  type: str
rollback_seconds:
  description: The seconds after which the rules are undone unless they are confirmed.
  returned: when rules were loaded
  type: int
masked:
  description: The units of other firewalls that were masked.
  returned: with state prepared
  type: list
  elements: str
created:
  description: The system users that were created.
  returned: with state prepared
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.firewall.host import FirewallError, HostFirewall, uids_of
from ansible.module_utils.tresor.firewall.rule import (
    FAMILIES,
    Rule,
    RuleError,
    parse_interface,
    parse_link,
    parse_rule,
)

ROLLBACK_LIMITS = (10, 3600)


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "state": {
            "type": "str",
            "choices": ["present", "prepared", "absent"],
            "default": "present",
        },
        "rules": {"type": "dict"},
        "link_network": {"type": "str"},
        "dedicated_interfaces": {"type": "list", "elements": "str", "default": []},
        "rollback_seconds": {"type": "int", "default": 90},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=argument_spec(),
        required_if=[("state", "present", ["rules"]), ("state", "prepared", ["rules"])],
        supports_check_mode=True,
    )

    def run(command: list[str], data: str | None) -> tuple[int, str, str]:
        status, out, err = module.run_command(command, data=data, handle_exceptions=True)
        return int(status), str(out), str(err)

    low, high = ROLLBACK_LIMITS
    if not low <= module.params["rollback_seconds"] <= high:
        seen = module.params["rollback_seconds"]
        module.fail_json(msg=f"rollback_seconds is {seen}; write {low} to {high}")
    states = {"present": _present, "prepared": _prepared, "absent": _absent}
    try:
        result = states[module.params["state"]](module, HostFirewall(run))
    except (FirewallError, RuleError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


def _missing(module: AnsibleModule, firewall: HostFirewall) -> bool:
    """Return whether iptables is not there yet, which only check mode can live with."""
    if firewall.available():
        return False
    if not module.check_mode:
        raise FirewallError("iptables is not installed; install the package iptables first")
    return True


def _prepared(module: AnsibleModule, firewall: HostFirewall) -> dict[str, Any]:
    rules = _rules(module.params["rules"])
    if _missing(module, firewall):
        return {"changed": True, "masked": [], "created": []}
    firewall.refuse_others()
    unmasked = firewall.unmasked()
    lacking = _lacking_users(rules, uids_of(_all(rules)))
    tracking = firewall.is_tracking()
    if not module.check_mode:
        if unmasked:
            firewall.mask(unmasked)
        for name in lacking:
            firewall.create_user(name)
        if not tracking:
            firewall.start_tracking()
    changed = bool(unmasked or lacking) or not tracking
    return {"changed": changed, "masked": unmasked, "created": lacking}


def _absent(module: AnsibleModule, firewall: HostFirewall) -> dict[str, Any]:
    if not firewall.available():
        return {"changed": False}
    if module.check_mode:
        return {"changed": not firewall.is_open()}
    token = firewall.pending()
    if token is not None:
        firewall.roll_back(token)
    return {"changed": firewall.open()}


def _present(module: AnsibleModule, firewall: HostFirewall) -> dict[str, Any]:
    rules = _rules(module.params["rules"])
    link = parse_link(module.params["link_network"])
    dedicated = [parse_interface(name) for name in module.params["dedicated_interfaces"]]
    if _missing(module, firewall):
        return {"changed": True}
    uids = uids_of(_all(rules))
    if module.check_mode and _lacking_users(rules, uids):
        return {"changed": True}
    token = firewall.pending()
    if token is not None and not module.check_mode:
        # An interrupted run left its change unconfirmed: go back to what is known to work.
        firewall.roll_back(token)
    states = {
        family: firewall.state(family, rules[family], uids, link, dedicated) for family in FAMILIES
    }
    texts = {family: state.text for family, state in states.items()}
    load = any(state.live != state.wanted for state in states.values())
    result: dict[str, Any] = {"changed": load or firewall.files_differ(texts)}
    if result["changed"]:
        result["diff"] = [
            {
                "before_header": f"{family}, running",
                "after_header": f"{family}, wanted",
                "before": state.live,
                "after": state.wanted,
            }
            for family, state in states.items()
        ]
    if module.check_mode:
        return result
    if load:
        applied = firewall.apply(texts, module.params["rollback_seconds"])
        result.update(token=applied.token, rollback_seconds=applied.rollback_seconds)
    elif result["changed"]:
        firewall.write_files(texts)
    return result


def _rules(data: dict[str, Any]) -> dict[str, list[Rule]]:
    if set(data) != set(FAMILIES) or not all(isinstance(value, list) for value in data.values()):
        raise RuleError(
            f"rules has {sorted(data)}; give the lists ipv4 and ipv6, as in the resolved plan"
        )
    return {family: [parse_rule(entry, family) for entry in data[family]] for family in FAMILIES}


def _all(rules: dict[str, list[Rule]]) -> list[Rule]:
    return [rule for family in FAMILIES for rule in rules[family]]


def _lacking_users(rules: dict[str, list[Rule]], uids: dict[str, int]) -> list[str]:
    return sorted({rule.user for rule in _all(rules) if rule.user is not None} - set(uids))


if __name__ == "__main__":
    main()
