#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: validate an inventory and write the resolved plan."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tresor_plan
short_description: Validate a site's inventory and write its resolved plan
description:
  - Reads C(hosts.yml) and the files per concern of an inventory as data, validates them with their
    JSON schemas, checks them against each other, and writes the resolved plan as JSON.
  - Reports every problem at once, each with file, line, key, value seen and what to write instead.
    If there is one, nothing is written.
  - The same inventory gives the same plan, byte for byte.
options:
  inventory_dir:
    description: The directory of the inventory, which holds C(hosts.yml) and C(group_vars).
    type: path
    required: true
  schema_dir:
    description: The directory of the JSON schemas of Tresor.
    type: path
    required: true
  dest:
    description: The file to write. Its directory is made if it is missing.
    type: path
    required: true
attributes:
  check_mode:
    support: full
    description: Validates and compares, and writes nothing.
  diff_mode:
    support: full
    description: Shows the plan before and after.
requirements:
  - PyYAML and jsonschema in the interpreter that runs the module
author:
  - Tresor
"""

EXAMPLES = r"""
- name: Resolve the plan of the lab
  tresor_plan:
    inventory_dir: "{{ playbook_dir }}/../inventories/lab"
    schema_dir: "{{ playbook_dir }}/../python_plugins/module_utils/tresor/schema"
    dest: /var/lib/tresor/plan/plan.json
"""

RETURN = r"""
dest:
  description: The file of the plan.
  returned: always
  type: str
inventory_sha256:
  description: The digest of the inventory, equal to C(sha256sum FILES | sha256sum).
  returned: success
  type: str
problems:
  description: What is wrong, each with file, line, key, wrong, seen and fix.
  returned: failure
  type: list
  elements: dict
"""

import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    from ansible.module_utils.tresor.inventory.loader import load_inventory
    from ansible.module_utils.tresor.inventory.problems import InventoryError
    from ansible.module_utils.tresor.plan.resolve import PlanError, check_plan, plan_text, resolve

    MISSING = ""
except ImportError as error:
    if error.name is None or error.name.partition(".")[0] not in ("jsonschema", "yaml"):
        raise
    MISSING = error.name


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "inventory_dir": {"type": "path", "required": True},
        "schema_dir": {"type": "path", "required": True},
        "dest": {"type": "path", "required": True},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    if MISSING:
        module.fail_json(msg=missing_required_lib(MISSING))
    dest = Path(module.params["dest"])
    schema_dir = Path(module.params["schema_dir"])
    try:
        inventory = load_inventory(Path(module.params["inventory_dir"]), schema_dir)
        plan = resolve(inventory)
        check_plan(plan, schema_dir)
    except InventoryError as error:
        problems = [problem.as_dict() for problem in error.problems]
        module.fail_json(msg=str(error), problems=problems, dest=str(dest))
    except (PlanError, OSError, ValueError) as error:
        module.fail_json(msg=f"the plan cannot be resolved: {error}", dest=str(dest))
    before, after = _read(dest), plan_text(plan)
    if before != after and not module.check_mode:
        _write(module, dest, after)
    module.exit_json(
        changed=before != after,
        dest=str(dest),
        inventory_sha256=inventory.sha256,
        diff={"before": before or "", "after": after},
    )


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _write(module: AnsibleModule, path: Path, text: str) -> None:
    """Write the plan in one step; a reader never sees half of it."""
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".new")
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        module.fail_json(msg=f"{path}: cannot be written: {error.strerror}; check the directory")


if __name__ == "__main__":
    main()
