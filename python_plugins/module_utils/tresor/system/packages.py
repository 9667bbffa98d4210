"""Packages at exact versions, held there: look, decide, act once, look again.

apt and dnf are understood. Nothing is installed that was not simulated before, so a version that no
source has is named and nothing is changed.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .errors import SystemStateError

Run = Callable[[Sequence[str]], str]
_TIMEOUT_S: Final = 3600
"""DKMS builds the modules while the package is configured: minutes, on a busy host many."""
_APT: Final = (
    "apt-get",
    "--yes",
    "--no-install-recommends",
    "--allow-downgrades",
    "--allow-change-held-packages",
    "-o",
    "Dpkg::Options::=--force-confold",
    "-o",
    "DPkg::Lock::Timeout=120",
)
_ABSENT: Final = ""


@dataclass(frozen=True)
class State:
    """What is installed (name to version; not there: absent), and what is held."""

    installed: Mapping[str, str]
    held: frozenset[str]


@dataclass(frozen=True)
class Steps:
    """What has to be done: versions to install, names to hold, names to let go."""

    install: tuple[tuple[str, str], ...]
    hold: tuple[str, ...]
    before: tuple[tuple[str, str], ...]

    @property
    def any(self) -> bool:
        """Return whether anything has to be done."""
        return bool(self.install or self.hold)


def decide(wanted: Mapping[str, str], state: State, *, hold: bool) -> Steps:
    """Return the steps from a state to the wanted versions."""
    install = tuple(
        (name, version)
        for name, version in wanted.items()
        if state.installed.get(name, _ABSENT) != version
    )
    return Steps(
        install=install,
        hold=tuple(name for name in wanted if hold and name not in state.held),
        before=tuple((name, state.installed.get(name, "absent")) for name, _ in install),
    )


def run_program(command: Sequence[str]) -> str:
    """Run a package tool without questions; raises SystemStateError with the end of its output."""
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=_TIMEOUT_S,
            env={
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "LC_ALL": "C",
                "DEBIAN_FRONTEND": "noninteractive",
            },
        )
    except FileNotFoundError:
        raise SystemStateError(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise SystemStateError(f"{command[0]} did not end within {_TIMEOUT_S} s") from None
    if done.returncode != 0:
        tail = " | ".join(line for line in done.stdout.splitlines() if line.strip())[-1500:]
        raise SystemStateError(
            f"{' '.join(command[:8])} ...: exit status {done.returncode}: {tail}"
        )
    return done.stdout


class Apt:
    """Debian and Ubuntu."""

    def __init__(self, run: Run = run_program) -> None:
        """Take the function that runs programs."""
        self._run = run

    def state(self, names: Iterable[str]) -> State:
        """Return versions and holds; a package that is only configured or half there is absent."""
        wanted = set(names)
        listed = self._run(
            ("dpkg-query", "-W", "-f", "${db:Status-Abbrev}\t${Package}\t${Version}\n")
        )
        installed: dict[str, str] = {}
        held: set[str] = set()
        for line in listed.splitlines():
            status, name, version = line.split("\t")
            if name in wanted:
                if status[1] == "i":
                    installed[name] = version
                if status[0] == "h":
                    held.add(name)
        return State(installed, frozenset(held))

    def simulate(self, steps: Steps) -> None:
        """Raise SystemStateError if the packages cannot be installed together."""
        if steps.install:
            self._run((*_APT, "--simulate", "install", *_pairs(steps)))

    def apply(self, steps: Steps) -> None:
        """Install and hold."""
        if steps.install:
            self._run((*_APT, "install", *_pairs(steps)))
        if steps.hold:
            self._run(("apt-mark", "hold", *steps.hold))


class Dnf:
    """RHEL 9. Epochs are part of the versions (`0:` is left out)."""

    def __init__(self, run: Run = run_program) -> None:
        """Take the function that runs programs."""
        self._run = run

    def state(self, names: Iterable[str]) -> State:
        """Return versions and locks of the plugin versionlock."""
        wanted = set(names)
        listed = self._run(("rpm", "-qa", "--qf", "%{NAME}\t%{EPOCHNUM}:%{VERSION}-%{RELEASE}\n"))
        installed = {}
        for line in listed.splitlines():
            name, _, version = line.partition("\t")
            if name in wanted:
                installed[name] = version.removeprefix("0:")
        locks = self._run(("dnf", "-q", "versionlock", "list"))
        held = {name for name in wanted if re.search(rf"^{re.escape(name)}-\d+:", locks, re.M)}
        return State(installed, frozenset(held))

    def simulate(self, steps: Steps) -> None:
        """Raise SystemStateError if a version is in no source."""
        for name, version in steps.install:
            if not self._run(("dnf", "-q", "repoquery", f"{name}-{version}")).strip():
                raise SystemStateError(f"no source has {name} {version}")

    def apply(self, steps: Steps) -> None:
        """Install and lock."""
        if steps.install:
            names = [name for name, _ in steps.install]
            self._run(("dnf", "-q", "versionlock", "delete", *names))
            exact = [f"{name}-{version}" for name, version in steps.install]
            self._run(("dnf", "-y", "--allowerasing", "install", *exact))
        if steps.hold:
            self._run(("dnf", "-q", "versionlock", "add", *steps.hold))


def _pairs(steps: Steps) -> list[str]:
    return [f"{name}={version}" for name, version in steps.install]
