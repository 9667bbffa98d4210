#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: restore a backup onto a bastion."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tresor_restore
short_description: Verify a backup and restore it
description:
  - Decrypts and checks the whole backup before the first file is written. Refuses one that is
    damaged, of another site, of a newer format, or older than the certificate authority or the
    high-water mark of this bastion.
  - Configuration, authority, secrets, plan, evidence and records come back to their places, and so
    does what the importer trusts. Logs of the store and the gateways' audit files are laid into
    C(/var/lib/tresor/restored/ID), since what this bastion serves is decided by what it verified
    itself.
requirements:
  - The program C(openssl), version 3 or newer.
options:
  backup:
    description: The backup's folder.
    type: path
    required: true
  key:
    description: A recipient's private key, PEM, on a medium that is removed afterwards.
    type: path
    required: true
  passphrase_file:
    description: File with the passphrase of that key.
    type: path
  site:
    description: The name of the site that is restored.
    type: str
    required: true
  manifest_sha256:
    description: SHA-256 of the manifest, as noted when the backup was made.
    type: str
    default: ""
  accept_older:
    description: What may be replaced by something older.
    type: list
    elements: str
    choices: [authority, highwater]
    default: []
attributes:
  check_mode:
    support: full
    description: The backup is verified whole; RV(paths) are those that would be written.
  idempotence:
    support: full
    description: Files that are there with the same content, mode and owner are left alone.
author: Tresor
"""

EXAMPLES = r"""
- name: Restore
  tresor_restore:
    backup: /media/backup/20261124T235900Z
    key: /media/safe/recipient.key
    site: lab
"""

RETURN = r"""
paths:
  description: The files that were written, or would be.
  returned: success
  type: list
  elements: str
aside:
  description: The folder of what was not put in place.
  returned: success
  type: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.backup import restore
from ansible.module_utils.tresor.backup.errors import BackupError
from ansible.module_utils.tresor.backup.layout import Roots


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "backup": {"type": "path", "required": True},
        "key": {"type": "path", "required": True, "no_log": False},
        "passphrase_file": {"type": "path", "no_log": False},
        "site": {"type": "str", "required": True},
        "manifest_sha256": {"type": "str", "default": ""},
        "accept_older": {
            "type": "list",
            "elements": "str",
            "choices": list(restore.OLDER),
            "default": [],
        },
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    passphrase = params["passphrase_file"]
    wanted = restore.Wanted(
        backup=Path(params["backup"]),
        key=Path(params["key"]),
        site=params["site"],
        passphrase_file=Path(passphrase) if passphrase else None,
        manifest_sha256=params["manifest_sha256"],
        accept_older=tuple(params["accept_older"]),
    )
    try:
        result = restore.restore(wanted, Roots(), dry=module.check_mode)
    except BackupError as error:
        module.fail_json(msg=f"Nothing was restored: {error}")
    except OSError as error:
        module.fail_json(msg=f"The restore broke off, run it again: {error}")
    module.exit_json(
        changed=bool(result.changed),
        paths=[str(path) for path in result.changed],
        aside=str(result.aside),
    )


if __name__ == "__main__":
    main()
