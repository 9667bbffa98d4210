#!/usr/bin/python
"""Ansible module: a model from the site's store on the host's own disk."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tresor_model
short_description: Bring a model from the site's store to the host's own disk
version_added: "0.1.0"
description:
  - Makes C(/opt/tresor/models/<digest>) from the files of a part, pulled over mutual TLS and hashed
    while they are written. The folder appears complete or not at all.
  - The digest is that of the canonical list of files, so a list that was changed is refused.
options:
  name:
    description: Name of the model, for messages and as default of O(part).
    type: str
    required: true
  digest:
    description: Digest of the model as the release record says, V(sha256:<64 hex digits>).
    type: str
    required: true
  state:
    description: Whether the model shall be there.
    type: str
    choices: [present, absent]
    default: present
  files:
    description: Files of the model as the release record lists them; required for V(present).
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path below the model's folder.
        type: str
        required: true
      size:
        description: Size in bytes.
        type: int
        required: true
      sha256:
        description: SHA-256 of the content, 64 hex digits.
        type: str
        required: true
  part:
    description: Part of the store that holds the model; C(model-<name>) if not given.
    type: str
  prefix:
    description: Folder of all models.
    type: path
    default: /opt/tresor/models
extends_documentation_fragment: [tresor_store]
attributes:
  check_mode:
    description: Reports what would change and changes nothing; the store is not asked.
    support: full
  diff_mode:
    description: Shows the folder before and after.
    support: full
  idempotent:
    description: A folder with the listed names and sizes is left alone.
    support: full
author: [Tresor]
"""

EXAMPLES = r"""
- name: Bring the chat model to this host
  tresor_model:
    name: smollm2-135m-instruct
    digest: "{{ tresor_release.models['smollm2-135m-instruct'].digest }}"
    files: "{{ tresor_release.models['smollm2-135m-instruct'].files }}"
    store_url: https://bastion1.site.example:8443
"""

RETURN = r"""
path:
  description: Folder of the model.
  returned: always
  type: str
  sample: /opt/tresor/models/0d5a...
bytes:
  description: Bytes that were pulled.
  returned: always
  type: int
  sample: 269060552
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.bundle.disk import remove_tree
from ansible.module_utils.tresor.bundle.errors import BundleError
from ansible.module_utils.tresor.store_client import model
from ansible.module_utils.tresor.store_client.options import connection, connection_spec


def argument_spec() -> dict[str, Any]:
    """Return the options; kept apart so that the contract test can compare them."""
    return {
        "name": {"type": "str", "required": True},
        "digest": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "files": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "path": {"type": "str", "required": True},
                "size": {"type": "int", "required": True},
                "sha256": {"type": "str", "required": True},
            },
        },
        "part": {"type": "str"},
        **connection_spec(),
        "prefix": {"type": "path", "default": "/opt/tresor/models"},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=argument_spec(),
        supports_check_mode=True,
        required_if=[("state", "present", ("files", "store_url"))],
    )
    try:
        result = _run(module)
    except BundleError as error:
        module.fail_json(msg=str(error), rule=error.rule)
    except OSError as error:
        module.fail_json(msg=f"environment.os: {error}", rule="environment.os")
    module.exit_json(**result)


def _run(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    prefix = Path(params["prefix"])
    present = params["state"] == "present"
    pulled = 0
    if present:
        wanted = model.wanted_model(
            params["name"],
            params["digest"],
            params["part"] or f"model-{params['name']}",
            params["files"],
            prefix,
        )
        folder = wanted.folder
        exists = folder.is_dir()
        changed = not model.is_present(wanted)
        if changed and not module.check_mode:
            pulled = model.pull(wanted, connection(params))
    else:
        folder = model.folder_of(prefix, params["digest"])
        exists = changed = folder.is_dir()
        if changed and not module.check_mode:
            remove_tree(folder)
    return {
        "changed": changed,
        "path": str(folder),
        "bytes": pulled,
        "diff": {
            "before": f"{folder}\n" if exists else "",
            "after": f"{folder}\n" if present else "",
        },
    }


if __name__ == "__main__":
    main()
