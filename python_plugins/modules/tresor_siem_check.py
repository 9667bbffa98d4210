#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: prove that this host's records reach the collector."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tresor_siem_check
short_description: Prove that this host's records reach the collector
description:
  - Writes marker records to the system's log and waits until the forwarder has the proof that
    the collector acknowledged them. It writes as many as may be unacknowledged at once and one
    more, because only what follows a record proves it.
  - Looks in the kernel for the connection, and at the units.
options:
  host:
    description: Name of this host in the evidence.
    type: str
    required: true
  target:
    description: Name of the collector in the evidence.
    type: str
    required: true
  addresses:
    description: Addresses of the collector.
    type: list
    elements: str
    required: true
  port:
    description: Port of the collector.
    type: int
    required: true
  timeout:
    description: Seconds to wait for the proof.
    type: float
    default: 20
attributes:
  check_mode:
    support: full
    description: It changes nothing but writes the markers.
  idempotence:
    support: full
    description: It changes nothing.
author: Tresor
"""

EXAMPLES = r"""
- name: Prove the forwarding
  tresor_siem_check:
    host: gateway1
    target: siem.example.com
    addresses: [198.51.100.33]
    port: 2514
"""

RETURN = r"""
checks:
  description: The judged checks in the form of the evidence report.
  returned: always
  type: list
  elements: dict
"""

import ipaddress
import json
import pwd
import subprocess
import syslog
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.evidence.check import not_run
from ansible.module_utils.tresor.evidence.forwarding import Observation, acknowledged, judge

REPORT = Path("/var/lib/tresor/siem/checkpoint.json")
UNITS = ("tresor-siem.service", "tresor-siem-reader.service")
USER = "tresor-siem"


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "host": {"type": "str", "required": True},
        "target": {"type": "str", "required": True},
        "addresses": {"type": "list", "elements": "str", "required": True},
        "port": {"type": "int", "required": True},
        "timeout": {"type": "float", "default": 20},
    }


def states(units: tuple[str, ...]) -> dict[str, str]:
    """Return systemd's word for each unit."""
    done = subprocess.run(
        ["systemctl", "is-active", *units], capture_output=True, text=True, check=False
    )
    return dict(zip(units, done.stdout.split(), strict=False))


def connection(addresses: list[str], port: int, uid: int) -> str | None:
    """Return the peer of the user's established connection to the collector, or None.

    As ss shows it: the kernel's word, where the forwarder's report is the forwarder's.
    """
    done = subprocess.run(
        [
            *("ss", "--no-header", "--tcp", "--numeric", "--extended"),
            *("state", "established", f"( dport = {port} )"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = {ipaddress.ip_address(text) for text in addresses}
    for line in done.stdout.splitlines():
        _, _, _, peer, *details = line.split()
        address = peer.rpartition(":")[0].strip("[]").partition("%")[0]
        if f"uid:{uid}" in details and ipaddress.ip_address(address) in wanted:
            return peer
    return None


def report() -> dict[str, Any]:
    """Return the forwarder's report; raises OSError or ValueError."""
    content: dict[str, Any] = json.loads(REPORT.read_text(encoding="utf-8"))
    return content


def observe(params: dict[str, Any]) -> Observation:
    """Write the markers, wait, and return what was seen; raises OSError or ValueError."""
    begun = time.monotonic()
    before = report()
    syslog.openlog("tresor-probe", syslog.LOG_PID, syslog.LOG_USER)
    for number in range(int(before["window"]) + 1):
        content = {"action": "forwarding-marker", "outcome": "success", "number": number}
        syslog.syslog(syslog.LOG_INFO, json.dumps(content))
    after = before
    while time.monotonic() - begun < params["timeout"]:
        time.sleep(0.5)
        after = report()
        if acknowledged(before, after):
            break
    return Observation(
        host=params["host"],
        target=params["target"],
        units=states(UNITS),
        before=before,
        after=after,
        connection=connection(params["addresses"], params["port"], pwd.getpwnam(USER).pw_uid),
        seconds=time.monotonic() - begun,
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        checks = judge(observe(module.params))
    except (OSError, ValueError, KeyError, subprocess.CalledProcessError) as error:
        checks = [
            not_run(
                f"siem.acknowledged.{module.params['host']}",
                "a record written now is acknowledged by the collector",
                f"{REPORT}: {error!r}",
                source=module.params["host"],
                target=module.params["target"],
            )
        ]
    failed = [check for check in checks if not check.ok]
    module.exit_json(
        changed=False,
        checks=[check.as_dict() for check in checks],
        msg=f"{len(checks) - len(failed)} of {len(checks)} checks of the forwarding hold",
    )


if __name__ == "__main__":
    main()
