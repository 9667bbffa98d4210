#!/usr/bin/python
"""Ansible module: the bastion's signed apt repositories."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tresor_package_repository
short_description: Publish the apt repositories of the active release, signed by this bastion
version_added: "0.1.0"
description:
  - Signs the C(Release) file of each repository with this bastion's own key and publishes all of
    them at once under C(<state_dir>/apt/<name>/).
  - The key is made on first use. A repository whose list did not change keeps its signature.
options:
  store:
    description: Root of the store; its C(current) release is published.
    type: path
    default: /srv/tresor/store
  repositories:
    description: Name of each published repository and the part of the release that holds it.
    type: dict
    required: true
  suite:
    description: Suite of the repositories.
    type: str
    default: site
  state_dir:
    description: Folder of the key, the signatures and the published links.
    type: path
    default: /var/lib/tresor/package_store
  key_name:
    description: User id of the key.
    type: str
    required: true
  public_key_path:
    description: Where the public key is written, ASCII-armoured, for the hosts.
    type: path
    default: /var/lib/tresor/package_store/site-archive-key.asc
attributes:
  check_mode:
    description: Reports what would change and changes nothing.
    support: full
  diff_mode:
    description: Shows the release that is published before and after.
    support: full
  idempotent:
    description: Nothing is signed while release, lists and key are the same.
    support: full
author: [Tresor]
"""

EXAMPLES = r"""
- name: Publish the repositories of the active release
  tresor_package_repository:
    key_name: Package store of bastion1.site.example
    repositories:
      debian-12: debs-debian-12
      debian-13: debs-debian-13
"""

RETURN = r"""
release:
  description: Name of the release that is published.
  returned: always
  type: str
  sample: 2026.11-3
fingerprint:
  description: Fingerprint of the signing key; empty in check mode before there is one.
  returned: always
  type: str
  sample: 8A5B0C6D...
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.bundle.errors import BundleError
from ansible.module_utils.tresor.package_store import repository


def argument_spec() -> dict[str, Any]:
    """Return the options; kept apart so that the contract test can compare them."""
    return {
        "store": {"type": "path", "default": "/srv/tresor/store"},
        "repositories": {"type": "dict", "required": True},
        "suite": {"type": "str", "default": "site"},
        "state_dir": {"type": "path", "default": "/var/lib/tresor/package_store"},
        "key_name": {"type": "str", "required": True},
        "public_key_path": {
            "type": "path",
            "default": "/var/lib/tresor/package_store/site-archive-key.asc",
        },
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    try:
        current = Path(params["store"]) / "current"
        wanted = repository.Wanted(
            release=current.resolve(),
            repositories={str(name): str(part) for name, part in params["repositories"].items()},
            state=Path(params["state_dir"]),
            suite=params["suite"],
            key_name=params["key_name"],
            public_key=Path(params["public_key_path"]),
        )
        before = repository.published_release(wanted.state)
        plan = repository.plan(wanted)
        if plan.changed and not module.check_mode:
            repository.apply(wanted, plan)
    except BundleError as error:
        module.fail_json(msg=str(error), rule=error.rule)
    except OSError as error:
        module.fail_json(msg=f"environment.os: {error}", rule="environment.os")
    module.exit_json(
        changed=plan.changed,
        release=wanted.release.name,
        fingerprint=repository.fingerprint(wanted.state),
        diff={"before": f"{before}\n", "after": f"{wanted.release}\n"},
    )


if __name__ == "__main__":
    main()
