#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: add up a gateway's audit records of a period."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tresor_traffic_read
short_description: Add up the audit records of a gateway by asked name, model and engine
description:
  - Runs on a gateway. Reads the policy gateway's audit log and writes sums and the times in which
    each engine had work. Nothing about people is written.
options:
  since:
    description: Begin of the period, in seconds since 1970.
    type: int
    required: true
  until:
    description: End of the period, in seconds since 1970.
    type: int
    required: true
  dest:
    description: The file for the sums, in JSON, for root alone.
    type: path
    required: true
  audit_directory:
    description: The directory of the audit log, with a directory per writer.
    type: path
    default: /var/log/tresor/audit
attributes:
  check_mode:
    support: full
    description: Reads, and writes nothing.
author: Tresor
"""

EXAMPLES = r"""
- name: Add up
  tresor_traffic_read:
    since: "{{ period.since }}"
    until: "{{ period.until }}"
    dest: /run/traffic.json
"""

RETURN = r"""
requests:
  description: Requests of the period that reached an engine.
  type: int
  returned: success
"""

import json
import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.traffic.period import Period
from ansible.module_utils.tresor.traffic.reading import add_up


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "since": {"type": "int", "required": True},
        "until": {"type": "int", "required": True},
        "dest": {"type": "path", "required": True},
        "audit_directory": {"type": "path", "default": "/var/log/tresor/audit"},
    }


def main() -> None:
    """Read and write."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    options = module.params
    if options["since"] >= options["until"]:
        module.fail_json(
            msg=f"since is {options['since']}, until {options['until']}: the end must be later"
        )
    paths = list(Path(options["audit_directory"]).glob("*/*.jsonl"))
    if not paths:
        module.fail_json(
            msg=f"{options['audit_directory']}: there is no audit log; name its directory with "
            "traffic_audit_directory"
        )
    found = add_up(paths, Period(options["since"], options["until"]))
    if not module.check_mode:
        _write(module, Path(options["dest"]), json.dumps(found))
    requests = sum(row["requests"] for row in found["sums"])
    module.exit_json(changed=not module.check_mode, requests=requests)


def _write(module: AnsibleModule, path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        module.fail_json(msg=f"{path}: cannot be written: {error.strerror}")


if __name__ == "__main__":
    main()
