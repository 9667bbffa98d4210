#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: back up what the site cannot lose."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tresor_backup
short_description: Write an encrypted backup of what the site cannot lose
description:
  - Saves the bastion's configuration with certificate authority, secrets and inventory, the store's
    state without its contents, plan, evidence, the records of runs, the gateways' audit files that
    were brought to O(audit_directory), and O(extra_directories).
  - A backup is a folder of O(directory) with C(manifest.json) and encrypted parts (CMS,
    AES-256-GCM) that only the holders of the recipients' private keys can open.
  - Keeps the newest O(keep) backups.
requirements:
  - The program C(openssl), version 3 or newer.
options:
  directory:
    description: Where backups lie.
    type: path
    default: /var/backups/tresor
  site:
    description: The site's name, for the manifest.
    type: str
    required: true
  recipients:
    description: Certificates, PEM, of those who can open the backup. Files with a key are refused.
    type: list
    elements: path
    required: true
  audit_directory:
    description: Folder with one archive, C(HOST.tar), for each gateway.
    type: path
  extra_directories:
    description: Further directories of the bastion to save.
    type: list
    elements: path
    default: []
  keep:
    description: How many backups stay.
    type: int
    default: 14
attributes:
  check_mode:
    support: full
    description: Recipients are checked; nothing is written or removed.
  idempotence:
    support: none
    description: Every run makes a backup.
author: Tresor
"""

EXAMPLES = r"""
- name: Back up
  tresor_backup:
    site: lab
    recipients: [/etc/tresor/backup/recipients/safe.pem]
"""

RETURN = r"""
backup:
  description: The backup's folder; empty in check mode.
  returned: success
  type: str
manifest_sha256:
  description: SHA-256 of its manifest, to be noted somewhere else.
  returned: success
  type: str
files:
  description: How many files it holds.
  returned: success
  type: int
bytes:
  description: Bytes of these files.
  returned: success
  type: int
removed:
  description: Old backups that were removed.
  returned: success
  type: list
  elements: str
"""

import datetime as dt
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.backup import create, seal
from ansible.module_utils.tresor.backup.errors import BackupError
from ansible.module_utils.tresor.backup.layout import MANIFEST, Roots


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "directory": {"type": "path", "default": "/var/backups/tresor"},
        "site": {"type": "str", "required": True},
        "recipients": {"type": "list", "elements": "path", "required": True},
        "audit_directory": {"type": "path"},
        "extra_directories": {"type": "list", "elements": "path", "default": []},
        "keep": {"type": "int", "default": 14},
    }


def run(params: dict[str, Any], roots: Roots, *, check_mode: bool) -> dict[str, Any]:
    """Make a backup; return the module's result."""
    recipients = tuple(Path(path) for path in params["recipients"])
    if not recipients:
        raise BackupError("no recipients: a backup that nobody can open is none")
    if params["keep"] < 1:
        raise BackupError(f"keep is {params['keep']}; keep at least 1")
    if check_mode:
        for path in recipients:
            seal.check_recipient(path)
        return {"backup": "", "manifest_sha256": "", "files": 0, "bytes": 0, "removed": []}
    directory = Path(params["directory"])
    wanted = create.Wanted(
        directory=directory,
        site=params["site"],
        recipients=recipients,
        audit=Path(params["audit_directory"]) if params["audit_directory"] else None,
        extra=tuple(Path(path) for path in params["extra_directories"]),
    )
    path, manifest = create.create(wanted, roots, dt.datetime.now(dt.UTC))
    return {
        "backup": str(path),
        "manifest_sha256": seal.sha256_of(path / MANIFEST),
        "files": manifest["files"],
        "bytes": manifest["bytes"],
        "removed": create.prune(directory, params["keep"]),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        result = run(module.params, Roots(), check_mode=module.check_mode)
    except BackupError as error:
        module.fail_json(msg=f"No backup was made: {error}")
    except OSError as error:
        module.fail_json(msg=f"No backup was made: {error.strerror}: {error.filename}")
    module.exit_json(changed=True, **result)


if __name__ == "__main__":
    main()
