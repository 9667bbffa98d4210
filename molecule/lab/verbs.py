"""What labctl can do with a lab: the verbs, on top of the modules that know the parts."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab import access, basetree, cgroup, creation, machine, network, requirements
from lab.errors import LabError, PreflightError, lab_error
from lab.host import LabHost
from lab.settings import RUN_ROOT, STATE_ROOT, Settings, name_problem
from lab.shell import try_lock, write_atomic
from lab.topology import HOSTS, Host, find

BOOT_SECONDS = 120.0
STOP_SECONDS = 30.0


def say(message: str) -> None:
    """Tell the person in front of the terminal what goes on (results go to stdout)."""
    print(f"lab: {message}", file=sys.stderr, flush=True)


class Lab:
    """One lab on this machine."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._hierarchies = cgroup.detect()

    def host(self, name: str) -> LabHost:
        """Return the host with a lab name or hostname; LabError for an unknown one."""
        host = find(name)
        if host is None:
            known = ", ".join(host.name for host in HOSTS)
            raise lab_error("host", f"'{name}' is not in the lab", f"Use one of: {known}")
        return self._host(host)

    def _host(self, host: Host) -> LabHost:
        return LabHost(self.settings.host(host), self._hierarchies)

    def hosts(self, names: Sequence[str]) -> list[LabHost]:
        """Return the named hosts, or all when no name is given."""
        if not names:
            return [self._host(host) for host in HOSTS]
        return [self.host(name) for name in names]

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Keep other tools from changing the lab meanwhile; LabError when one already does."""
        RUN_ROOT.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = try_lock(self.settings.lock)
        if descriptor is None:
            with contextlib.suppress(OSError):
                seen = self.settings.lock.read_text().strip()
            raise lab_error(
                "lab name",
                f"'{self.settings.name}' is in use: {seen or 'another process'} is changing it",
                "Wait until it ends, or use another name (--name or TRESOR_LAB)",
            )
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(
                descriptor,
                f"process {os.getpid()} ({' '.join(sys.argv[1:3])})".encode(),
                0,
            )
            yield
        finally:
            os.close(descriptor)

    def up(self, names: Sequence[str], limits: requirements.Limits) -> float:
        """Make what is missing and boot the hosts; return the seconds from start to all booted.

        Raises PreflightError before anything is changed, LabError when a host does not boot.
        """
        hosts = self.hosts(names)
        self.preflight(limits)
        with self.changing():
            # A lab was made by another checkout since the preflight: ask again, now for sure.
            self._refuse_foreign()
            self._make()
            network.ensure_bridges(self.settings)
            if machine.raise_inotify_limit():
                say(f"raised fs.inotify.max_user_instances to {machine.INSTANCES} until the end")
            begun = time.monotonic()
            started = [host for host in hosts if host.start(creation.recorded_tree(host.paths))]
            if started:
                say(f"booting {', '.join(host.name for host in started)}")
            self._wait(hosts, BOOT_SECONDS)
            seconds = time.monotonic() - begun
        if started:
            say(f"{len(started)} hosts booted in {seconds:.1f} s")
        else:
            say(f"nothing to do: {len(hosts)} hosts run")
        return seconds

    def preflight(self, limits: requirements.Limits) -> None:
        """Raise PreflightError with everything that keeps this machine from running the lab."""
        facts = requirements.gather(self.settings)
        if facts.user == 0 and creation.all_made(self.settings):
            # The room was there when the lab was made; its disks now fill it.
            limits = requirements.Limits(disk_gib=0, memory_gib=limits.memory_gib)
        problems = requirements.check(self.settings, limits, facts)
        if problems:
            raise PreflightError(*problems)

    def _refuse_foreign(self) -> None:
        owner = requirements.lab_owner(self.settings)
        if owner not in (None, str(self.settings.checkout)):
            raise lab_error(
                "lab name",
                f"'{self.settings.name}' is in use by the checkout {owner}",
                "Use another name (--name or TRESOR_LAB), or destroy that lab from there",
            )

    def _make(self) -> None:
        write_atomic(self.settings.marker, f"{self.settings.checkout}\n")
        if creation.all_made(self.settings):
            creation.refuse_other_recipe(self.settings)
            return
        trees = basetree.ensure(self.settings.trees, basetree.all_trees(), say)
        made = creation.create(self.settings, trees)
        say(f"made {', '.join(made)} in {self.settings.state}")

    def _wait(self, hosts: Sequence[LabHost], seconds: float) -> None:
        with ThreadPoolExecutor(max_workers=len(hosts)) as pool:
            waits = [pool.submit(host.wait_ready, seconds) for host in hosts]
        problems = [
            problem
            for wait in waits
            if isinstance(error := wait.exception(), LabError)
            for problem in error.problems
        ]
        if problems:
            raise LabError(*problems)
        for wait in waits:
            wait.result()

    def wait(self, names: Sequence[str], seconds: float) -> None:
        """Wait until the hosts have booted and their sshd answers."""
        hosts = self.hosts(names)
        self._wait(hosts, seconds)
        with ThreadPoolExecutor(max_workers=len(hosts)) as pool:
            list(pool.map(lambda host: _wait_for_ssh(host, seconds), hosts))

    def down(self, names: Sequence[str]) -> None:
        """Power hosts off; their disks stay."""
        hosts = self.hosts(names)
        with self.changing():
            self._stop(hosts)
            if not names:
                self._remove_network()
        say(f"{len(hosts)} hosts are down")

    def cut(self, name: str) -> None:
        """Take the power from a host: nothing of it may say goodbye. LabError if it is off."""
        host = self.host(name)
        host.leader()
        with self.changing():
            access.disconnect(host.paths)
            host.stop(0)
        say(f"{name} has lost its power")

    def _stop(self, hosts: Sequence[LabHost]) -> None:
        for host in hosts:
            access.disconnect(host.paths)
            host.request_stop()
        with ThreadPoolExecutor(max_workers=len(hosts)) as pool:
            list(pool.map(lambda host: host.stop(STOP_SECONDS), hosts))

    def _remove_network(self) -> None:
        network.remove_namespace(self.settings.netns)
        self.settings.marker.unlink(missing_ok=True)
        if not any(RUN_ROOT.glob("*.lab")):
            machine.restore_inotify_limit()
        cgroup.remove_parent(self._hierarchies)

    def destroy(self) -> None:
        """Remove the lab with everything that belongs to it; no error when there is none."""
        with self.changing():
            self._refuse_foreign()
            self._stop(self.hosts([]))
            self._remove_network()
            if self.settings.state.exists():
                # First out of the way whole: an interrupted removal leaves no half lab.
                doomed = self.settings.state.with_name(f".{self.settings.name}.destroyed")
                if doomed.exists():
                    shutil.rmtree(doomed)
                self.settings.state.rename(doomed)
                shutil.rmtree(doomed)
            with contextlib.suppress(OSError):
                self.settings.state_root.rmdir()
            self.settings.lock.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                RUN_ROOT.rmdir()
        say(f"lab {self.settings.name} is gone")

    def reboot(self, name: str) -> float:
        """Reboot a host from inside; return the seconds until it has booted again."""
        host = self.host(name)
        host.leader()
        state = host.state()
        boot = 0 if state is None else state.boot
        begun = time.monotonic()
        access.disconnect(host.paths)
        host.run(["systemctl", "--no-block", "reboot"])
        host.wait_ready(BOOT_SECONDS, after_boot=boot)
        return time.monotonic() - begun

    def status(self) -> dict[str, object]:
        """Return what there is of the lab and what runs."""
        hosts = {host.name: self._host_status(host) for host in self.hosts([])}
        running = sum(1 for entry in hosts.values() if entry["state"] == "running")
        if running == len(hosts):
            state = "up"
        elif running:
            state = "partly up"
        elif self.settings.state.exists():
            state = "down"
        else:
            state = "absent"
        return {
            "name": self.settings.name,
            "state": state,
            "directory": str(self.settings.state),
            "hosts": hosts,
        }

    def _host_status(self, host: LabHost) -> dict[str, object]:
        state = host.state()
        if state is None:
            word = "stopped" if host.exists() else "absent"
            if host.has_remains():
                word = "broken"
        elif state.leader is not None and not state.leader.alive():
            word = "broken"
        else:
            word = "booting" if state.ready is None else "running"
        return {
            "state": word,
            "hostname": host.paths.host.hostname,
            "debian": host.paths.host.codename,
            "ipv4": host.paths.host.ipv4,
            "ipv6": host.paths.host.ipv6,
            "boots": 0 if state is None else state.boot,
            "boot_seconds": None if state is None else state.ready,
            "leader_pid": None if state is None or state.leader is None else state.leader.pid,
        }


def _wait_for_ssh(host: LabHost, seconds: float) -> None:
    """Wait until a host's sshd shows its banner."""
    deadline = time.monotonic() + seconds
    address = host.paths.host.ipv4
    script = f"exec 3<>/dev/tcp/{address}/22 && read -r -t 2 banner <&3 && echo $banner"
    while True:
        try:
            if host.run(["bash", "-c", script]).stdout.startswith("SSH-2.0"):
                return
        except LabError as error:
            if time.monotonic() > deadline:
                raise lab_error(
                    f"sshd of {host.name}",
                    f"no banner after {seconds:.0f} s",
                    f"See labctl exec {host.name} systemctl status ssh",
                ) from error
        time.sleep(0.1)


def known_labs() -> list[str]:
    """Return the names of all labs of which this machine has anything."""
    found = {path.stem for path in RUN_ROOT.glob("*.lab")}
    if STATE_ROOT.is_dir():
        found |= {path.name for path in STATE_ROOT.iterdir() if (path / "owner").exists()}
    return sorted(name for name in found if name_problem(name) is None)


def collect_garbage(settings: Settings, *, trees: bool) -> None:
    """Remove what no lab needs any more, whoever left it; a lab in use is left alone.

    Gone are: running remains of labs whose state or whose checkout is gone, half-removed states,
    and with ``trees`` the base trees that no lab's host was made over.
    """
    RUN_ROOT.mkdir(parents=True, exist_ok=True)
    for name in known_labs():
        one = Settings(name=name, cache=settings.cache)
        owner = requirements.lab_owner(one)
        if owner is not None and Path(owner).is_dir():
            continue
        say(f"lab {name}: its {'state' if owner is None else 'checkout'} is gone, removing it")
        Lab(Settings(name=name, cache=settings.cache, checkout=Path(owner or "/"))).destroy()
    for path in STATE_ROOT.glob(".*.destroyed"):
        shutil.rmtree(path)
    if trees:
        _remove_unused_trees(settings)


def _remove_unused_trees(settings: Settings) -> None:
    used = {basetree.tree_path(settings.trees, name) for name in basetree.all_trees()}
    for name in known_labs():
        for host in HOSTS:
            paths = Settings(name=name).host(host)
            if paths.creation.exists():
                with contextlib.suppress(LabError):
                    used.add(creation.recorded_tree(paths))
    for path in sorted(settings.trees.glob("*-????????????")):
        if path.is_dir() and path not in used:
            say(f"removing the unused base tree {path.name}")
            shutil.rmtree(path)
            path.with_name(f"{path.name}.json").unlink(missing_ok=True)
