#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: the report of what share of traffic and GPU time moved to smaller models."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tresor_traffic_report
short_description: Write the report of traffic and GPU time by asked name and answering model
description:
  - Runs on the bastion, over what M(tresor_traffic_read) wrote on the gateways. GPU time per token
    is measured where the period has enough requests of a model; elsewhere it is the plan's
    prediction and called so; where neither is possible the report says that it is not known.
options:
  readings:
    description: The files that M(tresor_traffic_read) wrote, one of each gateway.
    type: list
    elements: path
    required: true
  plan_file:
    description: The resolved plan.
    type: path
    default: /var/lib/tresor/plan/plan.json
  site:
    description: The name of the site, for the page.
    type: str
    required: true
  least_requests:
    description: With fewer requests in the period a model's GPU time per token is not measured.
    type: int
    default: 50
  directory:
    description: The directory of the result, made if it is not there; its parent must be.
    type: path
    required: true
attributes:
  check_mode:
    support: full
    description: Judges, and writes nothing.
author: Tresor
"""

EXAMPLES = r"""
- name: Report
  tresor_traffic_report:
    readings: [/var/lib/tresor/traffic/gateway1.json]
    site: example
    directory: /var/lib/tresor/traffic/20261125T140000Z
"""

RETURN = r"""
summary:
  description: What moved, a sentence each.
  type: list
  elements: str
  returned: success
report:
  description: The report as in C(report.json).
  type: dict
  returned: success
page:
  description: The file of the page.
  type: str
  returned: success
"""

import json
import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.sizing.latency import latency
from ansible.module_utils.tresor.traffic.engines import site_of
from ansible.module_utils.tresor.traffic.errors import TrafficError
from ansible.module_utils.tresor.traffic.judgement import report
from ansible.module_utils.tresor.traffic.page import page, summary


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "readings": {"type": "list", "elements": "path", "required": True},
        "plan_file": {"type": "path", "default": "/var/lib/tresor/plan/plan.json"},
        "site": {"type": "str", "required": True},
        "least_requests": {"type": "int", "default": 50},
        "directory": {"type": "path", "required": True},
    }


def main() -> None:
    """Judge and write."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    options = module.params
    if options["least_requests"] < 1:
        module.fail_json(msg=f"least_requests is {options['least_requests']}: write 1 or more")
    try:
        site = site_of(json.loads(Path(options["plan_file"]).read_bytes())["tresor_plan"])
        readings = [json.loads(Path(path).read_bytes()) for path in options["readings"]]
        found = report(readings, site, latency, options["least_requests"])
    except (OSError, TrafficError) as error:
        module.fail_json(msg=f"there is no report: {error}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        module.fail_json(msg=f"there is no report: plan or readings cannot be used: {error!r}")
    directory = Path(options["directory"])
    if not module.check_mode:
        text = json.dumps(found, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        _write(module, directory, {"report.json": text, "page.md": page(found, options["site"])})
    module.exit_json(
        changed=not module.check_mode,
        summary=summary(found),
        report=found,
        page=str(directory / "page.md"),
    )


def _write(module: AnsibleModule, directory: Path, files: dict[str, str]) -> None:
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        for name, text in files.items():
            fresh = directory / f".{name}.new"
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            fresh.replace(directory / name)
    except OSError as error:
        module.fail_json(msg=f"{directory}: cannot be written: {error.strerror}")


if __name__ == "__main__":
    main()
