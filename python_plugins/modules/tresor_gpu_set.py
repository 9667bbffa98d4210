#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: may this qualified set of driver, kernel and CUDA be used on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tresor_gpu_set
short_description: Read a qualified set of driver, Fabric Manager, kernel, CUDA and DCGM
description:
  - Reads a set, checks it with its schema and against itself, and refuses one that was not built
    and tested together, was changed afterwards, mixes versions, lacks headers, or is for another
    system.
  - Runs where Ansible runs, because the set lies there. Every problem is reported at once.
options:
  path:
    description: File of the set, JSON in the form of the schema C(gpu-set).
    type: path
    required: true
  schema_dir:
    description: Folder of the schemas.
    type: path
    required: true
  system:
    description: Operating system of the host, such as C(debian-12).
    type: str
    required: true
attributes:
  check_mode:
    support: full
    description: The module only reads.
author:
  - Tresor
"""

EXAMPLES = r"""
- name: Refuse a set that is not qualified
  tresor_gpu_set:
    path: /etc/tresor/inventory/gpu_sets/debian-12-r580.json
    schema_dir: python_plugins/module_utils/tresor/schema
    system: debian-12
  delegate_to: localhost
"""

RETURN = r"""
set:
  description: >-
    name, branch, driver, module, kernel, cuda, dcgm, digest, and packages by group, each a list of
    name and version.
  type: dict
  returned: success
problems:
  description: Why the set is refused, a line each.
  type: list
  elements: str
  returned: failure
"""

import datetime as dt
import json
from pathlib import Path
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.gpu.qualified import GROUPS, QualifiedSet, SetError, read_set
from ansible.module_utils.tresor.inventory.schema_check import load_schema, violations

SIZE_LIMIT = 1 << 20


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "path": {"type": "path", "required": True},
        "schema_dir": {"type": "path", "required": True},
        "system": {"type": "str", "required": True},
    }


def described(found: QualifiedSet) -> dict[str, Any]:
    """Return a set for the roles."""
    return {
        "name": found.name,
        "branch": found.branch,
        "driver": found.driver,
        "module": found.module,
        "kernel": found.kernel,
        "cuda": found.cuda,
        "dcgm": found.dcgm,
        "digest": found.digest,
        "packages": {group: found.group(group) for group in GROUPS},
    }


def refuse(module: AnsibleModule, path: str, problems: list[str]) -> NoReturn:
    """Fail with every problem."""
    lines = "\n".join(f"- {problem}" for problem in problems)
    module.fail_json(
        msg=f"The set {path} is refused; nothing was changed. docs/runbooks/gpu-set.md says how a "
        f"set is qualified:\n{lines}",
        problems=problems,
    )
    raise SystemExit(1)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    path = Path(params["path"])
    try:
        if path.stat().st_size > SIZE_LIMIT:
            refuse(module, str(path), [f"it is larger than {SIZE_LIMIT} bytes"])
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        refuse(module, str(path), [f"it cannot be read: {error.strerror}"])
    except ValueError as error:
        refuse(module, str(path), [f"it is no JSON: {error}"])
    found = violations(data, load_schema(Path(params["schema_dir"]), "gpu-set"))
    if found:
        refuse(module, str(path), found)
    try:
        accepted = read_set(data, system=params["system"], today=dt.datetime.now(dt.UTC).date())
    except SetError as error:
        refuse(module, str(path), error.problems)
    module.exit_json(changed=False, set=described(accepted))


if __name__ == "__main__":
    main()
