#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: packages at exact versions, held there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tresor_packages
short_description: Have packages at exact versions, and hold them
description:
  - Installs packages at exact versions, older ones too, in one step, and holds them so that no
    upgrade moves one of them alone.
  - Simulates first; if no source has a version, it is named and nothing is changed. Looks again
    afterwards and fails if a version is another one than asked for.
options:
  packages:
    description: The packages.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the package.
        type: str
        required: true
      version:
        description: Its exact version, with epoch and revision.
        type: str
        required: true
  hold:
    description: Whether to hold them (apt) or lock their version (dnf, plugin versionlock).
    type: bool
    default: true
  manager:
    description: The package tool; C(auto) takes dnf where there is no apt-get.
    type: str
    choices: [auto, apt, dnf]
    default: auto
attributes:
  check_mode:
    support: full
    description: Simulates, and reports what would change.
  idempotence:
    support: full
    description: Packages at their version and held are left alone.
author: Tresor
"""

EXAMPLES = r"""
- name: Have the driver of the set
  tresor_packages:
    packages:
      - {name: nvidia-dkms-580-open, version: 580.95.05-1}
"""

RETURN = r"""
changes:
  description: Each package that changed, or would, with name, before and after.
  returned: success
  type: list
  elements: dict
held:
  description: Names that were held in this run.
  returned: success
  type: list
  elements: str
"""

import shutil
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.system.errors import SystemStateError
from ansible.module_utils.tresor.system.packages import Apt, Dnf, decide


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "packages": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "name": {"type": "str", "required": True},
                "version": {"type": "str", "required": True},
            },
        },
        "hold": {"type": "bool", "default": True},
        "manager": {"type": "str", "choices": ["auto", "apt", "dnf"], "default": "auto"},
    }


def manager_of(name: str) -> Apt | Dnf:
    """Return the package tool of this host."""
    if name == "auto":
        name = "apt" if shutil.which("apt-get") else "dnf"
    return Apt() if name == "apt" else Dnf()


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    wanted = {entry["name"]: entry["version"] for entry in params["packages"]}
    if len(wanted) != len(params["packages"]):
        module.fail_json(msg="packages: a name stands there twice; write each once")
    try:
        manager = manager_of(params["manager"])
        steps = decide(wanted, manager.state(wanted), hold=params["hold"])
        manager.simulate(steps)
        if steps.any and not module.check_mode:
            manager.apply(steps)
            left = decide(wanted, manager.state(wanted), hold=params["hold"])
            if left.any:
                wrong = ", ".join(f"{name} is {seen}" for name, seen in left.before) or "holds"
                module.fail_json(
                    msg=f"after the installation these are not as asked for: {wrong}. Look for a "
                    "preference file that pins them, and at the log of the package tool"
                )
    except SystemStateError as error:
        module.fail_json(msg=str(error))
    after = dict(steps.install)
    module.exit_json(
        changed=steps.any,
        changes=[
            {"name": name, "before": before, "after": after[name]} for name, before in steps.before
        ],
        held=list(steps.hold),
    )


if __name__ == "__main__":
    main()
