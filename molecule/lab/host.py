"""Start, find, stop and look into one host."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import network
from lab.cgroup import Hierarchies, HostGroup
from lab.errors import LabError, lab_error
from lab.launcher import LaunchSpec
from lab.process import Process
from lab.settings import HostPaths
from lab.shell import is_locked, run, try_lock

_PACKAGE_PARENT = Path(__file__).resolve().parents[1]
_ENVIRONMENT = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
)


@dataclass(frozen=True)
class RunState:
    """What a launcher reported last; only meaningful while the host's lock is held."""

    launcher: Process | None
    nspawn: Process | None
    leader: Process | None
    boot: int
    ready: float | None

    @classmethod
    def parse(cls, text: str) -> RunState:
        """Read run.json."""
        data = json.loads(text)

        def process(key: str) -> Process | None:
            value = data.get(key)
            return Process(value["pid"], value["start"]) if value else None

        return cls(
            process("launcher"),
            process("nspawn"),
            process("leader"),
            int(data.get("boot", 0)),
            data.get("ready"),
        )


class LabHost:
    """One host of one lab: its processes, namespace, control group and files."""

    def __init__(self, paths: HostPaths, hierarchies: Hierarchies) -> None:
        self.paths = paths
        self._hierarchies = hierarchies
        self._group = HostGroup.of(hierarchies, paths.machine)

    @property
    def name(self) -> str:
        """The host's name in the lab."""
        return self.paths.host.name

    def exists(self) -> bool:
        """Whether the host was made (its disk is complete)."""
        return self.paths.creation.exists()

    def launched(self) -> bool:
        """Whether a launcher holds the host's lock."""
        return is_locked(self.paths.lock)

    def has_remains(self) -> bool:
        """Whether processes of the host outlived their launcher."""
        return self._group.populated() and not self.launched()

    def state(self) -> RunState | None:
        """Return the launcher's report, or None when no launcher runs."""
        if not self.launched():
            return None
        try:
            return RunState.parse(self.paths.run.read_text())
        except FileNotFoundError:
            return RunState(None, None, None, 0, None)

    def start(self, tree: Path) -> bool:
        """Start the host unless it runs; return whether it was started.

        What a crash left behind (processes, namespace, wires) is removed first.
        """
        descriptor = self._claim()
        if descriptor is None:
            return False
        try:
            self._clear()
            network.wire(self.paths)
            for directory in (self.paths.work, self.paths.root):
                directory.mkdir(exist_ok=True)
            self.paths.console.write_bytes(b"")
            self._launch(tree, descriptor)
        finally:
            os.close(descriptor)
        return True

    def _claim(self, seconds: float = 1.0) -> int | None:
        """Take the host's lock; None when a launcher has it.

        A lock that is taken while no launcher reports is somebody's short look (``is_locked``)
        or a launcher that was started just now: which of them, shows in a moment.
        """
        deadline = time.monotonic() + seconds
        while (descriptor := try_lock(self.paths.lock)) is None:
            state = self.state()
            if state is not None and state.launcher is not None and state.launcher.alive():
                return None
            if time.monotonic() > deadline:
                return None
            time.sleep(0.02)
        return descriptor

    def _launch(self, tree: Path, lock: int) -> None:
        spec = LaunchSpec(
            machine=self.paths.machine,
            hostname=self.paths.host.hostname,
            tree=str(tree),
            directory=str(self.paths.directory),
            netns=str(self.paths.netns),
            groups=tuple(str(path) for path in self._group.paths),
        )
        command = ["unshare", "--mount", "--propagation", "slave"]
        command += [sys.executable, "-P", "-m", "lab.launcher", spec.to_json()]
        if self._hierarchies.systemd_is_pid1:
            scope = [
                "systemd-run",
                "--scope",
                "--quiet",
                "--collect",
                "--property=Delegate=yes",
            ]
            scope += [f"--slice={self._hierarchies.parent}"]
            scope += [
                f"--unit={self._hierarchies.group_name(self.paths.machine)}",
                "--",
            ]
            command = scope + command
        with (self.paths.directory / "launcher.log").open("wb") as log:
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={**os.environ, "PYTHONPATH": str(_PACKAGE_PARENT)},
                start_new_session=True,
                pass_fds=(lock,),
            )

    def wait_ready(self, seconds: float, *, after_boot: int = 0) -> RunState:
        """Wait until the host's systemd has finished booting; LabError with its last words."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            state = self.state()
            if state is None:
                break
            if state.ready is not None and state.boot > after_boot:
                return state
            time.sleep(0.05)
        seen = "it is not running" if self.state() is None else f"no end after {seconds:.0f} s"
        raise lab_error(
            f"boot of {self.name}",
            f"{seen}; last lines: {self._last_words()}",
            f"Read {self.paths.console} and {self.paths.directory / 'launcher.log'}",
        )

    def _last_words(self) -> str:
        lines: list[str] = []
        for path in (self.paths.console, self.paths.directory / "launcher.log"):
            with contextlib.suppress(FileNotFoundError):
                lines += path.read_text(errors="replace").strip().splitlines()[-4:]
        return " | ".join(lines) or "(none)"

    def leader(self) -> Process:
        """Return the host's PID 1 as the machine sees it; LabError when it does not run."""
        state = self.state()
        if state is None or state.leader is None or not state.leader.alive():
            raise lab_error(
                f"host {self.name}",
                "it is not running",
                f"Start it: labctl up {self.name}",
            )
        return state.leader

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the command line that runs ``argv`` inside the host, as root."""
        enter = [
            "nsenter",
            "-t",
            str(self.leader().pid),
            "-m",
            "-u",
            "-i",
            "-n",
            "-p",
            "-C",
        ]
        term = os.environ.get("TERM", "dumb")
        environment = [*_ENVIRONMENT, "LANG=C.UTF-8", f"TERM={term}"]
        return [*enter, "--", "env", "-i", "-C", "/", *environment, *argv]

    def run(
        self, argv: Sequence[str], *, stdin: str | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside the host to its end; LabError when it fails."""
        try:
            return run(self.command(argv), stdin=stdin, timeout=timeout)
        except LabError as error:
            problem = error.problems[0]
            raise lab_error(
                f"'{' '.join(argv)}' on {self.name}", problem.seen, problem.action
            ) from error

    def feed(self, argv: Sequence[str], source: Path) -> None:
        """Run a program inside the host with a file of the machine as its standard input."""
        with source.open("rb") as stream:
            done = subprocess.run(
                self.command(argv),
                stdin=stream,
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode != 0:
            raise lab_error(
                f"'{argv[0]}' on {self.name}",
                f"exit status {done.returncode}: {done.stderr.strip()}",
                "Mend what it says, then run the verb again",
            )

    def request_stop(self) -> None:
        """Ask the host to power off; returns at once."""
        state = self.state()
        if state is not None and state.launcher is not None:
            state.launcher.send(signal.SIGTERM)

    def stop(self, seconds: float) -> None:
        """Wait for a requested power-off, then end by force whatever is left."""
        deadline = time.monotonic() + seconds
        while self.launched() and time.monotonic() < deadline:
            time.sleep(0.05)
        state = self.state()
        if state is not None and state.launcher is not None:
            state.launcher.send(signal.SIGKILL)
        self._clear()

    def _clear(self) -> None:
        """Remove everything of the host that is not a file of its own directory."""
        self._group.destroy()
        network.unwire(self.paths)
        self.paths.run.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            Path("/run/systemd/nspawn/propagate", self.paths.machine).rmdir()

    def remove_files(self) -> None:
        """Remove the disk of a host that does not run."""
        if self.paths.directory.exists():
            shutil.rmtree(self.paths.directory)
