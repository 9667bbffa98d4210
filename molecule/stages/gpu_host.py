"""Stage gpu-host: the roles of GPU hosts on two lab hosts, with stand-ins for NVIDIA's packages.

Boots gpu1 (Debian 12) and ops1 (Debian 13) alone, and leaves them up; `destroy` removes them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from stages import gpu_standins as standins
from stages.shell import BUILD, REPOSITORY, StageError, lab, on_host, output, run

HOSTS = ("gpu1", "ops1")
_WORK = BUILD / "gpu-host"
_ENGINE = "tresor-vllm@chat.service"
_SOURCE = "deb [trusted=yes] file:/var/lib/standin ./\n"
_RECAP = re.compile(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.M)


def main() -> None:
    """Run the whole stage.

    Raises:
        StageError: a step did not do what it must, or did what it must not.
    """
    started = time.monotonic()
    _boot()
    _provide()
    _say("check mode on hosts without a driver")
    play(standins.OLD.driver, check=True)
    _expect(not _installed("gpu1", "nvidia-open"), "check mode installed something")
    _say("converge")
    play(standins.OLD.driver)
    _say("converge again")
    changed = play(standins.OLD.driver)
    _expect(not any(changed.values()), f"the second converge changed something: {changed}")
    for host in HOSTS:
        _converged(host)
    _refusals()
    _exchange()
    print(f"gpu-host: everything passed in {time.monotonic() - started:.0f} s", flush=True)


def _boot() -> None:
    run(lab("up", "--min-free-gib", "5", "--min-memory-gib", "2", *HOSTS), what="lab up")
    run(lab("wait", *HOSTS), what="wait for the hosts")


def _provide() -> None:
    """Give each host the repository of stand-ins and their PCI devices."""
    shutil.rmtree(_WORK, ignore_errors=True)
    packages = _WORK / "repository"
    packages.mkdir(parents=True)
    standins.repository(packages)
    standins.sets(_WORK / "sets")
    archive = subprocess.run(
        ["tar", "-C", str(packages), "-c", "."], capture_output=True, check=True
    ).stdout
    for host in HOSTS:
        script = (
            "rm -rf /var/lib/standin; mkdir -p /var/lib/standin; tar -C /var/lib/standin -x; "
            f"printf '{_SOURCE.strip()}\\n' > /etc/apt/sources.list.d/standin.list; "
            "apt-get -q update; apt-get -q -y install standin-hardware; "
            "systemctl daemon-reload; systemctl enable --now standin-hardware "
            f"{_ENGINE}"
        )
        run(on_host(host, "sh", "-euc", script), what=f"provide stand-ins on {host}", stdin=archive)


def play(
    driver: str,
    *hosts: str,
    entry: str = "main",
    check: bool = False,
    refused: str | None = None,
) -> dict[str, int]:
    """Run the play with a set; return what changed by host.

    With `refused`, the play must fail with these words.
    """
    config = output(lab("ssh-config"), what="ssh configuration").strip()
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        *("-i", ",".join(hosts or HOSTS) + ","),
        *("-e", json.dumps({"sets_dir": str(_WORK / "sets"), "set_name": driver, "entry": entry})),
        *(["--check"] if check else []),
        str(REPOSITORY / "molecule/gpu_host/converge.yml"),
    ]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        "ANSIBLE_SSH_ARGS": f"-F {config}",
        "ANSIBLE_NOCOLOR": "1",
    }
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    (_WORK / "last-play.log").write_text(done.stdout, encoding="utf-8")
    recap = {match[1]: match for match in _RECAP.finditer(done.stdout)}
    if refused is None:
        _expect(done.returncode == 0, f"the play failed:\n{done.stdout[-6000:]}")
    else:
        _expect(done.returncode != 0, f"the play passed, it had to say {refused!r}")
        flat = re.sub(r"\s+", " ", done.stdout)
        _expect(refused in flat, f"the play did not say {refused!r}:\n{done.stdout[-6000:]}")
    return {host: int(match[2]) for host, match in recap.items()}


def _converged(host: str) -> None:
    """Look at a host with other tools than those that configured it."""
    driver = standins.OLD.driver
    _expect(_version(host, "nvidia-open") == f"{driver}-1", f"{host}: another driver")
    held = _on(host, "apt-mark", "showhold").split()
    for name in ("nvidia-open", "nvidia-fabricmanager", f"linux-image-{standins.KERNEL}"):
        _expect(name in held, f"{host}: {name} is not held")
    for unit in ("nvidia-persistenced", "tresor-gpu-devices", "nvidia-fabricmanager"):
        _expect(_active(host, unit), f"{host}: {unit} does not run")
    _expect(
        _on(host, "systemctl", "is-enabled", "nvidia-dcgm-exporter", fails=True).strip()
        == "masked",
        f"{host}: the packaged exporter is not masked",
    )
    figures = _on(
        host,
        "python3",
        "-c",
        "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9400/metrics').read().decode())",
    )
    _expect("DCGM_FI_DEV_XID_ERRORS" in figures, f"{host}: the exporter shows no XIDs")
    listening = _on(host, "ss", "-Hltn", "sport", "=", ":9400")
    _expect("127.0.0.1:9400" in listening, f"{host}: the exporter listens on {listening}")
    # A kernel that the set does not name has no candidate, a newer driver neither.
    for name in (f"linux-image-{standins.NEWER_KERNEL}",):
        said = _on(host, "apt-get", "-y", "install", name, fails=True)
        _expect("no installation candidate" in said, f"{host}: {name} could be installed:\n{said}")
    upgraded = _on(host, "apt-get", "-y", "--simulate", "dist-upgrade")
    _expect("nvidia" not in upgraded.replace("kept back", ""), f"{host}: upgrade:\n{upgraded}")
    initrd, modprobe = (
        int(_on(host, "stat", "-c", "%Y", path))
        for path in (f"/boot/initrd.img-{standins.KERNEL}", "/etc/modprobe.d/tresor-gpu.conf")
    )
    _expect(initrd >= modprobe, f"{host}: the ramdisk is older than the switch of nouveau")


def _refusals() -> None:
    _say("sets that must be refused")
    before = {host: _on(host, "cat", "/var/lib/dpkg/status") for host in HOSTS}
    play("unproven", "gpu1", refused="it was not built together: there is no proof")
    play("mixed", "gpu1", refused="mixed versions: driver 580.105.08, Fabric Manager 580.95.05")
    play(standins.NEW.driver, refused="Converge does not exchange drivers")
    _on("gpu1", "systemctl", "stop", "nvidia-fabricmanager")
    play(
        standins.OLD.driver,
        "gpu1",
        refused="Fabric Manager: planned active (the host has NVSwitches), found inactive",
    )
    _on("gpu1", "systemctl", "start", "nvidia-fabricmanager")
    for host in HOSTS:
        _expect(
            _on(host, "cat", "/var/lib/dpkg/status") == before[host], f"{host}: packages changed"
        )


def _exchange() -> None:
    _say("a build that fails quietly: the host returns without a reboot into it")
    play(
        standins.UNBUILT.driver,
        "gpu1",
        entry="change",
        refused=f"gpu1 returned to the set debian-12-r580-{standins.OLD.driver}",
    )
    _stands("gpu1", standins.OLD)
    _say("a set that is sick after the reboot: the host returns")
    play(
        standins.SICK.driver,
        "gpu1",
        entry="change",
        refused=f"gpu1 returned to the set debian-12-r580-{standins.OLD.driver}",
    )
    _stands("gpu1", standins.OLD)
    _say("a good set: drained, rebooted, proven")
    boots = {host: _boot_id(host) for host in HOSTS}
    play(standins.NEW.driver, entry="change")
    for host in HOSTS:
        _expect(_boot_id(host) != boots[host], f"{host} was not rebooted")
        _stands(host, standins.NEW)
    changed = play(standins.NEW.driver)
    _expect(not any(changed.values()), f"converge after the exchange changed: {changed}")
    _say("rollback to the older set")
    play(standins.OLD.driver, "ops1", entry="change")
    _stands("ops1", standins.OLD)


def _stands(host: str, release: standins.Release) -> None:
    version = f"{release.driver}-1"
    for name in ("nvidia-open", "nvidia-fabricmanager"):
        _expect(_version(host, name) == version, f"{host}: {name} is {_version(host, name)}")
    record = json.loads(_on(host, "cat", "/var/lib/tresor/gpu/set.json"))
    _expect(record["driver"] == release.driver, f"{host}: the record says {record['driver']}")
    _expect(_on(host, "cat", "/run/standin/driver").strip() == release.driver, f"{host}: loaded")
    _expect(_active(host, _ENGINE), f"{host}: the engine was not started again")
    enabled = _on(host, "systemctl", "is-enabled", _ENGINE).strip()
    _expect(enabled == "enabled", f"{host}: the engine would not start at the next boot")


def _on(host: str, *command: str, fails: bool = False) -> str:
    """Return what a command prints; with `fails`, also of one that fails, errors included."""
    if fails:
        done = subprocess.run(
            on_host(host, *command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.stdout
    return output(on_host(host, *command), what=f"{command[0]} on {host}")


def _installed(host: str, package: str) -> bool:
    return _version(host, package) != ""


def _version(host: str, package: str) -> str:
    said = _on(host, "dpkg-query", "-W", "-f", "${Version}", package, fails=True)
    return "" if "no packages found" in said else said.strip()


def _active(host: str, unit: str) -> bool:
    return _on(host, "systemctl", "is-active", unit, fails=True).strip() == "active"


def _boot_id(host: str) -> str:
    return _on(host, "systemctl", "show", "--property=UserspaceTimestampMonotonic").strip()


def _expect(condition: object, otherwise: str) -> None:
    if not condition:
        raise StageError(otherwise)


def _say(what: str) -> None:
    print(f"gpu-host: {what}", flush=True)
