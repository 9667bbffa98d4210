#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: are a host's GPUs healthy."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tresor_gpu_health
short_description: Prove that a host's GPUs are healthy
description:
  - Looks at driver and Fabric Manager, fabric state, NVLinks and their errors, ECC and row remaps,
    XIDs of this boot by NVIDIA's immediate action, slowed clocks, PCIe width and persistence, and
    changes nothing.
  - On request DCGM's diagnosis and an all-reduce over all GPUs, held against what is usual.
  - Fails with every bad finding; or, with O(report=true), returns them. What could not be read is
    a bad finding.
options:
  host:
    description: Inventory name of the host.
    type: str
    required: true
  diag_level:
    description: >-
      Level of DCGM's diagnosis; 0 leaves it out, 1 takes seconds, 2 about two minutes, 3 a quarter
      of an hour. From 2 on engines must be stopped.
    type: int
    choices: [0, 1, 2, 3]
    default: 0
  nccl:
    description: Whether to run an all-reduce over all GPUs. Engines must be stopped.
    type: bool
    default: false
  nccl_minimum_gb_s:
    description: >-
      Usual bandwidth of that all-reduce in GB/s; more than a fifth below is a failure. Left out, a
      figure for the card and count is used where one is known.
    type: float
  card:
    description: The card as the plan names it, for the usual bandwidth.
    type: str
    default: ""
  report:
    description: Whether to return findings instead of failing.
    type: bool
    default: false
  timeout:
    description: Seconds that each reading command may take, up to 600.
    type: float
    default: 30.0
  long_timeout:
    description: Seconds that the diagnosis and the all-reduce may take, each.
    type: float
    default: 2400.0
attributes:
  check_mode:
    support: full
    description: The module only reads; it does so in check mode too.
author:
  - Tresor
"""

EXAMPLES = r"""
- name: Prove that the GPUs are ready for engines
  tresor_gpu_health:
    host: gpu1
    diag_level: 1

- name: Prove them thoroughly, with engines stopped
  tresor_gpu_health:
    host: gpu1
    diag_level: 3
    nccl: true
    card: H100 SXM 80GB
"""

RETURN = r"""
findings:
  description: Everything that was looked at, each with id, what, observed, ok and remedy.
  type: list
  elements: dict
  returned: success
checks:
  description: The same in the form of the evidence report.
  type: list
  elements: dict
  returned: success
healthy:
  description: Whether every finding is good.
  type: bool
  returned: success
"""

import datetime as dt
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.evidence.check import Check
from ansible.module_utils.tresor.gpu.commands import runner
from ansible.module_utils.tresor.gpu.cuda_memory import cuda_memory
from ansible.module_utils.tresor.gpu.examine import booted_at, examine, needs
from ansible.module_utils.tresor.gpu.gather import gather
from ansible.module_utils.tresor.gpu.health import USUAL_BUS_GB_S, Finding, judge_health

SYS_DIR = Path("/sys")


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "host": {"type": "str", "required": True},
        "diag_level": {"type": "int", "choices": [0, 1, 2, 3], "default": 0},
        "nccl": {"type": "bool", "default": False},
        "nccl_minimum_gb_s": {"type": "float"},
        "card": {"type": "str", "default": ""},
        "report": {"type": "bool", "default": False},
        "timeout": {"type": "float", "default": 30.0},
        "long_timeout": {"type": "float", "default": 2400.0},
    }


def findings(params: dict[str, Any]) -> list[Finding]:
    """Return everything that was looked at on this host."""
    run, run_long = runner(params["timeout"]), runner(params["long_timeout"])
    facts = gather(run, lambda: cuda_memory(params["timeout"]), SYS_DIR)
    count, fabric, nvlink = needs(facts)
    usual = params["nccl_minimum_gb_s"] or USUAL_BUS_GB_S.get((params["card"], count))
    read = examine(
        run,
        run_long,
        gpus=count,
        fabric=fabric,
        nvlink=nvlink,
        diag_level=params["diag_level"],
        bus=params["nccl"],
        usual_bus_gb_s=usual,
        # Local time without its zone, as the Fabric Manager writes it.
        booted=booted_at(dt.datetime.now().astimezone().replace(tzinfo=None)),
    )
    return judge_health(facts, read)


def evidence(host: str, finding: Finding) -> Check:
    """Return a finding as a check of the evidence report."""
    return Check(
        id=f"gpu.health.{host}.{finding.id}",
        what=finding.what,
        source=host,
        target="GPUs",
        expected="it does",
        observed=finding.observed + ("" if finding.ok else f"; {finding.remedy}"),
        ok=finding.ok,
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    for name, most in (("timeout", 600), ("long_timeout", 7200)):
        if not 0 < params[name] <= most:
            module.fail_json(msg=f"{name}: saw {params[name]}; write seconds above 0, up to {most}")
    found = findings(params)
    bad = [finding for finding in found if not finding.ok]
    result = {
        "changed": False,
        "findings": [finding.as_dict() for finding in found],
        "checks": [evidence(params["host"], finding).as_dict() for finding in found],
        "healthy": not bad,
    }
    if bad and not params["report"]:
        lines = "\n".join(f"- {finding}" for finding in bad)
        module.fail_json(msg=f"The GPUs of {params['host']} are not healthy:\n{lines}", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
