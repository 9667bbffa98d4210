"""Control groups are found on machines with and without systemd and version 1."""

from __future__ import annotations

from pathlib import Path

from lab.cgroup import HostGroup, parse_mounts

HYBRID = """\
tmpfs /sys/fs/cgroup tmpfs rw 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,name=systemd 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
"""
UNIFIED = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n"


def test_hybrid_machine_uses_both_hierarchies() -> None:
    found = parse_mounts(HYBRID, systemd_is_pid1=False)
    assert found is not None
    group = HostGroup.of(found, "lab-gpu1")
    assert group.paths == (
        Path("/sys/fs/cgroup/unified/tresorlab/lab-gpu1"),
        Path("/sys/fs/cgroup/systemd/tresorlab/lab-gpu1"),
    )


def test_unified_machine_uses_one_directory() -> None:
    found = parse_mounts(UNIFIED, systemd_is_pid1=False)
    assert found is not None
    assert HostGroup.of(found, "lab-gpu1").paths == (Path("/sys/fs/cgroup/tresorlab/lab-gpu1"),)


def test_systemd_machine_uses_a_scope() -> None:
    found = parse_mounts(UNIFIED, systemd_is_pid1=True)
    assert found is not None
    assert HostGroup.of(found, "lab-gpu1").paths == (
        Path("/sys/fs/cgroup/tresorlab.slice/lab-gpu1.scope"),
    )


def test_machine_without_unified_hierarchy_has_none() -> None:
    mounts = "cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0\n"
    assert parse_mounts(mounts, systemd_is_pid1=False) is None


def test_absent_group_is_empty_and_destroyed_without_error(tmp_path: Path) -> None:
    group = HostGroup((tmp_path / "none",))
    assert not group.populated()
    group.destroy()
