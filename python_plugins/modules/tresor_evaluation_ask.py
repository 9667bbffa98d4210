#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: ask two engine instances the same prompts."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tresor_evaluation_ask
short_description: Ask two engine instances the same prompts and write down answers and times
description:
  - Runs on a gateway, because the flow matrix lets nobody else reach the engines, as the user that
    the flow belongs to. Asks over mutual TLS, greedily and with a fixed seed, first one by one in
    turns, then with several at once; then a third instance may judge.
  - An instance that does not answer a prompt, or that is not the same at the end, fails the module,
    and nothing is written.
options:
  prompts_file:
    description: The prompts, a JSON object a line.
    type: path
    required: true
  dest:
    description: The file for the answers, in JSON, for its owner alone.
    type: path
    required: true
  instances:
    description:
      - By role (C(reference), C(candidate), and C(judge) if one is wanted) what
        M(tresor_evaluation_plan) returned.
    type: dict
    required: true
  concurrency:
    description: How many prompts an instance gets at once, for the throughput.
    type: int
    default: 8
  user:
    description: The user that the flow to the engines belongs to.
    type: str
    default: tresor-gateway
  timeout:
    description: Seconds to wait for an engine's next bytes.
    type: float
    default: 300.0
  time_limit:
    description: Seconds that all of it may take.
    type: int
    default: 14400
extends_documentation_fragment: [tresor_client]
attributes:
  check_mode:
    support: full
    description: Only asks the instances who they are.
author: Tresor
"""

EXAMPLES = r"""
- name: Ask
  tresor_evaluation_ask:
    prompts_file: /run/evaluation/prompts.jsonl
    dest: /run/evaluation/answers.json
    instances: "{{ evaluation.instances }}"
"""

RETURN = r"""
seconds:
  description: How long it took.
  type: float
  returned: success
"""

import json
import os
import ssl
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.api_check.client import Endpoint, RequestFailed
from ansible.module_utils.tresor.api_check.options import client_spec, contexts
from ansible.module_utils.tresor.evaluate.asking import Answer, Instance, ask
from ansible.module_utils.tresor.evaluate.errors import EvaluateError
from ansible.module_utils.tresor.evaluate.identity import Identity, identify
from ansible.module_utils.tresor.evaluate.prompts import Prompts, read_prompts
from ansible.module_utils.tresor.evaluate.runner import Wanted, run
from ansible.module_utils.tresor.probe.users import run_as_users

_MOST_AT_ONCE = 256


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "prompts_file": {"type": "path", "required": True},
        "dest": {"type": "path", "required": True},
        "instances": {"type": "dict", "required": True},
        "concurrency": {"type": "int", "default": 8},
        "user": {"type": "str", "default": "tresor-gateway"},
        **client_spec(),
        "timeout": {"type": "float", "default": 300.0},
        "time_limit": {"type": "int", "default": 14400},
    }


def main() -> None:
    """Ask everything and write the answers."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    options = module.params
    if not 1 <= options["concurrency"] <= _MOST_AT_ONCE:
        module.fail_json(msg=f"concurrency is {options['concurrency']}: write 1 to {_MOST_AT_ONCE}")
    try:
        prompts = read_prompts(Path(options["prompts_file"]).read_bytes(), options["prompts_file"])
        wanted = _wanted(options)
        context = contexts(options)[1]
    except (OSError, KeyError, TypeError, ValueError, RequestFailed) as error:
        module.fail_json(msg=f"the evaluation cannot start: {type(error).__name__}: {error}")
    began = time.monotonic()

    def work() -> dict[str, Any]:
        return _work(wanted, prompts, context, options["timeout"], only_look=module.check_mode)

    answer = run_as_users({options["user"]: work}, options["time_limit"])[options["user"]]
    found = answer.value or {}
    if answer.error is not None or "fault" in found:
        said = answer.error or found["fault"]
        module.fail_json(msg=f"the evaluation ended without a result: {said}")
    if not module.check_mode:
        _write(module, Path(options["dest"]), json.dumps(found["answers"]))
    module.exit_json(
        changed=not module.check_mode, seconds=round(time.monotonic() - began, 3)
    )  # fmt: skip


def _wanted(options: Mapping[str, Any]) -> Wanted:
    given = {
        role: Instance(
            one["id"], Endpoint(one["fqdn"], one["address"], int(one["port"])), one["model"]
        )
        for role, one in options["instances"].items()
    }
    return Wanted(
        given["reference"], given["candidate"], given.get("judge"), options["concurrency"]
    )


def _work(
    wanted: Wanted, prompts: Prompts, context: ssl.SSLContext, timeout: float, *, only_look: bool
) -> dict[str, Any]:
    """Run in the child; what went wrong comes back as its text, which is meant for an operator."""

    def say(
        instance: Instance, messages: Sequence[Mapping[str, str]], max_tokens: int
    ) -> Answer:  # fmt: skip
        return ask(instance, messages, max_tokens, context, timeout)

    def look(instance: Instance) -> Identity:
        return identify(instance, context, timeout)

    try:
        if only_look:
            for instance in (wanted.reference, wanted.candidate, wanted.judge):
                if instance is not None:
                    look(instance)
            return {}
        return {"answers": run(wanted, prompts, say, look)}
    except EvaluateError as error:
        return {"fault": str(error)}


def _write(module: AnsibleModule, path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        module.fail_json(msg=f"{path}: cannot be written: {error.strerror}")


if __name__ == "__main__":
    main()
