#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: check what keeps a site's trust alive."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tresor_trust_check
short_description: Check time, revocation lists, renewal and backup of a host
description:
  - On every host, that chrony follows the company's servers only and the clock is right, and that
    the list of revoked certificates has not ended.
  - On the bastion, that the renewal timer runs and its last run was good, and the same for the
    backup timer where there is one, with the age of the newest backup.
options:
  host:
    description: Inventory name of the host.
    type: str
    required: true
  time_servers:
    description: The company's time servers, each with C(name), C(ipv4) and C(ipv6).
    type: list
    elements: dict
    required: true
  bastion:
    description: Whether this is the bastion.
    type: bool
    default: false
  crl_files:
    description: Lists of revoked certificates that must be current.
    type: list
    elements: path
    default: [/etc/tresor/pki/ca.crl]
  optional_crl_files:
    description: Lists that need not be there, but must be current if they are.
    type: list
    elements: path
    default: [/etc/tresor/gateway/idp-crl.pem]
  backup_directory:
    description: Where backups lie.
    type: path
    default: /var/backups/tresor
  backup_max_hours:
    description: With a backup timer, the newest backup may be this old.
    type: int
    default: 50
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
- name: Check
  tresor_trust_check:
    host: gpu1
    time_servers: [{name: ntp.company.example, ipv4: 198.51.100.130, ipv6: "2001:db8:52::130"}]
"""

RETURN = r"""
checks:
  description: The checks, in the form of the evidence report.
  returned: success
  type: list
  elements: dict
msg:
  description: How many checks failed.
  returned: success
  type: str
"""

import datetime as dt
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.backup import layout
from ansible.module_utils.tresor.evidence import trust
from ansible.module_utils.tresor.evidence.check import Check
from ansible.module_utils.tresor.pki import openssl
from ansible.module_utils.tresor.pki.errors import PkiError


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "host": {"type": "str", "required": True},
        "time_servers": {"type": "list", "elements": "dict", "required": True},
        "bastion": {"type": "bool", "default": False},
        "crl_files": {"type": "list", "elements": "path", "default": ["/etc/tresor/pki/ca.crl"]},
        "optional_crl_files": {
            "type": "list",
            "elements": "path",
            "default": ["/etc/tresor/gateway/idp-crl.pem"],
        },
        "backup_directory": {"type": "path", "default": "/var/backups/tresor"},
        "backup_max_hours": {"type": "int", "default": 50},
    }


def output(*command: str) -> str:
    """Return what a program prints; empty when it is missing or fails."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def shown(unit: str, *properties: str) -> dict[str, str]:
    """Return properties of a unit."""
    text = output("systemctl", "show", unit, *(f"--property={name}" for name in properties))
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def checks(params: dict[str, Any], now: dt.datetime) -> list[Check]:
    """Return every check of this host."""
    host = params["host"]
    allowed = [
        server[family]
        for server in params["time_servers"]
        for family in ("ipv4", "ipv6")
        if server.get(family)
    ]
    found = [
        trust.time_sources(host, output("chronyc", "-c", "-n", "sources"), allowed),
        trust.clock(host, output("chronyc", "-c", "tracking")),
    ]
    lists = [*params["crl_files"]]
    lists += [path for path in params["optional_crl_files"] if Path(path).exists()]
    found += [trust.revocation_list(host, path, _next_update(Path(path)), now) for path in lists]
    if params["bastion"]:
        found += _bastion(params, host, now)
    return found


def _next_update(path: Path) -> dt.datetime | None:
    try:
        return openssl.next_update(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, PkiError):
        return None


def _timer(host: str, name: str) -> Check:
    state = shown(f"{name}.timer", "UnitFileState", "ActiveState")
    return trust.timer(
        host, name, state, shown(f"{name}.service", "Result", "ActiveState", "ExecMainStatus")
    )


def _bastion(params: dict[str, Any], host: str, now: dt.datetime) -> list[Check]:
    found = [_timer(host, "tresor-renew")]
    if shown("tresor-backup.timer", "UnitFileState").get("UnitFileState"):
        made = layout.complete(Path(params["backup_directory"]))
        newest = (
            dt.datetime.strptime(made[-1].name, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
            if made
            else None
        )
        most = dt.timedelta(hours=params["backup_max_hours"])
        found += [_timer(host, "tresor-backup"), trust.backup_age(host, newest, now, most)]
    return found


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    found = checks(module.params, dt.datetime.now(dt.UTC))
    failed = [check.id for check in found if not check.ok]
    module.exit_json(
        changed=False,
        checks=[check.as_dict() for check in found],
        msg=f"{len(failed)} of {len(found)} checks failed",
    )


if __name__ == "__main__":
    main()
