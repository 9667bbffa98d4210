"""A process is recognised by pid and start time; the dead stay dead."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from lab.host import RunState
from lab.launcher import LaunchSpec, nspawn_arguments, parse_notification
from lab.process import Process, parse_stat
from lab.shell import is_locked, try_lock


def stat(state: str, name: str = "x") -> str:
    return f"7 ({name}) {state} " + " ".join(str(number) for number in range(4, 40))


def test_start_time_is_field_22_even_with_a_strange_name() -> None:
    assert parse_stat(stat("S")) == 22
    assert parse_stat(stat("S", "a) Z (b")) == 22


def test_zombie_counts_as_dead() -> None:
    assert parse_stat(stat("Z")) is None


def test_zombie_of_ours_is_not_alive() -> None:
    child = subprocess.Popen(["true"])
    process = Process.of(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert Process.of(child.pid) is None
    assert process is None or not process.alive()
    child.wait()


def test_reused_pid_is_another_process() -> None:
    me = Process.of(os.getpid())
    assert me is not None
    assert me.alive()
    assert not Process(me.pid, me.start + 1).alive()


def test_signal_to_a_reused_pid_is_not_sent() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        process = Process.of(child.pid)
        assert process is not None
        Process(process.pid, process.start - 1).send(signal.SIGKILL)
        assert process.alive()
        process.send(signal.SIGKILL)
        assert child.wait(timeout=10) == -signal.SIGKILL
    finally:
        child.kill()
        child.wait()


def test_lock_is_held_until_its_last_holder_closes(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)
    descriptor = try_lock(path)
    assert descriptor is not None
    copy = os.dup(descriptor)
    os.close(descriptor)
    assert is_locked(path)
    assert try_lock(path) is None
    os.close(copy)
    assert not is_locked(path)


def test_lock_of_a_removed_file_is_not_mistaken_for_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    old = try_lock(path)
    path.unlink()
    new = try_lock(path)
    assert old is not None
    assert new is not None
    os.close(old)
    assert is_locked(path)
    os.close(new)


def test_launch_spec_survives_the_command_line() -> None:
    spec = LaunchSpec("m", "h", "/t", "/d", "/n", ("/a", "/b"))
    assert LaunchSpec.parse(spec.to_json()) == spec


def test_hosts_never_get_the_right_to_set_the_clock() -> None:
    arguments = nspawn_arguments(LaunchSpec("m", "h", "/t", "/d", "/n", ("/a",)))
    capabilities = [word for word in arguments if word.startswith("--capability=")]
    assert capabilities == ["--capability=CAP_NET_ADMIN,CAP_IPC_LOCK"]


def test_notification_is_split_into_assignments() -> None:
    message = parse_notification(b"READY=1\nX_NSPAWN_LEADER_PID=42\nnoise\n")
    assert message == {"READY": "1", "X_NSPAWN_LEADER_PID": "42"}


def test_report_of_a_launcher_that_just_began_is_read() -> None:
    state = RunState.parse('{"launcher": {"pid": 5, "start": 6}, "boot": 0}')
    assert state == RunState(Process(5, 6), None, None, 0, None)
