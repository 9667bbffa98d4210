"""The process beside each host: mounts its disk privately, runs systemd-nspawn, restarts it.

Started as ``python3 -m lab.launcher SPEC`` in a mount namespace of its own, so the overlay is in
no other mount table and vanishes with the last process of the host. It holds the host's lock
(inherited, already taken) until it ends: the lock is what "the host runs" means.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from lab.cgroup import HostGroup
from lab.process import Process
from lab.shell import run, write_atomic

REBOOT_STATUS = 133  # systemd-nspawn --keep-unit leaves starting again to its caller
INIT = "/usr/local/lib/tresor-lab/init"


@dataclass(frozen=True)
class LaunchSpec:
    """All a launcher needs to know; paths are absolute."""

    machine: str
    hostname: str
    tree: str
    directory: str
    netns: str
    groups: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> LaunchSpec:
        """Read what ``to_json`` wrote."""
        data = json.loads(text)
        return cls(**{**data, "groups": tuple(data["groups"])})

    def to_json(self) -> str:
        """Return the spec as one JSON object."""
        return json.dumps(asdict(self))


def nspawn_arguments(spec: LaunchSpec) -> list[str]:
    """Return the command line of systemd-nspawn.

    The default capabilities are kept, above all the lack of CAP_SYS_TIME: with it a host could
    set the machine's clock. CAP_NET_ADMIN is for systemd-networkd and the host's own firewall,
    which end at its namespace.
    """
    return [
        "systemd-nspawn",
        "--quiet",
        f"--directory={spec.directory}/root",
        f"--machine={spec.machine}",
        f"--hostname={spec.hostname}",
        "--register=no",
        "--keep-unit",
        f"--network-namespace-path={spec.netns}",
        "--capability=CAP_NET_ADMIN,CAP_IPC_LOCK",
        # Without bpf() the units' IPAddressDeny= and DevicePolicy= would be ignored silently.
        "--system-call-filter=bpf",
        "--link-journal=no",
        "--resolv-conf=off",
        "--timezone=off",
        "--notify-ready=yes",
        # What --boot would do, with files/init before systemd.
        "--kill-signal=SIGRTMIN+3",
        INIT,
    ]


def parse_notification(datagram: bytes) -> dict[str, str]:
    """Split one sd_notify message into its assignments."""
    pairs = (line.partition("=") for line in datagram.decode(errors="replace").splitlines())
    return {key: value for key, separator, value in pairs if separator}


class Launcher:
    """Runs one host from its start to its power-off."""

    def __init__(self, spec: LaunchSpec) -> None:
        self._spec = spec
        self._directory = Path(spec.directory)
        self._group = HostGroup(tuple(Path(path) for path in spec.groups))
        self._guard = threading.Lock()
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._begun = time.monotonic()
        self._state: dict[str, object] = {"launcher": _identity(os.getpid()), "boot": 0}

    def main(self) -> int:
        """Run the host; return 0 after a power-off and 1 when it died otherwise."""
        self._report()
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        self._group.enter()
        self._mount()
        listener = self._listen()
        try:
            status = REBOOT_STATUS
            while status == REBOOT_STATUS and not self._stopping:
                status = self._boot()
        finally:
            # A host whose supervisor was killed is still there: only this ends its processes.
            self._group.clear_payload()
            listener.close()
            (self._directory / "notify").unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                Path("/run/systemd/nspawn/propagate", self._spec.machine).rmdir()
        print(
            f"{self._spec.machine}: systemd-nspawn ended with status {status}",
            flush=True,
        )
        return 0 if status == 0 else 1

    def _mount(self) -> None:
        options = (
            f"lowerdir={self._spec.tree},upperdir={self._directory}/upper,"
            f"workdir={self._directory}/work"
        )
        target = f"{self._directory}/root"
        run(["mount", "-t", "overlay", "tresor-lab", "-o", options, target])

    def _boot(self) -> int:
        self._group.clear_payload()
        self._begun = time.monotonic()
        boot = self._state["boot"]
        self._update(boot=(boot if isinstance(boot, int) else 0) + 1, ready=None, leader=None)
        with (self._directory / "console.log").open("ab") as console:
            self._nspawn = subprocess.Popen(
                nspawn_arguments(self._spec),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env={
                    "PATH": os.environ.get("PATH", os.defpath),
                    "NOTIFY_SOCKET": f"{self._directory}/notify",
                    # Without it the host would get version 1 controllers, read-only.
                    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
                },
                preexec_fn=self._group.enter_for_nspawn,  # noqa: PLW1509  (no lock is held here)
            )
        self._update(nspawn=_identity(self._nspawn.pid))
        if self._stopping:
            self._nspawn.terminate()
        return self._nspawn.wait()

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True
        if self._nspawn is not None:
            with contextlib.suppress(ProcessLookupError):
                self._nspawn.terminate()  # an orderly shutdown of the host

    def _listen(self) -> socket.socket:
        path = self._directory / "notify"
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.bind(str(path))
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()
        return listener

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                message = parse_notification(listener.recv(8192))
            except OSError:
                return
            if leader := message.get("X_NSPAWN_LEADER_PID"):
                self._update(leader=_identity(int(leader)))
            if message.get("READY") == "1":
                self._update(ready=round(time.monotonic() - self._begun, 2))

    def _update(self, **changes: object) -> None:
        with self._guard:
            self._state.update(changes)
            self._report()

    def _report(self) -> None:
        write_atomic(self._directory / "run.json", json.dumps(self._state))


def _identity(pid: int) -> dict[str, int] | None:
    process = Process.of(pid)
    return None if process is None else {"pid": process.pid, "start": process.start}


if __name__ == "__main__":
    sys.exit(Launcher(LaunchSpec.parse(sys.argv[1])).main())
