#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: check that the site is watched and that alerts arrive."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tresor_monitoring_check
short_description: Prove that the whole site is scraped and that alerts arrive
description:
  - Runs on a host with Prometheus and Alertmanager. Works out from the plan what must be scraped
    and compares it with what is; asks for rules, Alertmanager and the alert that always fires, and
    looks for that alert in the journal. Without a certificate nothing may be answered.
  - A check that could not be carried out is a failed check, not an error of the module.
options:
  host:
    description: The name of this host in the plan.
    type: str
    required: true
  hosts:
    description: The hosts of the plan, C(tresor_plan.hosts).
    type: dict
    required: true
  vector_form:
    description: Form of the vector database, C(tresor_plan.site.vector.form).
    type: str
    choices: [lite, standalone]
    required: true
  prometheus_port:
    description: Port of Prometheus.
    type: int
    default: 9090
  alertmanager_port:
    description: Port of Alertmanager.
    type: int
    default: 9093
  journal_identifier:
    description: Identifier under which alerts stand in the journal.
    type: str
    default: tresor-alert
  journal_since:
    description: How far back to look in the journal, as journalctl reads it after a minus sign.
    type: str
    default: 15min
  timeout:
    description: Seconds to wait for each answer.
    type: float
    default: 10.0
  wait:
    description: Seconds to ask again while something is not as it should be.
    type: float
    default: 45.0
extends_documentation_fragment: [tresor_client]
attributes:
  check_mode:
    support: full
    description: The module only reads; it does so in check mode too.
author: Tresor
"""

EXAMPLES = r"""
- name: Is the site watched
  tresor_monitoring_check:
    host: ops1
    hosts: "{{ tresor_plan.hosts }}"
    vector_form: "{{ tresor_plan.site.vector.form }}"
"""

RETURN = r"""
checks:
  description: The checks, as the evidence report holds them.
  type: list
  elements: dict
  returned: success
"""

import subprocess
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.api_check.client import Endpoint, RequestFailed
from ansible.module_utils.tresor.api_check.options import client_spec, contexts
from ansible.module_utils.tresor.monitoring.ask import check_prometheus, check_refusal
from ansible.module_utils.tresor.monitoring.expected import expected_targets
from ansible.module_utils.tresor.monitoring.judge import judge_journal

_JOURNAL_TIMEOUT_S = 60


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "host": {"type": "str", "required": True},
        "hosts": {"type": "dict", "required": True},
        "vector_form": {"type": "str", "choices": ["lite", "standalone"], "required": True},
        "prometheus_port": {"type": "int", "default": 9090},
        "alertmanager_port": {"type": "int", "default": 9093},
        "journal_identifier": {"type": "str", "default": "tresor-alert"},
        "journal_since": {"type": "str", "default": "15min"},
        **client_spec(),
        "timeout": {"type": "float", "default": 10.0},
        "wait": {"type": "float", "default": 45.0},
    }


def journal(identifier: str, since: str) -> list[str]:
    """Return the messages under ``identifier``; none if the journal cannot be read."""
    done = subprocess.run(
        ["journalctl", "-q", "-o", "cat", "-t", identifier, "--since", f"-{since}"],
        capture_output=True,
        text=True,
        timeout=_JOURNAL_TIMEOUT_S,
        check=False,
    )
    return done.stdout.splitlines() if done.returncode == 0 else []


def main() -> None:
    """Ask, judge and return the checks."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    options = module.params
    host, hosts = options["host"], options["hosts"]
    try:
        own = hosts[host]
        address = own.get("ipv4") or own["ipv6"]
        servers = {
            name: Endpoint(own["fqdn"], address, options[f"{name}_port"])
            for name in ("prometheus", "alertmanager")
        }
        expected = expected_targets(hosts, host, options["vector_form"])
    except (KeyError, TypeError, AttributeError) as error:
        module.fail_json(msg=f"the plan's hosts do not describe {host}: {error!r}")
    try:
        anonymous, certified = contexts(options)
    except RequestFailed as error:
        module.fail_json(
            msg=f"the certificates of {host} cannot be used: {error}; converge the host"
        )
    timeout, since = options["timeout"], options["journal_since"]
    checks = check_prometheus(
        host, servers["prometheus"], certified, expected, timeout=timeout, wait=options["wait"]
    )
    checks += [check_refusal(host, name, at, anonymous, timeout) for name, at in servers.items()]
    try:
        lines = journal(options["journal_identifier"], since)
    except (OSError, subprocess.TimeoutExpired):
        lines = []
    checks.append(judge_journal(host, lines, since))
    module.exit_json(changed=False, checks=[check.as_dict() for check in checks])


if __name__ == "__main__":
    main()
