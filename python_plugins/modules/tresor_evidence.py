#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: judge what verify gathered and write the evidence report."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tresor_evidence
short_description: Write the evidence report of a verify run
description:
  - Runs on the bastion. Takes what the probe and check modules returned, judges what needs more
    than one host (certificates against the site CA, replicas by their counters, the audit's
    completeness), and writes the report as JSON, checked against its schema.
  - Results that should be there and are not count as failed checks.
  - The module succeeds when the report was written; I(failed_checks) says what it holds.
requirements:
  - cryptography
  - jsonschema
options:
  directory:
    description:
      - Where reports go. C(latest.json) points at the newest, C(latest-full.json) at the newest
        whose I(scope) has the network and the request path.
    type: path
    default: /var/lib/tresor/evidence
  schema_file:
    description: The JSON schema of the report.
    type: path
    required: true
  plan_file:
    description: The resolved plan.
    type: path
    default: /var/lib/tresor/plan/plan.json
  release_file:
    description: The current release.
    type: path
    default: /srv/tresor/store/current/release.json
  ca_file:
    description: The certificate of the site CA.
    type: path
    default: /etc/tresor/pki/ca.crt
  renew_days:
    description: A certificate with fewer days left should have been renewed.
    type: int
    default: 30
  scope:
    description: The parts of verify that ran.
    type: list
    elements: str
    choices: [network, request_path, services, control]
    required: true
  control_host:
    description: The host of the control. Empty where the site names none.
    type: str
    default: ""
  gateways:
    description: The gateway hosts.
    type: list
    elements: str
    default: []
  services:
    description: By name of a service, the hosts whose results must hold its checks.
    type: dict
    default: {}
  started:
    description: When verify began, in seconds since the epoch.
    type: float
    required: true
  results:
    description:
      - By host of the plan, what its modules returned, with the keys C(network), C(certificate)
        (base64 text of the PEM), C(control), C(engines_before), C(engines_after), C(audit),
        C(services) (by name of the service).
    type: dict
    required: true
  api:
    description: What M(tresor_api_check) returned; empty if it did not run.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
    description: In check mode the report is judged and returned, not written.
author: Tresor
"""

EXAMPLES = r"""
- name: Write the report
  tresor_evidence:
    schema_file: /srv/tresor/store/current/tree/distribution/evidence.schema.json
    scope: [network]
    started: 1790000000.0
    results: {gpu1: {network: {checks: []}}}
"""

RETURN = r"""
path:
  description: The report; empty in check mode.
  type: str
  returned: success
totals:
  description: Numbers of checks, C(passed), C(failed) and C(checks).
  type: dict
  returned: success
failed_checks:
  description: The ids of the failed checks.
  type: list
  elements: str
  returned: success
summary:
  description: The text for the operator, a list of lines.
  type: list
  elements: str
  returned: success
"""

import hashlib
import json
import time
import traceback
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    import jsonschema
    from ansible.module_utils.tresor.evidence.gather import Gathered, judge_all

    LIBRARY_ERROR = None
except ImportError:
    LIBRARY_ERROR = traceback.format_exc()
from ansible.module_utils.tresor.evidence.report import Subject, build, summary
from ansible.module_utils.tresor.evidence.store import stamp, write_report


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "directory": {"type": "path", "default": "/var/lib/tresor/evidence"},
        "schema_file": {"type": "path", "required": True},
        "plan_file": {"type": "path", "default": "/var/lib/tresor/plan/plan.json"},
        "release_file": {"type": "path", "default": "/srv/tresor/store/current/release.json"},
        "ca_file": {"type": "path", "default": "/etc/tresor/pki/ca.crt"},
        "renew_days": {"type": "int", "default": 30},
        "scope": {
            "type": "list",
            "elements": "str",
            "choices": ["network", "request_path", "services", "control"],
            "required": True,
        },
        "control_host": {"type": "str", "default": ""},
        "gateways": {"type": "list", "elements": "str", "default": []},
        "services": {"type": "dict", "default": {}},
        "started": {"type": "float", "required": True},
        "results": {"type": "dict", "required": True},
        "api": {"type": "dict", "default": {}},
    }


def main() -> None:
    """Judge, check the schema, write."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    if LIBRARY_ERROR:
        module.fail_json(
            msg=missing_required_lib("cryptography and jsonschema"), exception=LIBRARY_ERROR
        )
    options = module.params
    finished = time.time()
    try:
        plan_bytes = Path(options["plan_file"]).read_bytes()
        plan = json.loads(plan_bytes)["tresor_plan"]
        release = json.loads(Path(options["release_file"]).read_bytes())["tresor_release"]
        subject = Subject(
            site=plan["site"]["name"],
            level=plan["site"]["level"],
            bundle_id=release["id"],
            bundle_sha256=release["bundle_sha256"],
            plan_sha256=hashlib.sha256(plan_bytes).hexdigest(),
        )
        schema = json.loads(Path(options["schema_file"]).read_bytes())
        gathered = Gathered(
            results=options["results"],
            api=options["api"],
            scope=tuple(options["scope"]),
            control_host=options["control_host"],
            gateways=tuple(options["gateways"]),
            services={name: tuple(hosts) for name, hosts in options["services"].items()},
        )
        ca_pem = Path(options["ca_file"]).read_bytes()
        checks, uncovered = judge_all(plan, gathered, ca_pem, options["renew_days"], finished)
        report = build(
            subject,
            scope=options["scope"],
            checks=checks,
            uncovered=uncovered,
            started=stamp(options["started"]),
            finished=stamp(finished),
            seconds=max(0.0, finished - options["started"]),
        )
        jsonschema.validate(report, schema)
    except (OSError, ValueError, KeyError, TypeError) as error:
        module.fail_json(msg=f"the evidence report cannot be made: {type(error).__name__}: {error}")
    except jsonschema.ValidationError as error:
        module.fail_json(msg=f"the evidence report breaks its schema: {error.message}")
    path = ""
    if not module.check_mode:
        try:
            path = str(write_report(report, Path(options["directory"]), finished))
        except OSError as error:
            module.fail_json(msg=f"the evidence report cannot be written: {error}")
    module.exit_json(
        changed=bool(path),
        path=path,
        totals=report["totals"],
        failed_checks=[check["id"] for check in report["checks"] if not check["ok"]],
        summary=summary(report, path or "not written in check mode").splitlines(),
    )


if __name__ == "__main__":
    main()
