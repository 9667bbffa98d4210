"""promtool, and the rules of the role prometheus as they lie on a host."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from python_plugins.tests.play_call import run_play

ROOT = Path(__file__).parents[3]
ROLE = ROOT / "roles" / "prometheus"
STATIC_RULES = sorted((ROLE / "files" / "rules").glob("*.yml"))

# The service level of the tests: a budget of 0.5 %, so that 14.4 times its rate is 7.2 %.
GIVEN = {
    "prometheus_slo": {
        "availability_percent": 99.5,
        "window_days": 30,
        "maintenance_counts": False,
        "ttft_p95_ms": 500,
        "e2e_p95_ms": 3000,
    },
    "prometheus_jwks_max_age_seconds": 86400,
    "ansible_managed": "managed",
}


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Return promtool, which molecule/setup unpacks beside the environment's Python."""
    path = Path(sys.executable).with_name("promtool")
    assert path.is_file(), f"{path} is missing: run `make setup`"
    return path


def render(target: Path, given: dict[str, Any], source: Path, role: Path) -> None:
    """Write a template of a role as Ansible would, with the role's defaults and ``given``."""
    target.parent.mkdir(parents=True, exist_ok=True)
    values = target.with_name(f".{target.name}.given.yml")
    values.write_text(yaml.safe_dump(given))
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [str(role / "defaults/main.yml"), str(role / "vars/main.yml"), str(values)],
        "tasks": [
            {"ansible.builtin.template": {"src": str(source), "dest": str(target), "mode": "0600"}}
        ],
    }
    done = run_play(play, target.with_name(f".{target.name}.play.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all rule files, the site's targets rendered."""
    folder = tmp_path_factory.mktemp("monitoring") / "rules"
    folder.mkdir()
    source = ROLE / "templates/etc/tresor/prometheus/rules/targets.yml.j2"
    render(folder.parent / "targets.yml", GIVEN, source, ROLE)
    for path in (*STATIC_RULES, folder.parent / "targets.yml"):
        content = yaml.safe_load(path.read_text())
        for group in content["groups"]:
            # How often a host evaluates it; here each test says so, or days cost minutes.
            group.pop("interval", None)
        (folder / path.name).write_text(yaml.safe_dump(content, sort_keys=False))
    return folder
