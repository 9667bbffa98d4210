#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: compare a running engine's memory with the plan."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tresor_engine_sizing
short_description: Compare what an engine says of its memory with what the plan predicted
description:
  - Asks a running engine for its KV cache (metric C(vllm:cache_config_info), over mutual TLS) and
    reads the log of its present start, compares tokens, memory and weights with the plan's
    prediction, and keeps the result as a record on the host.
  - An error above O(warn_percent) is a warning, one above O(fail_percent) fails the task, after the
    record was written.
options:
  instance:
    description: The name of the instance in the plan.
    type: str
    required: true
  unit:
    description: The engine's systemd unit.
    type: str
    required: true
  prediction:
    description: The prediction of the plan, C(tresor_plan.sizing.instances[INSTANCE]).
    type: dict
    required: true
  server_name:
    description: The name in the engine's certificate.
    type: str
    required: true
  address:
    description: The address that the engine listens on.
    type: str
    required: true
  port:
    description: The port that the engine listens on.
    type: int
    required: true
  dest:
    description: The file of the record. Its directory must exist.
    type: path
    required: true
  warn_percent:
    description: From this error on, in percent, a warning is given.
    type: float
    default: 3.0
  fail_percent:
    description: From this error on, in percent, the task fails.
    type: float
    default: 20.0
  ca_file:
    description: The CA that the engine's certificate comes from.
    type: path
    default: /etc/tresor/pki/ca.crt
  certificate_file:
    description: The client certificate.
    type: path
    default: /etc/tresor/pki/host.crt
  key_file:
    description: The key of O(certificate_file).
    type: path
    default: /etc/tresor/pki/host.key
  timeout:
    description: Seconds to wait for the engine, and for each command.
    type: float
    default: 30.0
attributes:
  check_mode:
    support: full
    description: Asks and compares, and writes no record.
author:
  - Tresor
"""

EXAMPLES = r"""
- name: Compare the chat engine with the plan
  tresor_engine_sizing:
    instance: chat-gpu1
    unit: tresor-vllm@chat-gpu1.service
    prediction: "{{ tresor_plan.sizing.instances['chat-gpu1'] }}"
    server_name: gpu1.site.example
    address: 198.51.100.31
    port: 8100
    dest: /var/lib/tresor/vllm/chat-gpu1.sizing.json
"""

RETURN = r"""
verdict:
  description: C(ok), C(warn), C(fail) or C(nothing_to_compare).
  type: str
  returned: always
says:
  description: The figures in one sentence.
  type: str
  returned: always
record:
  description: What was written.
  type: dict
  returned: always
problems:
  description: What could not be asked.
  type: list
  elements: str
  returned: always
"""

import json
import os
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.api_check.client import Endpoint, RequestFailed, client_context
from ansible.module_utils.tresor.engine_sizing import kept
from ansible.module_utils.tresor.engine_sizing.ask import (
    Asked,
    ask_log,
    ask_metrics,
    present_start,
)
from ansible.module_utils.tresor.engine_sizing.compare import FAIL, WARN, compare, record
from ansible.module_utils.tresor.engine_sizing.observed import Observed, first_known
from ansible.module_utils.tresor.gpu.commands import run_command


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "instance": {"type": "str", "required": True},
        "unit": {"type": "str", "required": True},
        "prediction": {"type": "dict", "required": True},
        "server_name": {"type": "str", "required": True},
        "address": {"type": "str", "required": True},
        "port": {"type": "int", "required": True},
        "dest": {"type": "path", "required": True},
        "warn_percent": {"type": "float", "default": 3.0},
        "fail_percent": {"type": "float", "default": 20.0},
        "ca_file": {"type": "path", "default": "/etc/tresor/pki/ca.crt"},
        "certificate_file": {"type": "path", "default": "/etc/tresor/pki/host.crt"},
        "key_file": {"type": "path", "default": "/etc/tresor/pki/host.key", "no_log": False},
        "timeout": {"type": "float", "default": 30.0},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    options = module.params
    bounds = {name: options[name] for name in ("warn_percent", "fail_percent")}
    if not 0 < bounds["warn_percent"] <= bounds["fail_percent"]:
        module.fail_json(
            msg=f"warn_percent {bounds['warn_percent']} and fail_percent "
            f"{bounds['fail_percent']} must rise and be above 0"
        )
    try:
        context = client_context(options["ca_file"])
        context.load_cert_chain(options["certificate_file"], options["key_file"])
    except (RequestFailed, OSError, ssl.SSLError) as error:
        module.fail_json(msg=f"the host's certificate cannot be used: {error}; converge the host")
    endpoint = Endpoint(options["server_name"], options["address"], options["port"])
    asked = _ask(module, endpoint, context)
    comparison = compare(options["prediction"], asked.observed, **bounds)
    found = record(options["instance"], options["prediction"], asked.observed, comparison, **bounds)
    text = json.dumps(found, indent=2, sort_keys=True) + "\n"
    dest = Path(options["dest"])
    before = _read(dest)
    if before != text and not module.check_mode:
        _write(module, dest, text)
    result = {
        "changed": before != text,
        "verdict": comparison.verdict,
        "says": comparison.says(),
        "record": found,
        "problems": list(asked.problems),
        "diff": {"before": before or "", "after": text},
    }
    said = f"{options['instance']}: {comparison.says()}"
    if asked.problems:
        said = f"{said}; {'; '.join(asked.problems)}"
    if comparison.verdict == FAIL:
        module.fail_json(
            msg=f"{said}. More than {bounds['fail_percent']} % off the plan: look at {dest}, plan "
            "with what the engine tells, or raise vllm_sizing_fail_percent",
            **result,
        )
    if comparison.verdict == WARN:
        module.warn(f"{said}. More than {bounds['warn_percent']} % off the plan, or not told")
    module.exit_json(**result)


def _ask(module: AnsibleModule, endpoint: Endpoint, context: ssl.SSLContext) -> Asked:
    """Ask the metrics, and where they are silent, what the log of the present start said."""
    options = module.params
    run, unit = _runner(options["timeout"]), options["unit"]
    metrics = ask_metrics(endpoint, context, options["timeout"])
    start = present_start(unit, run)
    if start is None:
        problem = f"systemd knows no start of {unit}"
        return Asked(metrics.observed, (*metrics.problems, problem))
    path = Path(options["dest"]).with_suffix(".start.json")
    said = kept.read(path, start.invocation)
    log = Asked(said, ()) if said else ask_log(unit, start, run)
    if said is None and log.observed != Observed() and not module.check_mode:
        _write(module, path, kept.text(start.invocation, log.observed))
    observed = first_known([metrics.observed, log.observed])
    return Asked(observed, (*metrics.problems, *log.problems))


def _runner(timeout: float) -> Any:  # noqa: ANN401 - a function, see engine_sizing.ask.Run
    def run(command: Sequence[str]) -> tuple[int, str]:
        outcome = run_command(command, timeout)
        return (outcome.status if outcome.status is not None else -1), outcome.stdout

    return run


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _write(module: AnsibleModule, path: Path, text: str) -> None:
    """Write the record in one step."""
    temporary = path.with_name(path.name + ".new")
    try:
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
