#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: are a host's GPUs those that the plan counted with."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tresor_gpu_check
short_description: Compare a host's GPUs with the plan
description:
  - Reads what M(tresor_gpu_facts) reads and compares it with the plan; count, type, memory as a
    CUDA program sees it, NVLink domains, MIG, ECC and Fabric Manager.
  - Fails with every difference at once, each on a line; or, with O(report=true), returns them.
options:
  host:
    description: Inventory name of the host.
    type: str
    required: true
  planned:
    description: The host's C(gpus) in the resolved plan.
    type: dict
    required: true
  sizing:
    description: The plan's C(sizing.instances) of this host, by id.
    type: dict
    default: {}
  driver_may_be_absent:
    description: >-
      Whether a host without any driver passes if the bus shows the planned number of GPUs; for a
      host whose driver a later step installs.
    type: bool
    default: false
  report:
    description: Whether to return differences instead of failing.
    type: bool
    default: false
  timeout:
    description: Seconds that each command, and CUDA, may take, up to 600.
    type: float
    default: 30.0
attributes:
  check_mode:
    support: full
    description: The module only reads; it does so in check mode too.
author:
  - Tresor
"""

EXAMPLES = r"""
- name: Refuse a host that is not what was planned
  tresor_gpu_check:
    host: "{{ inventory_hostname }}"
    planned: "{{ tresor_plan.hosts[inventory_hostname].gpus }}"
    sizing: "{{ tresor_plan.sizing.instances }}"
"""

RETURN = r"""
differences:
  description: One entry for each difference, with thing, planned, found and remedy.
  type: list
  elements: dict
  returned: success
checks:
  description: One check in the form of the evidence report.
  type: list
  elements: dict
  returned: success
driver:
  description: As M(tresor_gpu_facts) returns it.
  type: str
  returned: success
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.evidence.check import Check
from ansible.module_utils.tresor.gpu.commands import runner
from ansible.module_utils.tresor.gpu.compare import Difference, differences
from ansible.module_utils.tresor.gpu.cuda_memory import cuda_memory
from ansible.module_utils.tresor.gpu.gather import gather
from ansible.module_utils.tresor.gpu.planned import PlannedGpus, PlanReadingError, read_planned

SYS_DIR = Path("/sys")


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "host": {"type": "str", "required": True},
        "planned": {"type": "dict", "required": True},
        "sizing": {"type": "dict", "default": {}},
        "driver_may_be_absent": {"type": "bool", "default": False},
        "report": {"type": "bool", "default": False},
        "timeout": {"type": "float", "default": 30.0},
    }


def evidence(host: str, planned: PlannedGpus, found: list[Difference]) -> Check:
    """Return the comparison as a check of the evidence report."""
    return Check(
        id=f"gpu.plan.{host}",
        what="the GPUs are those that the plan counted with",
        source=host,
        target=f"{planned.count} x {planned.card}",
        expected="count, type, memory, NVLink, MIG, ECC and Fabric Manager as planned",
        observed="; ".join(str(item) for item in found) or "as planned",
        ok=not found,
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    timeout = params["timeout"]
    if not 0 < timeout <= 600:
        module.fail_json(msg=f"timeout: saw {timeout}; write seconds above 0, up to 600")
    try:
        planned = read_planned(params["planned"], params["sizing"])
    except PlanReadingError as error:
        module.fail_json(msg=str(error))
    facts = gather(runner(timeout), lambda: cuda_memory(timeout), SYS_DIR)
    found = differences(planned, facts, driver_may_be_absent=params["driver_may_be_absent"])
    result = {
        "changed": False,
        "differences": [item.as_dict() for item in found],
        "checks": [evidence(params["host"], planned, found).as_dict()],
        "driver": facts["driver"],
    }
    if found and not params["report"]:
        lines = "\n".join(f"- {item}" for item in found)
        module.fail_json(
            msg=f"{params['host']} is not the host that was planned; nothing was changed:\n{lines}",
            **result,
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
