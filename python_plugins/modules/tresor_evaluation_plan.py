#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: check what an evaluation is to compare, before anything is asked."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tresor_evaluation_plan
short_description: Check prompts and instances of an evaluation before anything is asked
description:
  - Runs on the bastion. Reads the file of prompts, finds the instances in the plan, and refuses
    what would make the comparison mean nothing.
options:
  prompts_file:
    description: The prompts, a JSON object a line.
    type: path
    required: true
  plan_file:
    description: The resolved plan.
    type: path
    default: /var/lib/tresor/plan/plan.json
  reference:
    description: The instance to compare with, such as one in BF16.
    type: str
    required: true
  candidate:
    description: The instance that is cheaper, such as one in FP8.
    type: str
    required: true
  judge:
    description: The instance whose model judges. Empty means no judge.
    type: str
    default: ""
  different_models:
    description: Whether reference and candidate may be two different models.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: The module only reads; it does so in check mode too.
author: Tresor
"""

EXAMPLES = r"""
- name: Check an evaluation
  tresor_evaluation_plan:
    prompts_file: /srv/evaluation/claims.jsonl
    reference: chat-gpu1
    candidate: chat-fp8-gpu2
"""

RETURN = r"""
instances:
  description: By role what the plan says of each instance, with C(fqdn) and C(address) of its host.
  type: dict
  returned: success
prompts:
  description: How many prompts there are.
  type: int
  returned: success
prompts_sha256:
  description: The digest of the file.
  type: str
  returned: success
"""

import json
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.evaluate.choose import choose
from ansible.module_utils.tresor.evaluate.errors import EvaluateError
from ansible.module_utils.tresor.evaluate.prompts import read_prompts


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "prompts_file": {"type": "path", "required": True},
        "plan_file": {"type": "path", "default": "/var/lib/tresor/plan/plan.json"},
        "reference": {"type": "str", "required": True},
        "candidate": {"type": "str", "required": True},
        "judge": {"type": "str", "default": ""},
        "different_models": {"type": "bool", "default": False},
    }


def main() -> None:
    """Check and return what is to be asked."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    options = module.params
    try:
        plan = json.loads(Path(options["plan_file"]).read_bytes())["tresor_plan"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        module.fail_json(
            msg=f"the plan {options['plan_file']} cannot be read: {error}; converge the site first"
        )
    name = options["prompts_file"]
    try:
        prompts = read_prompts(Path(name).read_bytes(), name)
        chosen = choose(plan, options, different_models=options["different_models"])
    except OSError as error:
        module.fail_json(msg=f"the prompts {name} cannot be read: {error.strerror}")
    except EvaluateError as error:
        module.fail_json(msg=f"{error}\nNothing was asked.")
    instances = {}
    for role, instance in chosen.items():
        host = plan["hosts"][instance["host"]]
        instances[role] = {
            **{key: instance[key] for key in ("id", "host", "port")},
            "model": instance["served_names"][0],
            "fqdn": host["fqdn"],
            "address": host.get("ipv4") or host["ipv6"],
        }
    module.exit_json(
        changed=False,
        instances=instances,
        prompts=len(prompts.items),
        prompts_sha256=prompts.sha256,
    )


if __name__ == "__main__":
    main()
