#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: count audit records of known requests on a gateway."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tresor_audit_count
short_description: Count the audit records of given request ids
description:
  - Reads the policy gateway's audit log and NGINX's own JSON log on a gateway host and counts the
    records of the given requests. Only request ids are returned, never contents.
options:
  request_ids:
    description: The ids to count.
    type: list
    elements: str
    required: true
  since:
    description: Files not written to since then (seconds since the epoch) are skipped.
    type: float
    required: true
  audit_directory:
    description: The directory of the audit log, with a directory per writer.
    type: path
    default: /var/log/tresor/audit
  nginx_logs:
    description: NGINX's JSON logs. Rotated ones beside them, C(NAME-*), are read too.
    type: list
    elements: path
    default: [/var/log/nginx/tresor.json]
attributes:
  check_mode:
    support: full
    description: The module only reads; it does so in check mode too.
author: Tresor
"""

EXAMPLES = r"""
- name: Count the records of two requests
  tresor_audit_count:
    request_ids: [0f3c, 77aa]
    since: "{{ 1790000000 }}"
"""

RETURN = r"""
decided:
  description: Audit records by request id; ids without a record are not listed.
  type: dict
  returned: success
refused_early:
  description: Records of NGINX's own log by request id.
  type: dict
  returned: success
problems:
  description: Logs that could not be read, or are not there.
  type: list
  elements: str
  returned: success
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.evidence.audit import count_records


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "request_ids": {"type": "list", "elements": "str", "required": True},
        "since": {"type": "float", "required": True},
        "audit_directory": {"type": "path", "default": "/var/log/tresor/audit"},
        "nginx_logs": {
            "type": "list",
            "elements": "path",
            "default": ["/var/log/nginx/tresor.json"],
        },
    }


def _with_rotated(log: Path) -> list[Path]:
    """Return the log and those rotated away from it; the log itself also where it is missing."""
    return [log, *log.parent.glob(f"{log.name}-*")]


def main() -> None:
    """Count and return."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    options = module.params
    wanted, since = options["request_ids"], options["since"]
    audit_logs = list(Path(options["audit_directory"]).glob("*/*.jsonl"))
    decided, problems = count_records(audit_logs, wanted, since)
    if not audit_logs:
        problems.append(f"{options['audit_directory']}: there is no audit log")
    nginx_logs = [log for path in options["nginx_logs"] for log in _with_rotated(Path(path))]
    refused_early, unreadable = count_records(nginx_logs, wanted, since)
    module.exit_json(
        changed=False,
        decided=decided,
        refused_early=refused_early,
        problems=[*problems, *unreadable],
    )


if __name__ == "__main__":
    main()
