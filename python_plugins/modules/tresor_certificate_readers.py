#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: the running services that read the host's certificate."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tresor_certificate_readers
short_description: Find the running services that read given files
description:
  - Looks at every running service that matches O(pattern), at its unit and at the configuration
    files below O(folder) that the unit names, and returns those that name one of O(files).
  - The result has the form of the option O(tresor_units#module:units) of M(tresor_units), which
    then restarts those that started before a file changed.
options:
  pattern:
    description: Names of services, with wildcards.
    type: str
    default: tresor-*.service
  files:
    description: The files, by absolute path.
    type: list
    elements: path
    required: true
  folder:
    description: Where the services' configuration lies.
    type: path
    default: /etc/tresor
attributes:
  check_mode:
    support: full
    description: The module only reads.
  idempotence:
    support: full
    description: The module changes nothing.
author: Tresor
"""

EXAMPLES = r"""
- name: Find who reads the host's certificate
  tresor_certificate_readers:
    files: [/etc/tresor/pki/host.crt, /etc/tresor/pki/host.key]
  register: readers

- name: Restart those that still run on the old one
  tresor_units:
    units: "{{ readers.units }}"
"""

RETURN = r"""
units:
  description: Each service as C(name), with the files it reads as C(watch).
  returned: always
  type: list
  elements: dict
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.system import readers
from ansible.module_utils.tresor.system.errors import SystemStateError


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "pattern": {"type": "str", "default": "tresor-*.service"},
        "files": {"type": "list", "elements": "path", "required": True},
        "folder": {"type": "path", "default": "/etc/tresor"},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    try:
        found = readers.readers(
            params["pattern"], [Path(path) for path in params["files"]], Path(params["folder"])
        )
    except SystemStateError as error:
        module.fail_json(msg=f"tresor_certificate_readers: {error}")
    except OSError as error:
        module.fail_json(msg=f"tresor_certificate_readers: {error}")
    module.exit_json(
        changed=False,
        units=[
            {"name": reader.unit, "watch": [str(path) for path in reader.files]} for reader in found
        ],
    )


if __name__ == "__main__":
    main()
