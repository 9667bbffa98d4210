#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: many small files of a host in one run."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tresor_files
short_description: Have directories, files and links with given content, and no others
description:
  - Brings a whole set of directories, configuration files and links to the wanted state in one
    run, where one run for each file would dominate the time of a second converge.
  - Looks first and validates every new content before the first file is written. Each file is
    replaced atomically.
  - Meant for configuration that fits into memory. Contents appear in the diff, so it is not the
    place for secrets.
options:
  directories:
    description: Directories, in the order in which they are made.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      owner:
        description: User who owns it.
        type: str
        default: root
      group:
        description: Its group.
        type: str
        default: root
      mode:
        description: Octal mode as text.
        type: str
        default: "0755"
  files:
    description: Files with their whole content.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      content:
        description: The whole content, as text.
        type: str
        required: true
      owner:
        description: User who owns it.
        type: str
        default: root
      group:
        description: Its group.
        type: str
        default: root
      mode:
        description: Octal mode as text.
        type: str
        default: "0644"
      validate:
        description: Command that checks the content; C(%s) stands for the file. No shell.
        type: str
  links:
    description: Symbolic links.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path of the link.
        type: path
        required: true
      target:
        description: What it points at, need not exist.
        type: str
        required: true
  absent:
    description: Files and links that must not exist. Directories are refused.
    type: list
    elements: path
    default: []
  purge:
    description: Directories in which no other files may lie than those named here.
    type: list
    elements: dict
    default: []
    suboptions:
      directory:
        description: Absolute path. Subdirectories are left alone.
        type: path
        required: true
      pattern:
        description: Only files with such names are removed (shell wildcards).
        type: str
        default: "*"
      keep:
        description: Names that stay.
        type: list
        elements: str
        default: []
attributes:
  check_mode:
    support: full
    description: Reports what would change, after the contents were validated.
  diff_mode:
    support: full
    description: Shows every changed file.
  idempotence:
    support: full
    description: Files are compared by content, mode and owner.
author: Tresor
"""

EXAMPLES = r"""
- name: Keep the name table and nothing else in a folder
  tresor_files:
    files:
      - path: /etc/hosts
        content: "{{ lookup('ansible.builtin.template', 'etc/hosts.j2') }}"
    purge:
      - directory: /etc/apt/sources.list.d
"""

RETURN = r"""
changed_paths:
  description: The paths that were changed or removed, or would be.
  returned: always
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.system import changes
from ansible.module_utils.tresor.system.errors import SystemStateError
from ansible.module_utils.tresor.system.wanted import (
    Purge,
    Wanted,
    WantedDirectory,
    WantedFile,
    WantedLink,
    access,
)


def _owned(mode: str) -> dict[str, Any]:
    return {
        "path": {"type": "path", "required": True},
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
        "mode": {"type": "str", "default": mode},
    }


def _list_of(options: dict[str, Any]) -> dict[str, Any]:
    return {"type": "list", "elements": "dict", "default": [], "options": options}


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "directories": _list_of(_owned("0755")),
        "files": _list_of(
            {
                **_owned("0644"),
                "content": {"type": "str", "required": True},
                "validate": {"type": "str"},
            }
        ),
        "links": _list_of(
            {
                "path": {"type": "path", "required": True},
                "target": {"type": "str", "required": True},
            }
        ),
        "absent": {"type": "list", "elements": "path", "default": []},
        "purge": _list_of(
            {
                "directory": {"type": "path", "required": True},
                "pattern": {"type": "str", "default": "*"},
                "keep": {"type": "list", "elements": "str", "default": []},
            }
        ),
    }


def wanted_of(params: dict[str, Any]) -> Wanted:
    """Translate the options."""
    return Wanted(
        directories=tuple(
            WantedDirectory(Path(e["path"]), access(e["mode"], e["owner"], e["group"]))
            for e in params["directories"]
        ),
        files=tuple(
            WantedFile(
                Path(e["path"]),
                e["content"].encode(),
                access(e["mode"], e["owner"], e["group"]),
                e["validate"],
            )
            for e in params["files"]
        ),
        links=tuple(WantedLink(Path(e["path"]), e["target"]) for e in params["links"]),
        absent=tuple(Path(path) for path in params["absent"]),
        purge=tuple(
            Purge(Path(e["directory"]), e["pattern"], frozenset(e["keep"])) for e in params["purge"]
        ),
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        steps = changes.plan(wanted_of(module.params))
        changes.check(steps)
        if not module.check_mode:
            changes.apply(steps)
    except SystemStateError as error:
        module.fail_json(msg=f"tresor_files: {error}")
    except OSError as error:
        module.fail_json(msg=f"tresor_files: {error.strerror}: {error.filename}")
    module.exit_json(
        changed=bool(steps),
        changed_paths=[str(step.path) for step in steps],
        diff=[
            {
                "before_header": str(step.path),
                "after_header": str(step.path),
                "before": step.before,
                "after": step.after,
            }
            for step in steps
        ],
    )


if __name__ == "__main__":
    main()
