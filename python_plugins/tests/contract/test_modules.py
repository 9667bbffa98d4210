"""Documentation of every module, compared with its argument spec and read by ansible-doc."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from python_plugins.tests import module_call

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "python_plugins" / "modules"
MODULES = sorted(path.stem for path in FOLDER.glob("*.py"))
_COMPARED = ("type", "elements", "required", "default", "choices")

every_module = pytest.mark.parametrize("name", MODULES)


def doc(name: str, part: str) -> Any:
    found = yaml.safe_load(getattr(module_call.load(name), part))
    if part == "DOCUMENTATION":
        for fragment in found.get("extends_documentation_fragment", []):
            options = found.setdefault("options", {})
            shared = fragment_options(fragment)
            assert not set(shared) & set(options), f"{name} documents what {fragment} documents"
            options.update(shared)
    return found


def fragment_options(name: str) -> dict[str, Any]:
    """Return the options of a fragment in python_plugins/doc_fragments."""
    module = importlib.import_module(f"python_plugins.doc_fragments.{name}")
    options: dict[str, Any] = yaml.safe_load(module.ModuleDocFragment.DOCUMENTATION)["options"]
    return options


def normal(option: dict[str, Any], nested: str) -> dict[str, Any]:
    """Return the comparable part of an option, from the docs or from the spec."""
    found = {key: option[key] for key in _COMPARED if key in option}
    found.setdefault("type", "str")
    if not found.get("required"):
        found.pop("required", None)
    if found.get("default") is None:
        found.pop("default", None)
    if nested in option:
        found["nested"] = {
            name: normal(entry, nested) for name, entry in sorted(option[nested].items())
        }
    return found


@every_module
def test_is_ours_by_name(name: str) -> None:
    assert name.startswith("tresor_")


@every_module
def test_documentation_names_the_module(name: str) -> None:
    text = doc(name, "DOCUMENTATION")
    assert text["module"] == name
    assert text["short_description"]
    assert text["description"]


@every_module
def test_documented_options_are_the_accepted_ones(name: str) -> None:
    documented = doc(name, "DOCUMENTATION").get("options") or {}
    spec = module_call.load(name).argument_spec()
    assert {key: normal(option, "suboptions") for key, option in sorted(documented.items())} == {
        key: normal(option, "options") for key, option in sorted(spec.items())
    }


@every_module
def test_check_mode_is_documented(name: str) -> None:
    support = doc(name, "DOCUMENTATION")["attributes"]["check_mode"]["support"]
    tree = ast.parse((FOLDER / f"{name}.py").read_text())
    claimed = {
        keyword.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "supports_check_mode" and isinstance(keyword.value, ast.Constant)
    }
    assert claimed == {support != "none"}


@every_module
def test_examples_use_only_documented_options(name: str) -> None:
    examples = doc(name, "EXAMPLES")
    documented = doc(name, "DOCUMENTATION").get("options") or {}
    assert examples
    used = {key for task in examples if isinstance(task.get(name), dict) for key in task[name]}
    assert used <= set(documented)


@every_module
def test_return_values_are_described(name: str) -> None:
    for key, value in (doc(name, "RETURN") or {}).items():
        assert value.get("description"), key
        assert value.get("type"), key


def test_ansible_doc_reads_every_module() -> None:
    done = subprocess.run(
        [
            Path(sys.executable).with_name("ansible-doc"),
            "--type=module",
            f"--module-path={FOLDER}",
            "--json",
            *MODULES,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout)
    assert sorted(read) == MODULES
    assert [name for name in MODULES if "error" in read[name]] == []
    # With their fragments: Ansible reads the same options as the modules accept.
    for name in MODULES:
        assert set(read[name]["doc"].get("options") or {}) == set(
            module_call.load(name).argument_spec()
        ), name


def test_every_fragment_is_used() -> None:
    used = {
        fragment
        for name in MODULES
        for fragment in yaml.safe_load(module_call.load(name).DOCUMENTATION).get(
            "extends_documentation_fragment", []
        )
    }
    assert used == {path.stem for path in (ROOT / "python_plugins/doc_fragments").glob("*.py")}
