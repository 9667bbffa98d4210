#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: check the engines from a gateway host."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tresor_engine_check
short_description: Prove that engines talk to the gateway's certificate and to nobody else
description:
  - Runs on a gateway, because the flow matrix lets nobody else reach the engines. Asks every
    engine without a client certificate, which must be refused, and with the host's certificate,
    which must be answered.
  - Returns how many requests each engine has served. Two runs around a test show which replicas
    answered it.
  - A check that could not be carried out is a failed check, not an error of the module.
options:
  host:
    description: The name of this host in the plan.
    type: str
    required: true
  instances:
    description: The model instances of the plan, C(tresor_plan.instances).
    type: list
    elements: dict
    required: true
  hosts:
    description: The hosts of the plan, C(tresor_plan.hosts); C(fqdn) and addresses are read.
    type: dict
    required: true
  user:
    description: The user that the flow to the engines belongs to.
    type: str
    default: tresor-gateway
  timeout:
    description: Seconds to wait for each answer.
    type: float
    default: 5.0
extends_documentation_fragment: [tresor_client]
attributes:
  check_mode:
    support: full
    description: The module only reads; it does so in check mode too.
author: Tresor
"""

EXAMPLES = r"""
- name: Ask the engines
  tresor_engine_check:
    host: gateway1
    instances: "{{ tresor_plan.instances }}"
    hosts: "{{ tresor_plan.hosts }}"
"""

RETURN = r"""
checks:
  description: Two entries per engine, as the evidence report holds them.
  type: list
  elements: dict
  returned: success
served:
  description: Requests served so far, by instance; without those that did not answer.
  type: dict
  returned: success
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.api_check.client import RequestFailed
from ansible.module_utils.tresor.api_check.engines import check_engines, engine_endpoints
from ansible.module_utils.tresor.api_check.options import client_spec, contexts


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "host": {"type": "str", "required": True},
        "instances": {"type": "list", "elements": "dict", "required": True},
        "hosts": {"type": "dict", "required": True},
        "user": {"type": "str", "default": "tresor-gateway"},
        **client_spec(),
        "timeout": {"type": "float", "default": 5.0},
    }


def main() -> None:
    """Ask all engines and return the checks."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    options = module.params
    try:
        endpoints = engine_endpoints(options["instances"], options["hosts"])
    except (KeyError, TypeError, ValueError) as error:
        module.fail_json(msg=f"the plan's instances and hosts do not fit together: {error!r}")
    try:
        anonymous, certified = contexts(options)
    except RequestFailed as error:
        module.fail_json(
            msg=f"the certificates of {options['host']} cannot be used: {error}; converge the host"
        )
    checks, served = check_engines(
        options["host"],
        options["user"],
        endpoints,
        anonymous=anonymous,
        certified=certified,
        timeout=options["timeout"],
    )
    module.exit_json(changed=False, checks=[check.as_dict() for check in checks], served=served)


if __name__ == "__main__":
    main()
