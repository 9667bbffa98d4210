#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: the positive control of the network probes."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tresor_probe_control
short_description: Prove that the network prober can see a packet arrive
description:
  - Opens the OUTPUT chain of this host for a moment and shows that a probe which was dropped
    before now arrives; then puts the rules back and compares them.
  - Before anything is opened, a systemd timer is armed that restores the saved rules by itself.
    It is taken away only when the rules are proven to be back.
  - INPUT and FORWARD stay closed all the time.
options:
  host:
    description: The name of this host in the plan.
    type: str
    required: true
  canary:
    description:
      - The forbidden probes of this host to repeat with the output open, entries of
        C(tresor_plan.probes.forbidden). Their targets must listen.
    type: list
    elements: dict
    required: true
  closed:
    description:
      - Probes to other hosts whose own input rules must drop them although this host's output
        is open, in the form of I(canary).
    type: list
    elements: dict
    default: []
  families:
    description: The address families this host has.
    type: list
    elements: str
    choices: [ipv4, ipv6]
    default: [ipv4, ipv6]
  timeout:
    description: Seconds to wait for an answer.
    type: float
    default: 0.7
  restore_after:
    description: Seconds after which the timer closes the host again if this module did not.
    type: int
    default: 20
attributes:
  check_mode:
    support: full
    description: In check mode the probes are sent with the rules standing; nothing is opened.
author: Tresor
"""

EXAMPLES = r"""
- name: Prove the prober
  tresor_probe_control:
    host: gpu1
    canary:
      - {from: gpu1, to: canary, proto: tcp, port: 443, ipv4: 203.0.113.10, ipv6: "2001:db8:53::10"}
"""

RETURN = r"""
checks:
  description: One entry per probe and phase, and one for the restored rules.
  type: list
  elements: dict
  returned: always
ran:
  description: Whether the control ran; false in check mode.
  type: bool
  returned: always
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.probe.control import Result, Rules, control
from ansible.module_utils.tresor.probe.run import send
from ansible.module_utils.tresor.probe.targets import forbidden_probes

STATE_DIRECTORY = Path("/run/tresor/probe-control")


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "host": {"type": "str", "required": True},
        "canary": {"type": "list", "elements": "dict", "required": True},
        "closed": {"type": "list", "elements": "dict", "default": []},
        "families": {
            "type": "list",
            "elements": "str",
            "choices": ["ipv4", "ipv6"],
            "default": ["ipv4", "ipv6"],
        },
        "timeout": {"type": "float", "default": 0.7},
        "restore_after": {"type": "int", "default": 20},
    }


def main() -> None:
    """Run the control and return its checks."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    options = module.params
    host = options["host"]

    def run(command: Sequence[str], text: str | None) -> Result:
        program = module.get_bin_path(command[0])
        if program is None:
            return Result(127, "", f"{command[0]} is not installed on {host}")
        code, out, err = module.run_command([program, *command[1:]], data=text, binary_data=True)
        return Result(code, out, err)

    try:
        canary = forbidden_probes(host, options["canary"], [])
        closed = forbidden_probes(host, options["closed"], [])
    except (KeyError, TypeError, ValueError) as error:
        module.fail_json(msg=f"no probes can be made for the control on {host}: {error!r}")
    if not canary:
        module.fail_json(msg=f"the control on {host} has no canary probe; the plan must name one")
    checks = control(
        host,
        canary,
        closed,
        None if module.check_mode else Rules(run, STATE_DIRECTORY, options["families"]),
        send,
        timeout=options["timeout"],
        restore_after=options["restore_after"],
    )
    restored = all(check.ok for check in checks if check.id.startswith("control.restored."))
    module.exit_json(
        changed=not restored,
        ran=not module.check_mode,
        checks=[check.as_dict() for check in checks],
    )


if __name__ == "__main__":
    main()
