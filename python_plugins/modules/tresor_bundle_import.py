#!/usr/bin/python
"""Ansible module: take the bundle of a mounted medium into the bastion's store."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tresor_bundle_import
short_description: Take the bundle of a mounted medium into the bastion's store
version_added: "0.1.0"
description:
  - Verifies signatures, site and space, copies the contents while hashing them, and lets the policy
    gates judge them. The bundle then waits for the approval of two people.
  - A run that was killed is continued by the same task.
options:
  site:
    description: Name of this site; a bundle that was made for another is refused.
    type: str
    required: true
  media:
    description: Bundle folders of the mounted volumes, in any order.
    type: list
    elements: path
    default: [/media/tresor/bundle]
  root_sha256:
    description: Fingerprint of the first root, needed for the first import of a store.
    type: str
  accept_lab:
    description: Accept parts and keys that are meant for a lab.
    type: bool
    default: false
extends_documentation_fragment: [tresor_importer]
attributes:
  check_mode:
    description: Judges all but the contents, which are read only once, while they are copied.
    support: full
  idempotent:
    description: A bundle that waits or is active is left alone.
    support: full
author: [Tresor]
"""

EXAMPLES = r"""
- name: Take in both volumes
  tresor_bundle_import:
    site: example
    media: [/media/volume1/bundle, /media/volume2/bundle]
"""

RETURN = r"""
state:
  description: V(AWAIT_APPROVAL), V(ACTIVE), of advisories V(ADOPTED), or V(FITS) in check mode.
  returned: success
  type: str
  sample: AWAIT_APPROVAL
release:
  description: Id of the bundle.
  returned: success
  type: str
  sample: 2026.11-4
bundle_sha256:
  description: Digest that the approvers sign.
  returned: success
  type: str
  sample: 6f0c...
message:
  description: What comes next.
  returned: success
  type: str
  sample: release 2026.11-4 waits for 2 approvals
rule:
  description: Name of the check that refused.
  returned: failure
  type: str
  sample: content.digest
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.store_importer.command import ImporterError, call, importer_spec


def argument_spec() -> dict[str, Any]:
    """Return the options; kept apart so that the contract test can compare them."""
    return {
        "site": {"type": "str", "required": True},
        "media": {"type": "list", "elements": "path", "default": ["/media/tresor/bundle"]},
        "root_sha256": {"type": "str"},
        "accept_lab": {"type": "bool", "default": False},
        **importer_spec(),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    arguments = ["--site", params["site"], "--quiet"]
    for medium in params["media"]:
        arguments += ["--medium", medium]
    if params["root_sha256"]:
        arguments += ["--root-sha256", params["root_sha256"]]
    if params["accept_lab"]:
        arguments += ["--accept-scope", "lab"]
    if module.check_mode:
        arguments.append("--check")
    try:
        found = call(module.run_command, params["program"], params["store"], "import", arguments)
    except ImporterError as error:
        module.fail_json(msg=str(error), rule=error.rule)
    module.exit_json(**found)


if __name__ == "__main__":
    main()
