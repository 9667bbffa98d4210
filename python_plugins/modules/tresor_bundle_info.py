#!/usr/bin/python
"""Ansible module: what the bastion's store holds and waits for."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tresor_bundle_info
short_description: Tell what the bastion's store holds and waits for
version_added: "0.1.0"
description:
  - Reads the active release, the kept ones, the bundle that waits for approval and by whom it is
    approved, the last scrub, and how far a running import is.
options:
  review:
    description: Also return what the waiting bundle would change against the running release.
    type: bool
    default: false
extends_documentation_fragment: [tresor_importer]
attributes:
  check_mode:
    description: Reads only.
    support: full
  idempotent:
    description: Changes nothing.
    support: full
author: [Tresor]
"""

EXAMPLES = r"""
- name: Look into the store
  tresor_bundle_info:
  register: store

- name: Show what waits, with its changes
  tresor_bundle_info:
    review: true
  register: waiting
"""

RETURN = r"""
current:
  description: Id of the active release, empty if there is none.
  returned: always
  type: str
  sample: 2026.11-3
releases:
  description: Ids of the releases that are kept.
  returned: always
  type: list
  sample: [2026.11-2, 2026.11-3]
pending:
  description: Bundles that wait for approval, with C(approved_by).
  returned: always
  type: list
  sample: []
last_scrub:
  description: When the store was hashed last, and whether all was well.
  returned: always
  type: dict
  sample: {ok: true, time: "2026-11-22T02:10:07Z"}
progress:
  description: How far the running import is; empty if none runs.
  returned: always
  type: dict
  sample: {done: 1073741824, total: 4294967296, rate: 419430400, seconds_left: 7}
difference:
  description: What the waiting bundle would change.
  returned: with O(review) when a bundle waits
  type: dict
  sample: {id: 2026.11-4}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.store_importer.command import ImporterError, call, importer_spec


def argument_spec() -> dict[str, Any]:
    """Return the options; kept apart so that the contract test can compare them."""
    return {"review": {"type": "bool", "default": False}, **importer_spec()}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    place = (params["program"], params["store"])
    try:
        found = call(module.run_command, *place, "status")
        result = {
            "current": found["current"] or "",
            "releases": found["releases"],
            "pending": found["pending"],
            "last_scrub": found["last_scrub"] or {},
            "progress": found["progress"] or {},
        }
        if params["review"] and found["pending"]:
            result["difference"] = call(module.run_command, *place, "review")
    except ImporterError as error:
        module.fail_json(msg=str(error), rule=error.rule)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
