"""Run a module of ours in-process, as Ansible would, and hand back its result."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any
from unittest import mock

import ansible.module_utils
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

_OURS = str(Path(__file__).parents[1] / "module_utils")


class _ModuleEnd(Exception):  # noqa: N818  (not an error: how exit_json leaves main)
    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__(json.dumps(result))
        self.result = result


def load(name: str) -> Any:
    """Return the module's Python module, its ``ansible.module_utils.tresor`` imports resolved."""
    if _OURS not in ansible.module_utils.__path__:
        ansible.module_utils.__path__.append(_OURS)
    return importlib.import_module(f"python_plugins.modules.{name}")


def call(name: str, *, check: bool = False, **options: Any) -> dict[str, Any]:
    """Return what the module hands back; ``failed`` is set when it failed."""
    module = load(name)

    def leave(_self: basic.AnsibleModule, **result: Any) -> None:
        raise _ModuleEnd(result)

    def fail(_self: basic.AnsibleModule, msg: str, **result: Any) -> None:
        raise _ModuleEnd({**result, "failed": True, "msg": msg})

    with (
        mock.patch.object(basic.AnsibleModule, "exit_json", leave),
        mock.patch.object(basic.AnsibleModule, "fail_json", fail),
        patch_module_args({**options, "_ansible_check_mode": check}),
    ):
        try:
            module.main()
        except _ModuleEnd as end:
            return end.result
    raise AssertionError(f"{name} returned nothing")
