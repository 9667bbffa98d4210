#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: prove that the vector database serves its clients and nobody else."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tresor_vector_check
short_description: Prove that the vector database serves its clients and nobody else
description:
  - Asks with the host's certificate for version, collections and, if there is a loaded one, a
    search; then without a certificate, with the default password of the real server, and at the
    ports that must be closed.
  - Reads only. The judged observations are returned; a failed one does not fail the module.
options:
  source:
    description: Inventory name of the host that asks.
    type: str
    required: true
  host:
    description: Inventory name of the host with the database.
    type: str
    required: true
  server_name:
    description: Its full name.
    type: str
    required: true
  port:
    description: Its port for clients.
    type: int
    default: 19530
  closed_ports:
    description: Ports that must not answer from here.
    type: list
    elements: int
    default: [2379, 2380, 9091, 9103, 13333, 19529, 19531, 21121, 21123, 53100]
  python:
    description: Interpreter of the client's environment.
    type: path
    default: /opt/tresor/vector-client/current/bin/python
  user:
    description: User of the real server; empty for Milvus Lite.
    type: str
    default: ''
  password_path:
    description: File with that user's password.
    type: path
    default: /etc/tresor/secrets/milvus/root-password
extends_documentation_fragment: [tresor_client]
attributes:
  check_mode:
    support: full
    description: Reads only, so the same.
  idempotence:
    support: full
    description: Changes nothing.
author: Tresor
"""

EXAMPLES = r"""
- name: Prove the vector database from the bastion
  tresor_vector_check:
    source: bastion1
    host: vector1
    server_name: vector1.site.example
"""

RETURN = r"""
checks:
  description: The judged observations, in the form of the evidence report.
  returned: always
  type: list
  elements: dict
msg:
  description: One line about them.
  returned: always
  type: str
"""

import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.api_check.options import client_spec
from ansible.module_utils.tresor.vector_check import checks


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "source": {"type": "str", "required": True},
        "host": {"type": "str", "required": True},
        "server_name": {"type": "str", "required": True},
        "port": {"type": "int", "default": 19530},
        "closed_ports": {
            "type": "list",
            "elements": "int",
            "default": [2379, 2380, 9091, 9103, 13333, 19529, 19531, 21121, 21123, 53100],
        },
        "python": {"type": "path", "default": "/opt/tresor/vector-client/current/bin/python"},
        **client_spec(),
        "user": {"type": "str", "default": ""},
        "password_path": {
            "type": "path",
            "default": "/etc/tresor/secrets/milvus/root-password",
            "no_log": False,
        },
    }


def probe_command(params: dict[str, Any], password_file: str) -> list[str]:
    """Return the command line of the client's probe."""
    address = f"https://{params['server_name']}:{params['port']}"
    line = [params["python"], "-I", "-m", "tresor_vector", "probe", "--uri", address]
    line += ["--server-name", params["server_name"], "--ca", params["ca_file"]]
    line += ["--certificate", params["certificate_file"], "--key", params["key_file"]]
    if params["user"]:
        line += ["--user", params["user"], "--user-password-file", password_file]
    return line


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    target = checks.Target(
        source=params["source"],
        host=params["host"],
        server_name=params["server_name"],
        port=params["port"],
        closed_ports=tuple(params["closed_ports"]),
        ca_file=params["ca_file"],
    )

    def probe(password_file: str) -> checks.Ran:
        return checks.Ran(*module.run_command(probe_command(params, password_file)))

    def own() -> checks.Ran:
        return probe(params["password_path"])

    found = [
        checks.serves(target, own),
        checks.no_certificate(target),
        checks.closed(target),
    ]
    if params["user"]:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as known:
            known.write("Milvus")
            known.flush()
            found.append(checks.default_password(target, lambda: probe(known.name), own))
    module.exit_json(
        changed=False, checks=[check.as_dict() for check in found], msg=checks.message(found)
    )


if __name__ == "__main__":
    main()
