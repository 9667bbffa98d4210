#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: an archive of a gateway's audit files, each cut behind its last full line."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tresor_audit_snapshot
short_description: Write an archive of growing logs, each cut behind its last full line
description:
  - Writes all regular files below O(directory) into the tar archive O(dest). A file named
    C(*.jsonl) that is being written is cut behind its last full line.
options:
  directory:
    description: The logs. Where it does not exist the archive is empty.
    type: path
    default: /var/log/tresor/audit
  dest:
    description: The archive, C(0600).
    type: path
    required: true
  owner:
    description: Who owns the archive, so that it can be fetched without root.
    type: str
    default: root
attributes:
  check_mode:
    support: full
    description: Nothing is written.
  idempotence:
    support: none
    description: The archive is written anew each time.
author: Tresor
"""

EXAMPLES = r"""
- name: Take the audit files as they are now
  tresor_audit_snapshot:
    dest: /var/lib/tresor/audit-snapshot.tar
"""

RETURN = r"""
size:
  description: Bytes of the archive; 0 in check mode.
  returned: success
  type: int
"""

import os
import pwd
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.backup import create, sources
from ansible.module_utils.tresor.backup.errors import BackupError


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "directory": {"type": "path", "default": "/var/log/tresor/audit"},
        "dest": {"type": "path", "required": True},
        "owner": {"type": "str", "default": "root"},
    }


def snapshot(directory: Path, dest: Path, owner: str) -> int:
    """Write the archive; return its size in bytes."""
    dest.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    dest.unlink(missing_ok=True)
    descriptor = os.open(dest, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        create.write_archive(stream, sources.tree(directory, "audit"))
        entry = pwd.getpwnam(owner)
        os.fchown(stream.fileno(), entry.pw_uid, entry.pw_gid)
    return dest.stat().st_size


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    try:
        size = 0
        if not module.check_mode:
            size = snapshot(Path(params["directory"]), Path(params["dest"]), params["owner"])
    except KeyError:
        module.fail_json(msg=f"tresor_audit_snapshot: there is no user '{params['owner']}'")
    except (BackupError, OSError) as error:
        module.fail_json(msg=f"tresor_audit_snapshot: {error}")
    module.exit_json(changed=True, size=size)


if __name__ == "__main__":
    main()
