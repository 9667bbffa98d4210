#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: say whether the cheaper instance is good enough."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tresor_evaluation_report
short_description: Judge the answers of an evaluation and write its result and its page
description:
  - Grades the answers, compares them in pairs, and writes C(result.json), C(page.md) and the
    prompts into a directory of their own, for root alone, as they may hold what users ask.
options:
  prompts_file:
    description: The prompts that were asked.
    type: path
    required: true
  answers_file:
    description: What M(tresor_evaluation_ask) wrote.
    type: path
    required: true
  memory:
    description:
      - What is known of the instances' memory, for each the C(record) that
        M(tresor_engine_sizing) returns.
    type: list
    elements: dict
    default: []
  site:
    description: The name of the site, for the page.
    type: str
    required: true
  finished:
    description: When the answers were complete, for the page.
    type: str
    required: true
  tolerance_percent:
    description: So many percentage points of the prompts the candidate may lose.
    type: float
    default: 5.0
  confidence_percent:
    description:
      - The confidence of the two-sided intervals. A verdict looks at one end, so it errs half as
        often as the rest.
    type: float
    default: 90.0
  reference_minimum_percent:
    description: Where the reference passes less, the prompts cannot tell anything.
    type: float
    default: 30.0
  directory:
    description: The directory of the result. It must not exist, its parent must.
    type: path
    required: true
attributes:
  check_mode:
    support: full
    description: Judges, and writes nothing.
author: Tresor
"""

EXAMPLES = r"""
- name: Report
  tresor_evaluation_report:
    prompts_file: /srv/evaluation/claims.jsonl
    answers_file: /run/evaluation/answers.json
    site: example
    finished: 2026-11-25T14:00:00Z
    directory: /var/lib/tresor/evaluations/20261125T140000Z
"""

RETURN = r"""
verdict:
  description: C(good_enough), C(not_good_enough) or C(cannot_tell).
  type: str
  returned: success
reasons:
  description: Why, a sentence each.
  type: list
  elements: str
  returned: success
page:
  description: The file of the page.
  type: str
  returned: success
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.evaluate.errors import EvaluateError
from ansible.module_utils.tresor.evaluate.judgement import Bounds, evaluate
from ansible.module_utils.tresor.evaluate.memory import told
from ansible.module_utils.tresor.evaluate.page import page
from ansible.module_utils.tresor.evaluate.prompts import read_prompts


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "prompts_file": {"type": "path", "required": True},
        "answers_file": {"type": "path", "required": True},
        "memory": {"type": "list", "elements": "dict", "default": []},
        "site": {"type": "str", "required": True},
        "finished": {"type": "str", "required": True},
        "tolerance_percent": {"type": "float", "default": 5.0},
        "confidence_percent": {"type": "float", "default": 90.0},
        "reference_minimum_percent": {"type": "float", "default": 30.0},
        "directory": {"type": "path", "required": True},
    }


def main() -> None:
    """Judge and write."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    options = module.params
    ranges = {
        "tolerance_percent": (0, 50),
        "confidence_percent": (50, 99.9),
        "reference_minimum_percent": (0, 100),
    }
    for name, (low, high) in ranges.items():
        if not low <= options[name] <= high:
            module.fail_json(msg=f"{name} is {options[name]}: write {low} to {high}")
    bounds = Bounds(*(options[name] / 100 for name in ranges))
    try:
        data = Path(options["prompts_file"]).read_bytes()
        prompts = read_prompts(data, options["prompts_file"])
        answers = json.loads(Path(options["answers_file"]).read_bytes())
        result = evaluate(
            answers,
            prompts,
            bounds,
            memory={record["instance"]: told(record) for record in options["memory"]},
            about={"site": options["site"], "finished": options["finished"]},
        )
    except (OSError, EvaluateError) as error:
        module.fail_json(msg=f"the evaluation cannot be judged: {error}")
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        module.fail_json(msg=f"{options['answers_file']} is no file of answers: {error!r}")
    directory = Path(options["directory"])
    texts = {
        "result.json": json.dumps(result, indent=2, sort_keys=True, ensure_ascii=False) + "\n",
        "page.md": page(result),
        "answers.json": json.dumps(answers, indent=1, ensure_ascii=False) + "\n",
    }
    if not module.check_mode:
        files = {name: text.encode() for name, text in texts.items()}
        _write(module, directory, {**files, "prompts.jsonl": data})
    module.exit_json(
        changed=True,
        verdict=result["verdict"],
        reasons=result["reasons"],
        page=str(directory / "page.md"),
    )


def _write(module: AnsibleModule, directory: Path, files: dict[str, bytes]) -> None:
    """Write a directory that is there whole or not at all."""
    partial = directory.with_name(f".{directory.name}.new")
    try:
        if directory.exists():
            module.fail_json(msg=f"{directory} exists: name another directory")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        for name, content in files.items():
            descriptor = os.open(partial / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        partial.rename(directory)
    except OSError as error:
        module.fail_json(msg=f"{directory}: cannot be written: {error.strerror}")


if __name__ == "__main__":
    main()
