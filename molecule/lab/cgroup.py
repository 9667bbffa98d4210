"""A control group per host, so that nothing of a host can outlive it.

systemd-nspawn is told to stay in the group it is started in (``--keep-unit``). Where systemd is
PID 1, that group is a scope with delegation; elsewhere it is a directory that we make ourselves,
in the unified hierarchy and, if that is mounted, in version 1's ``name=systemd`` as well.

Inside a host's group ``launcher`` holds our process and systemd-nspawn makes ``supervisor`` and
``payload``: a group whose controllers are passed on may not hold processes itself.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from lab.errors import PreflightError, Problem, lab_error
from lab.shell import run

PARENT = "tresorlab"
_CONTROLLERS = ("cpu", "memory", "pids", "io", "cpuset")


@dataclass(frozen=True)
class Hierarchies:
    """How this machine offers control groups."""

    unified: Path
    named_systemd: Path | None
    systemd_is_pid1: bool

    @property
    def roots(self) -> tuple[Path, ...]:
        """Every hierarchy in which a host gets a group, the unified one first."""
        if self.named_systemd is None or self.systemd_is_pid1:
            return (self.unified,)
        return (self.unified, self.named_systemd)

    @property
    def parent(self) -> str:
        """Name of the group that holds all labs' hosts."""
        return f"{PARENT}.slice" if self.systemd_is_pid1 else PARENT

    def group_name(self, machine: str) -> str:
        """Name of one host's group inside ``parent``."""
        return f"{machine}.scope" if self.systemd_is_pid1 else machine


def parse_mounts(mounts: str, *, systemd_is_pid1: bool) -> Hierarchies | None:
    """Find the hierarchies in the text of /proc/self/mounts; None without a unified one."""
    unified: Path | None = None
    named: Path | None = None
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 4:
            continue
        _, where, kind, options = fields[:4]
        if kind == "cgroup2" and unified is None:
            unified = Path(where)
        elif kind == "cgroup" and "name=systemd" in options.split(","):
            named = Path(where)
    if unified is None:
        return None
    return Hierarchies(unified, named, systemd_is_pid1)


def detect() -> Hierarchies:
    """Find this machine's hierarchies; PreflightError when there is no unified one."""
    found = parse_mounts(
        Path("/proc/self/mounts").read_text(),
        systemd_is_pid1=Path("/run/systemd/system").is_dir(),
    )
    if found is None:
        problem = Problem(
            "control groups",
            "no cgroup2 file system is mounted",
            "Mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup (or /sys/fs/cgroup/unified)",
        )
        raise PreflightError(problem)
    return found


@dataclass(frozen=True)
class HostGroup:
    """The control group of one host, in each hierarchy."""

    paths: tuple[Path, ...]
    unit: str | None = None

    @classmethod
    def of(cls, hierarchies: Hierarchies, machine: str) -> HostGroup:
        """Return the group of a machine; it need not exist yet."""
        name = hierarchies.group_name(machine)
        paths = tuple(root / hierarchies.parent / name for root in hierarchies.roots)
        return cls(paths, name if hierarchies.systemd_is_pid1 else None)

    def enter(self) -> None:
        """Make the groups and move this process into ``launcher``."""
        for path in self.paths:
            launcher = path / "launcher"
            launcher.mkdir(parents=True, exist_ok=True)
            (launcher / "cgroup.procs").write_text(str(os.getpid()))
        _pass_controllers(self.paths[0].parent)

    def enter_for_nspawn(self) -> None:
        """Move this process to where systemd-nspawn has to be started (run before exec)."""
        for path in self.paths:
            (path / "cgroup.procs").write_text(str(os.getpid()))

    def clear_payload(self) -> None:
        """End what a host left behind and make the group fit for its next start."""
        for name in ("payload", "supervisor"):
            _kill(self.paths[0] / name)
            for path in self.paths:
                _remove(path / name)
        control = self.paths[0] / "cgroup.subtree_control"
        for controller in control.read_text().split():
            # Processes may only enter a group that passes no controllers on.
            control.write_text(f"-{controller}")

    def populated(self) -> bool:
        """Whether any process of the host lives."""
        return _populated(self.paths[0])

    def destroy(self) -> None:
        """End every process of the host and remove its groups.

        Raises LabError when processes do not end (the kernel keeps them in a device wait).
        """
        _kill(self.paths[0])
        for path in self.paths:
            _remove(path)
        if self.unit is not None:
            # systemd notices a little later that a scope is empty; its name must be free now.
            run(["systemctl", "stop", "--quiet", self.unit], check=False)


def remove_parent(hierarchies: Hierarchies) -> None:
    """Remove the group of all labs' hosts when no host is left in it."""
    for root in hierarchies.roots:
        parent = root / hierarchies.parent
        if any(path.is_dir() for path in parent.glob("*")):
            continue
        if hierarchies.systemd_is_pid1:
            run(["systemctl", "stop", "--quiet", hierarchies.parent], check=False)
        else:
            with contextlib.suppress(OSError):
                parent.rmdir()


def _pass_controllers(parent: Path) -> None:
    """Pass on what the machine offers from the root to a directory of ours; optional."""
    if parent.name.endswith(".slice"):
        return  # systemd does it for its slices
    for group in (parent.parent, parent):
        for controller in _CONTROLLERS:
            with contextlib.suppress(OSError):
                (group / "cgroup.subtree_control").write_text(f"+{controller}")


def _populated(path: Path) -> bool:
    try:
        return "populated 1" in (path / "cgroup.events").read_text()
    except OSError:
        return False


def _kill(path: Path, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while _populated(path):
        with contextlib.suppress(OSError):
            (path / "cgroup.kill").write_text("1")
        if time.monotonic() > deadline:
            raise lab_error(
                f"processes in {path}",
                f"still alive {seconds:.0f} s after cgroup.kill",
                "See what they wait for (cat /proc/PID/stack), then run the verb again",
            )
        time.sleep(0.05)


def _remove(path: Path, seconds: float = 30) -> None:
    """Remove a group with all groups below it; what just ended gives its gigabytes back first."""
    deadline = time.monotonic() + seconds
    while path.is_dir():
        for directory, _, _ in os.walk(path, topdown=False):
            with contextlib.suppress(OSError):
                Path(directory).rmdir()
        if not path.is_dir():
            return
        if time.monotonic() > deadline:
            raise lab_error(
                f"control group {path}",
                "cannot be removed",
                "See its cgroup.procs, then run the verb again",
            )
        time.sleep(0.05)
