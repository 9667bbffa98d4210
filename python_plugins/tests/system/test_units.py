"""Units restart when what they read changed after they started, and for no other reason."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from python_plugins.tests.module_call import call
from tresor.system import units
from tresor.system.errors import SystemStateError
from tresor.system.units import Step, UnitState, WantedUnit

NAME = "engine@a.service"


def state(**changes: Any) -> UnitState:
    fields: dict[str, Any] = {
        "name": NAME,
        "loaded": True,
        "masked": False,
        "active": True,
        "enabled": True,
        "needs_reload": False,
        "started": 2_000_000_000.0,
    }
    return UnitState(**{**fields, **changes})


def verbs(found: UnitState, *watch: Path, pending: frozenset[Path] = frozenset()) -> list[str]:
    steps = units.plan([WantedUnit(NAME, watch)], {NAME: found}, pending=pending)
    return [step.verb for step in steps]


def test_wanted_state_needs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "conf"
    path.write_text("")
    started = path.stat().st_ctime + 1
    assert verbs(state(started=started), path, tmp_path / "missing") == []


def test_newer_file_restarts(tmp_path: Path) -> None:
    path = tmp_path / "conf"
    path.write_text("")
    assert verbs(state(started=path.stat().st_ctime - 1), path) == ["restart"]


def test_a_date_set_back_does_not_hide_the_change(tmp_path: Path) -> None:
    path = tmp_path / "conf"
    path.write_text("")
    os.utime(path, (0, 0))
    assert verbs(state(started=path.stat().st_ctime - 1), path) == ["restart"]


def test_switched_link_restarts(tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to("release")
    assert verbs(state(started=link.lstat().st_ctime - 1), link) == ["restart"]


def test_pending_file_restarts_in_check_mode(tmp_path: Path) -> None:
    path = tmp_path / "conf"
    assert verbs(state(), path, pending=frozenset([path])) == ["restart"]


def test_stopped_unit_is_started_not_restarted(tmp_path: Path) -> None:
    path = tmp_path / "conf"
    path.write_text("")
    assert verbs(state(active=False, started=0.0), path) == ["start"]


def test_new_unit_is_loaded_enabled_started() -> None:
    found = state(loaded=False, active=False, enabled=False, started=0.0)
    assert verbs(found) == ["daemon-reload", "enable", "start"]


def test_changed_unit_file_is_reloaded_before_the_restart() -> None:
    assert verbs(state(needs_reload=True)) == ["daemon-reload", "restart"]


def test_unwanted_instances_are_disabled_first() -> None:
    steps = units.plan([], {}, ["engine@b.service"])
    assert steps[0] == Step("disable", "engine@b.service", "not wanted any more")


def test_masking_is_asked_for_once() -> None:
    assert [s.verb for s in units.plan_masked([NAME], {NAME: state()})] == ["mask"]
    masked = state(masked=True, loaded=False, active=False)
    assert units.plan_masked([NAME], {NAME: masked}) == []


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemctl that knows one running unit and writes down how it is called."""
    log = tmp_path / "calls"
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {log}\n'
        'case "$*" in\n'
        "*show*) cat <<END\n"
        f"Id={NAME}\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\n"
        "NeedDaemonReload=no\nInactiveExitTimestamp=Mon 2020-11-23 19:21:39.565778 UTC\nEND\n"
        ";;\n"
        f"*list-units*) echo '{NAME} loaded active running'; echo 'engine@old.service x y z';;\n"
        "*list-unit-files*) echo 'engine@.service disabled'; echo 'engine@off.service enabled';;\n"
        "esac\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return log


def test_module_removes_instances_that_left_and_restarts_what_changed(
    systemctl: Path, tmp_path: Path
) -> None:
    path = tmp_path / "conf"
    path.write_text("")
    options = {"units": [{"name": NAME, "watch": [str(path)]}], "template": "engine@*.service"}
    dry = call("tresor_units", check=True, **options)
    done = call("tresor_units", **options)
    assert dry["steps"] == done["steps"]
    assert [(s["verb"], s["unit"]) for s in done["steps"]] == [
        ("disable", "engine@off.service"),
        ("disable", "engine@old.service"),
        ("daemon-reload", ""),
        ("restart", NAME),
    ]
    assert f"restart -- {NAME}" in systemctl.read_text()


def silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: str) -> None:
    """Put a systemctl in front that knows no unit at all, as the real one says it."""
    program = tmp_path / "silent" / "systemctl"
    program.parent.mkdir()
    fails = f"*list-unit-files*) {complaint} exit 1;;"
    program.write_text(f'#!/bin/sh\ncase "$*" in\n{fails}\nesac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def test_module_finds_nothing_left_of_a_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent(tmp_path, monkeypatch, "")
    result = call("tresor_units", units=[], template="engine*")
    assert (result["changed"], result["steps"]) == (False, [])


def test_module_does_not_take_a_failure_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent(tmp_path, monkeypatch, "echo no bus >&2;")
    result = call("tresor_units", units=[], template="engine*")
    assert result["failed"]
    assert "no bus" in result["msg"]


def test_module_leaves_a_unit_with_older_files_alone(systemctl: Path) -> None:
    result = call("tresor_units", units=[{"name": NAME, "watch": ["/nonexistent"]}])
    assert (result["changed"], result["steps"]) == (False, [])


def test_failing_systemctl_is_an_error_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "systemctl"
    program.write_text("#!/bin/sh\necho no bus >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SystemStateError, match="no bus"):
        units.states([NAME])
