#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: validate an inventory and write the resolved plan."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tresor_plan
short_description: Validate a site's inventory and write its resolved plan
description:
  - Reads C(hosts.yml) and the files per concern of an inventory as data, validates them with their
    JSON schemas, checks them against each other, and writes the resolved plan as JSON.
  - Reports every problem at once, each with file, line, key, value seen and what to write instead.
    If there is one, nothing is written.
  - Computes for every engine whether it fits on the GPUs it is placed on, chooses GPUs where the
    inventory says C(auto), and refuses a site that does not fit, with model, host and figures.
  - Writes a capacity report on demand, with the needs of every host, a bill of materials and
    alternatives.
  - The same inventory gives the same plan and the same report, byte for byte.
options:
  inventory_dir:
    description: The directory of the inventory, which holds C(hosts.yml) and C(group_vars).
    type: path
    required: true
  schema_dir:
    description: The directory of the JSON schemas of Tresor.
    type: path
    required: true
  dest:
    description: The file to write. Its directory is made if it is missing.
    type: path
    required: true
  report_dir:
    description: >-
      A directory for the capacity report (C(capacity.json), C(capacity.md), C(capacity.html)). It
      is made if it is missing.
    type: path
  bundle_dir:
    description: >-
      The folder with C(lock) and C(spec) of the bundle, for versions and licences in the bill of
      materials. A folder without them is passed over.
    type: path
  prices_file:
    description: >-
      A YAML file with the site's own prices. Without it, costs are told as GPUs, W, rack units and
      GPU hours only.
    type: path
  recommend:
    description: >-
      Reports on the fewest servers of this kind that carry the site, in place of the site's own
      GPU hosts. Needs O(report_dir); no plan is written.
    type: dict
    suboptions:
      gpu:
        description: A card of the catalogue.
        type: str
        required: true
      gpus:
        description: How many of them a server has.
        type: int
        required: true
attributes:
  check_mode:
    support: full
    description: Validates and compares, and writes nothing.
  diff_mode:
    support: full
    description: Shows the plan before and after.
requirements:
  - PyYAML and jsonschema in the interpreter that runs the module
author:
  - Tresor
"""

EXAMPLES = r"""
- name: Resolve the plan of the lab
  tresor_plan:
    inventory_dir: "{{ playbook_dir }}/../inventories/lab"
    schema_dir: "{{ playbook_dir }}/../python_plugins/module_utils/tresor/schema"
    dest: /var/lib/tresor/plan/plan.json
    report_dir: /var/lib/tresor/plan/report

- name: Ask what to buy
  tresor_plan:
    inventory_dir: "{{ playbook_dir }}/../inventories/production"
    schema_dir: "{{ playbook_dir }}/../python_plugins/module_utils/tresor/schema"
    dest: build/plan.json
    report_dir: build/report
    recommend: {gpu: H200 SXM 141GB, gpus: 8}
"""

RETURN = r"""
dest:
  description: The file of the plan.
  returned: always
  type: str
report:
  description: The files of the report.
  returned: when report_dir is given
  type: list
  elements: str
notes:
  description: What should be known about a site that fits.
  returned: success
  type: list
  elements: str
inventory_sha256:
  description: The digest of the inventory, equal to C(sha256sum FILES | sha256sum).
  returned: success
  type: str
problems:
  description: What is wrong, each with file, line, key, wrong, seen and fix.
  returned: failure
  type: list
  elements: dict
"""

import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    from ansible.module_utils.tresor.inventory.loader import load_inventory
    from ansible.module_utils.tresor.inventory.problems import InventoryError
    from ansible.module_utils.tresor.placement.load import ServiceModel
    from ansible.module_utils.tresor.placement.proposal import ProposalError
    from ansible.module_utils.tresor.plan.report_files import ReportError, report_files
    from ansible.module_utils.tresor.plan.resolve import PlanError, check_plan, plan_text, resolve
    from ansible.module_utils.tresor.sizing.slo import assess
    from ansible.module_utils.tresor.sizing.slo.predict import predict

    MISSING = ""
except ImportError as error:
    if error.name is None or error.name.partition(".")[0] not in ("jsonschema", "yaml"):
        raise
    MISSING = error.name


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "inventory_dir": {"type": "path", "required": True},
        "schema_dir": {"type": "path", "required": True},
        "dest": {"type": "path", "required": True},
        "report_dir": {"type": "path"},
        "bundle_dir": {"type": "path"},
        "prices_file": {"type": "path"},
        "recommend": {
            "type": "dict",
            "options": {
                "gpu": {"type": "str", "required": True},
                "gpus": {"type": "int", "required": True},
            },
        },
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=argument_spec(),
        supports_check_mode=True,
        required_by={"recommend": ["report_dir"]},
    )
    if MISSING:
        module.fail_json(msg=missing_required_lib(MISSING))
    options, dest = module.params, Path(module.params["dest"])
    try:
        inventory, texts = _texts(options)
    except InventoryError as error:
        problems = [problem.as_dict() for problem in error.problems]
        module.fail_json(msg=str(error), problems=problems, dest=str(dest))
    except (PlanError, ProposalError, ReportError, OSError, ValueError) as error:
        module.fail_json(msg=f"the plan cannot be resolved: {error}", dest=str(dest))
    before = {path: _read(path) for path in texts}
    changed = [path for path, text in texts.items() if before[path] != text]
    for path in changed if not module.check_mode else ():
        _write(module, path, texts[path])
    module.exit_json(
        changed=bool(changed),
        dest=str(dest),
        report=[str(path) for path in texts if path != dest],
        notes=list(inventory.capacity.notes),
        inventory_sha256=inventory.sha256,
        diff=[
            {
                "before": before[path] or "",
                "after": texts[path],
                "before_header": str(path),
                "after_header": str(path),
            }
            for path in changed
        ],
    )


def _texts(options: dict[str, Any]) -> tuple[Any, dict[Path, str]]:
    """Return the inventory, and the text of every file to write by its path."""
    schema_dir, server = Path(options["schema_dir"]), options["recommend"]
    inventory = load_inventory(Path(options["inventory_dir"]), schema_dir, must_fit=server is None)
    texts: dict[Path, str] = {}
    if server is None:
        plan = resolve(inventory)
        check_plan(plan, schema_dir)
        texts[Path(options["dest"])] = plan_text(plan)
    if options["report_dir"]:
        files = report_files(
            inventory,
            schema_dir,
            bundle_dir=Path(options["bundle_dir"]) if options["bundle_dir"] else None,
            prices_file=Path(options["prices_file"]) if options["prices_file"] else None,
            service=ServiceModel(predict, assess),
            server=server,
        )
        texts |= {Path(options["report_dir"]) / name: text for name, text in files.items()}
    return inventory, texts


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _write(module: AnsibleModule, path: Path, text: str) -> None:
    """Write a file in one step; a reader never sees half of it."""
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".new")
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        module.fail_json(msg=f"{path}: cannot be written: {error.strerror}; check the directory")


if __name__ == "__main__":
    main()
