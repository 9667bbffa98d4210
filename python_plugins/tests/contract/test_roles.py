"""What every role of this repository promises, compared with what it has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from python_plugins.tests.play_call import run_play

ROOT = Path(__file__).parents[3]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
_ACTION_NAMES = re.compile(r"^\s*(?:register|loop_var|index_var):\s*(\S+)", re.MULTILINE)

every_role = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def entry_points(role: Path) -> dict[str, Any]:
    specs: dict[str, Any] = load(role / "meta" / "argument_specs.yml")["argument_specs"]
    return specs


def options(role: Path) -> dict[str, Any]:
    found: dict[str, Any] = entry_points(role)["main"].get("options") or {}
    return found


def defaults(role: Path) -> dict[str, Any]:
    path = role / "defaults" / "main.yml"
    return (load(path) or {}) if path.exists() else {}


def task_files(role: Path) -> Iterator[Path]:
    yield from sorted((role / "tasks").rglob("*.yml"))


def tasks(items: Any) -> Iterator[dict[str, Any]]:
    for item in items or []:
        yield item
        for nested in ("block", "rescue", "always"):
            yield from tasks(item.get(nested))


def described(spec: dict[str, Any], where: str) -> Iterator[tuple[str, Any]]:
    for name, option in (spec or {}).items():
        yield f"{where}{name}", option
        yield from described(option.get("options", {}), f"{where}{name}.")


@every_role
def test_has_readme_and_meta(role: Path) -> None:
    for name in ("README.md", "meta/main.yml", "meta/argument_specs.yml", "tasks/main.yml"):
        assert (role / name).is_file(), f"{role.name} lacks {name}"
    assert (role / "README.md").read_text().startswith(f"# {role.name}\n")
    assert "check mode" in (role / "README.md").read_text().lower()


@every_role
def test_depends_on_no_role(role: Path) -> None:
    assert load(role / "meta" / "main.yml").get("dependencies", []) == []


@every_role
def test_options_carry_the_roles_name(role: Path) -> None:
    names = {*options(role), *defaults(role)}
    assert [name for name in sorted(names) if not name.startswith(f"{role.name}_")] == []


@every_role
def test_defaults_are_those_of_the_spec(role: Path) -> None:
    stated = {name: o["default"] for name, o in options(role).items() if "default" in o}
    assert defaults(role) == stated


@every_role
def test_option_is_required_or_has_a_default(role: Path) -> None:
    open_ended = [
        name for name, o in options(role).items() if not o.get("required") and "default" not in o
    ]
    assert open_ended == [], "neither required nor with a default"


@every_role
def test_every_option_is_described_in_sentences(role: Path) -> None:
    for point in entry_points(role).values():
        assert point.get("short_description")
        for name, option in described(point.get("options") or {}, ""):
            text = option.get("description", "")
            last = (text[-1] if isinstance(text, list) else text).strip()
            assert last.endswith("."), f"{name}: describe it in a whole sentence"
            assert "type" in option, f"{name}: no type"


@every_role
def test_private_names_are_marked(role: Path) -> None:
    private = re.compile(rf"__{role.name}_?\w*")
    for path in task_files(role):
        text = path.read_text()
        for name in _ACTION_NAMES.findall(text):
            assert private.fullmatch(name), f"{path.name}: {name} must begin with __{role.name}_"
        for task in tasks(load(path)):
            for name in task.get("ansible.builtin.set_fact") or {}:
                assert private.fullmatch(name) or name == "cacheable", f"{path.name}: {name}"
    for path in (role / "vars").glob("*.yml") if (role / "vars").exists() else ():
        assert [n for n in load(path) if not private.fullmatch(n)] == [], f"vars/{path.name}"


@every_role
def test_knows_no_group_of_the_inventory(role: Path) -> None:
    for path in sorted(role.rglob("*")):
        if path.suffix in {".yml", ".j2"}:
            named = re.search(r"\bgroups(\[|\.)(?!'all'\])", path.read_text())
            assert not named, f"{path} names a group: take a list of hosts"


@every_role
def test_task_names_begin_with_their_file(role: Path) -> None:
    for path in task_files(role):
        if path.name == "main.yml" or path.parent.name != "tasks":
            continue
        for task in tasks(load(path)):
            name = str(task.get("name", ""))
            assert name.startswith(f"{path.stem} | "), f"{path.name}: '{name}'"


@every_role
def test_templates_say_who_manages_them(role: Path) -> None:
    folder = role / "templates"
    for path in sorted(folder.rglob("*.j2")) if folder.exists() else ():
        if path.parent == folder:
            continue  # not a file on a host, but an intermediate value
        text = path.read_text()
        assert "ansible_managed" in text.splitlines()[0], f"{path}: no ansible_managed"
        assert "ansible_date_time" not in text


def given(role: Path) -> dict[str, Any]:
    """Return a value for each required option, and one option that does not exist."""
    empty: dict[str, Any] = {"list": [], "dict": {}, "bool": False, "int": 0}
    required = {
        name: empty.get(option["type"], "none")
        for name, option in options(role).items()
        if option.get("required")
    }
    return {**required, f"{role.name}_misspelt": True}


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Run every role with a misspelt option up to its preflight; return what Ansible printed."""
    play: dict[str, Any] = {
        "hosts": "localhost",
        "gather_facts": True,
        "gather_subset": ["min"],
        "vars": {name: value for role in ROLES for name, value in given(role).items()},
        "tasks": [
            {
                "block": [
                    {
                        "name": f"role {role.name}",
                        "ansible.builtin.include_role": {
                            "name": role.name,
                            "tasks_from": "preflight",
                            "rolespec_validate": False,
                        },
                    }
                ],
                "rescue": [{"ansible.builtin.debug": {"msg": "{{ ansible_failed_result.msg }}"}}],
            }
            for role in ROLES
        ],
    }
    done = run_play(play, tmp_path_factory.mktemp("play") / "play.yml")
    return done.stdout + done.stderr


@every_role
def test_misspelt_option_is_refused(role: Path, refusals: str) -> None:
    assert (role / "tasks" / "preflight.yml").is_file(), "no tasks/preflight.yml"
    said = [
        line
        for line in refusals.splitlines()
        if line.lstrip().startswith('"msg":') and f"{role.name}_misspelt" in line
    ]
    assert said, f"preflight of {role.name} accepts {role.name}_misspelt:\n{refusals[-3000:]}"


@every_role
def test_the_list_of_known_options_is_whole(role: Path) -> None:
    """Roles that refuse unknown options name the known ones; one that lacks there is refused."""
    path = role / "vars" / "main.yml"
    known = (load(path) or {}).get(f"__{role.name}_options") if path.exists() else None
    if isinstance(known, list):
        assert sorted(known) == sorted(options(role))
