#!/usr/bin/python
"""Ansible module: which release the bastion's store serves."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tresor_bundle_release
short_description: Make the approved bundle the current release, or go back to a kept one
version_added: "0.1.0"
description:
  - Without O(release), activates the bundle that two people have approved; its contents are hashed
    again in the store first. The former release is kept, older ones and their contents are removed.
  - With O(release), switches to a release that is kept. This needs no new approval, only a name and
    a reason, which go into the audit.
options:
  release:
    description: Id of a kept release to switch to; see M(tresor_bundle_info).
    type: str
  person:
    description: Who decides to switch; required with O(release).
    type: str
  reason:
    description: Why, in 10 to 500 characters; required with O(release).
    type: str
  allowed_signers:
    description: Who may approve, in the format of ssh-keygen.
    type: path
    default: /etc/tresor/approvers/allowed_signers
extends_documentation_fragment: [tresor_importer]
attributes:
  check_mode:
    description: Tells whether the release would change; approvals are not verified then.
    support: full
  diff_mode:
    description: Shows the id of the release before and after.
    support: full
  idempotent:
    description: An active release is left alone.
    support: full
author: [Tresor]
"""

EXAMPLES = r"""
- name: Activate what two people approved
  tresor_bundle_release:

- name: Go back
  tresor_bundle_release:
    release: 2026.11-3
    person: alice
    reason: The chat model of 2026.11-4 answers too slowly
"""

RETURN = r"""
release:
  description: Id of the current release.
  returned: success
  type: str
  sample: 2026.11-4
message:
  description: What was done.
  returned: success
  type: str
  sample: "active: /srv/tresor/store/releases/2026.11-4"
rule:
  description: Name of the check that refused.
  returned: failure
  type: str
  sample: approval.count
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.store_importer.command import ImporterError, call, importer_spec


def argument_spec() -> dict[str, Any]:
    """Return the options; kept apart so that the contract test can compare them."""
    return {
        "release": {"type": "str"},
        "person": {"type": "str"},
        "reason": {"type": "str"},
        "allowed_signers": {"type": "path", "default": "/etc/tresor/approvers/allowed_signers"},
        **importer_spec(),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=argument_spec(),
        supports_check_mode=True,
        required_by={"release": ("person", "reason")},
    )
    try:
        result = _run(module)
    except ImporterError as error:
        module.fail_json(msg=str(error), rule=error.rule)
    module.exit_json(**result)


def _run(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    place = (params["program"], params["store"])
    status = call(module.run_command, *place, "status")
    before = status["current"] or ""
    wanted = params["release"]
    if wanted is None:
        wanted = status["pending"][-1]["id"] if status["pending"] else before
    elif wanted not in status["releases"]:
        kept = ", ".join(status["releases"]) or "none"
        raise ImporterError("state.release", f"release {wanted} is not kept; there are: {kept}")
    if not wanted:
        raise ImporterError("state.pending", "no bundle waits and no release is active; import one")
    diff = {"before": f"{before}\n", "after": f"{wanted}\n"}
    if module.check_mode or wanted == before:
        return {
            "changed": wanted != before,
            "release": wanted,
            "message": "would be switched" if wanted != before else "already active",
            "diff": diff,
        }
    if params["release"] is None:
        done = call(
            module.run_command, *place, "activate", ["--allowed-signers", params["allowed_signers"]]
        )
    else:
        done = call(
            module.run_command, *place, "switch",
            ["--release", wanted, "--person", params["person"], "--reason", params["reason"]],
        )  # fmt: skip
    # Advisories replace nothing.
    switched = done["state"] == "ACTIVE"
    return {
        "changed": done["changed"],
        "release": done["release"] if switched else before,
        "message": done["message"],
        "diff": diff if switched else {},
    }


if __name__ == "__main__":
    main()
