#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: what a host's NVIDIA GPUs are and how they stand."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tresor_gpu_facts
short_description: Read GPUs, topology, driver and Fabric Manager of a host
description:
  - Reads what C(nvidia-smi), the CUDA driver library, systemd and C(/sys) tell about the NVIDIA
    GPUs of a host, and changes nothing.
  - A host without a driver is no error; RV(driver) says V(absent), and RV(pci_gpus) still lists the
    GPUs on the bus.
  - What could not be read is named in RV(faults) with its reason; the rest of the answer stands.
options:
  timeout:
    description: >-
      Seconds that each command, and CUDA, may take, up to 600. A broken GPU can block them for
      ever.
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
- name: Look at the GPUs
  tresor_gpu_facts:
  register: gpus

- name: Look at a host whose driver answers slowly
  tresor_gpu_facts:
    timeout: 120
"""

RETURN = r"""
driver:
  description: >-
    C(loaded) if it answers, C(unusable) if it is there and does not (see faults), C(absent) if
    there is none.
  type: str
  returned: always
driver_version:
  description: Version of the driver.
  type: str
  returned: always
cuda_version:
  description: The newest CUDA that the driver supports.
  type: str
  returned: always
pci_gpus:
  description: The NVIDIA GPUs on the bus, with or without a driver; address and device_id.
  type: list
  elements: dict
  returned: always
gpus:
  description: >-
    One entry for each GPU in the order of its index, with name, uuid, pci_address, memory in MiB as
    the driver tells it, torch_total_gib (GiB as a CUDA program sees them, which is what vLLM counts
    with), power limits in W, persistence, ecc, mig_mode, mig_devices, fabric, nvlinks, numa_node,
    cpu_affinity and compute_capability. What a board does not tell is null.
  type: list
  elements: dict
  returned: always
nvlink_domains:
  description: Groups of GPU indexes in which every pair has NVLink; a GPU without it stands alone.
  type: list
  elements: list
  returned: always
fabric_manager:
  description: >-
    needed (the host has NVSwitches), installed, active (systemd's word), version and
    matches_driver.
  type: dict
  returned: always
faults:
  description: What could not be read, each with source and fault.
  type: list
  elements: dict
  returned: always
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.gpu.commands import runner
from ansible.module_utils.tresor.gpu.cuda_memory import cuda_memory
from ansible.module_utils.tresor.gpu.gather import gather

SYS_DIR = Path("/sys")


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {"timeout": {"type": "float", "default": 30.0}}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    timeout = module.params["timeout"]
    if not 0 < timeout <= 600:
        module.fail_json(msg=f"timeout: saw {timeout}; write seconds above 0, up to 600")
    facts = gather(runner(timeout), lambda: cuda_memory(timeout), SYS_DIR)
    module.exit_json(changed=False, **facts)


if __name__ == "__main__":
    main()
