#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: systemd units that run on the configuration they have now."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tresor_units
short_description: Have units enabled and running on their present configuration
description:
  - Enables and starts units, and restarts those of which a watched file changed after they
    started. The comparison is with the unit's own start time, so a run that was interrupted
    between writing a file and restarting is made good by the next one.
  - Instances of a template that are not wanted any more are stopped and disabled.
options:
  units:
    description: The wanted units.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Full name of the unit, with its suffix.
        type: str
        required: true
      watch:
        description: Files whose change means a restart. Missing ones are ignored.
        type: list
        elements: path
        default: []
  template:
    description:
      - Pattern of the unit names that belong to this caller alone, for example
        C(tresor-vllm@*.service). Those not listed in O(units) are stopped and disabled.
    type: str
  masked:
    description: Units that must neither run nor be startable. They need not exist.
    type: list
    elements: str
    default: []
  pending:
    description:
      - Files that are changing in this run, RV(tresor_files#module:changed_paths). It makes check
        mode tell the truth about restarts.
    type: list
    elements: path
    default: []
  block:
    description: Wait until the units have started. Their start-up errors show only then.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description: Reports which units would be touched.
  idempotence:
    support: full
    description: Units in the wanted state are left alone.
author: Tresor
"""

EXAMPLES = r"""
- name: Run the time service on its present configuration
  tresor_units:
    units:
      - name: chrony.service
        watch: [/etc/chrony/chrony.conf]
"""

RETURN = r"""
steps:
  description: What was done, or would be, each with C(verb), C(unit) and C(reason).
  returned: always
  type: list
  elements: dict
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.system import units
from ansible.module_utils.tresor.system.errors import SystemStateError


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "units": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "name": {"type": "str", "required": True},
                "watch": {"type": "list", "elements": "path", "default": []},
            },
        },
        "template": {"type": "str"},
        "masked": {"type": "list", "elements": "str", "default": []},
        "pending": {"type": "list", "elements": "path", "default": []},
        "block": {"type": "bool", "default": True},
    }


def steps_for(params: dict[str, Any]) -> list[units.Step]:
    """Look at the units and return what has to be done."""
    wanted = [
        units.WantedUnit(entry["name"], tuple(Path(path) for path in entry["watch"]))
        for entry in params["units"]
    ]
    names = [unit.name for unit in wanted]
    unwanted: list[str] = []
    if params["template"]:
        unwanted = sorted(units.running_like(params["template"]) - set(names))
    pending = frozenset(Path(path) for path in params["pending"])
    found = units.states([*names, *params["masked"]])
    return [
        *units.plan_masked(params["masked"], found),
        *units.plan(wanted, found, unwanted, pending),
    ]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        steps = steps_for(module.params)
        if not module.check_mode:
            units.carry_out(steps, block=module.params["block"])
    except SystemStateError as error:
        module.fail_json(msg=f"tresor_units: {error}")
    except OSError as error:
        module.fail_json(msg=f"tresor_units: {error}")
    module.exit_json(
        # A reload of systemd's view alone changes nothing on the host.
        changed=any(step.verb != "daemon-reload" for step in steps),
        steps=[asdict(step) for step in steps],
    )


if __name__ == "__main__":
    main()
