"""The Debian trees that hosts' disks are laid over: made once per package list, shared by labs.

The mirror is the one that the machine's own apt uses; its name is nowhere in this repository.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lab.errors import lab_error
from lab.shell import run, try_lock, write_atomic
from lab.topology import HOSTS, Host, TreeName

# Raise it when ``_finish`` changes, so that trees of older code are not used.
_RECIPE = 1

# What a server has after Debian's installer with "SSH server" and "standard system utilities",
# as far as Tresor or Ansible rely on it. iptables, chrony, nginx ... come from the bundle.
_STANDARD = (
    "ca-certificates",
    "curl",
    "dbus",
    "iproute2",
    "iputils-ping",
    "kmod",
    "netbase",
    "netcat-openbsd",
    "openssh-server",
    "openssl",
    "procps",
    "python3",
    "python3-apt",
    "sudo",
    "systemd-sysv",
)
_OUTSIDE = (*_STANDARD, "iptables")
_COMPANY = (
    *_STANDARD,
    "chrony",
    "nodejs",
    "python3-venv",
    "rsyslog",
    "rsyslog-openssl",
    "rsyslog-relp",
)
_PACKAGES: dict[TreeName, tuple[str, ...]] = {
    "site-bookworm": _STANDARD,
    "site-trixie": _STANDARD,
    "outside-bookworm": _OUTSIDE,
    "company-trixie": _COMPANY,
}
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1

Say = Callable[[str], None]


@dataclass(frozen=True)
class Mirror:
    """Where the machine's apt gets Debian from."""

    main: str
    security: str | None
    options: tuple[str, ...] = ()

    def sources(self, codename: str) -> str:
        """Return the sources.list for a release: main, its updates, its security updates."""
        lines = [
            f"deb {self.main} {codename} main",
            f"deb {self.main} {codename}-updates main",
        ]
        if self.security is not None:
            lines.append(f"deb {self.security} {codename}-security main")
        return "\n".join(lines) + "\n"


def parse_targets(listing: str) -> tuple[str, str | None] | None:
    """Choose Debian's mirrors from ``apt-get indextargets`` lines of ``label|release|uri``.

    A label is only known once apt has fetched the lists; before that the release's name decides.
    """
    main: str | None = None
    security: str | None = None
    for line in listing.splitlines():
        label, _, rest = line.partition("|")
        release, _, uri = rest.partition("|")
        if not uri or uri.startswith("cdrom:"):
            continue
        if label == "Debian-Security" or (not label and release.endswith("-security")):
            security = security or uri.rstrip("/")
        elif label == "Debian" or (not label and release in {"bookworm", "trixie"}):
            main = main or uri.rstrip("/")
    return None if main is None else (main, security)


def parse_proxies(dump: str) -> tuple[str, ...]:
    """Return the proxy settings in the text of ``apt-config dump``."""
    wanted = ("acquire::http::proxy", "acquire::https::proxy")
    return tuple(line.rstrip(";") for line in dump.splitlines() if line.lower().startswith(wanted))


def machine_mirror() -> Mirror:
    """Read the mirror from the machine's apt; LabError when it has none."""
    form = "$(LABEL)|$(RELEASE)|$(REPO_URI)"
    listing = run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"]).stdout
    found = parse_targets(listing)
    if found is None:
        raise lab_error(
            "Debian mirror in apt's configuration",
            f"none among {len(listing.splitlines())} package lists",
            "Add Debian's main repository to /etc/apt and run apt-get update",
        )
    return Mirror(*found, options=parse_proxies(run(["apt-config", "dump"]).stdout))


def tree_key(name: TreeName) -> str:
    """Return the key of a tree: it changes with anything that changes the tree's contents."""
    recipe = {"recipe": _RECIPE, "tree": name, "packages": _PACKAGES[name]}
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
    return digest[:12]


def tree_path(trees: Path, name: TreeName) -> Path:
    """Return where a tree is, or will be: ``<codename>-<key>``."""
    return trees / f"{name.rpartition('-')[2]}-{tree_key(name)}"


def needed_by(hosts: Iterable[Host]) -> tuple[TreeName, ...]:
    """Return the trees that these hosts use, those of the site first (others wait for them)."""
    wanted = {host.tree for host in hosts}
    return tuple(name for name in _PACKAGES if name in wanted)


def all_trees() -> tuple[TreeName, ...]:
    """Return every tree of the lab."""
    return needed_by(HOSTS)


def ensure(trees: Path, names: Sequence[TreeName], say: Say) -> dict[TreeName, Path]:
    """Return the trees' paths, building those that are missing, two at a time."""
    paths = {name: tree_path(trees, name) for name in names}
    missing = [name for name in names if not paths[name].is_dir()]
    if missing:
        trees.mkdir(parents=True, exist_ok=True)
        mirror = machine_mirror()
        with ThreadPoolExecutor(max_workers=2) as pool:
            list(pool.map(lambda name: _build(paths[name], name, mirror, say), missing))
    return paths


def _build(target: Path, name: TreeName, mirror: Mirror, say: Say) -> None:
    lock = target.with_name(f".{target.name}.lock")
    descriptor = try_lock(lock)
    if descriptor is None:
        say(f"base tree {name}: another process builds it, waiting")
        while (descriptor := try_lock(lock)) is None:
            time.sleep(0.5)
    with os.fdopen(descriptor, "rb"):  # closing ends the lock
        if target.is_dir():
            return
        begun = time.monotonic()
        say(f"base tree {name}: building (about half a minute)")
        partial = target.with_name(f".{target.name}.partial")
        if partial.exists():
            shutil.rmtree(partial)  # an earlier build was interrupted
        _bootstrap(partial, name, mirror)
        _finish(partial)
        packages = run(["dpkg-query", f"--admindir={partial}/var/lib/dpkg", "-W"]).stdout
        record = {"tree": name, "packages": dict(_pairs(packages))}
        write_atomic(target.with_name(f"{target.name}.json"), json.dumps(record, indent=1) + "\n")
        partial.rename(target)
        say(f"base tree {name}: built in {time.monotonic() - begun:.0f} s")


def _pairs(listing: str) -> Iterable[tuple[str, str]]:
    for line in listing.splitlines():
        package, _, version = line.partition("\t")
        yield package, version


def _bootstrap(target: Path, name: TreeName, mirror: Mirror) -> None:
    codename = name.rpartition("-")[2]
    command = ["unshare", "--mount", "--propagation", "private"]
    # In a process namespace of its own, which dies with unshare, which dies with us.
    command += ["--pid", "--fork", "--kill-child", "--mount-proc"]
    command += [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
    ]
    command += ["--dpkgopt=force-unsafe-io", f"--include={','.join(_PACKAGES[name])}"]
    command += [f"--aptopt={option}" for option in mirror.options]
    command += [codename, str(target), "-"]
    done = subprocess.run(
        command,
        input=mirror.sources(codename),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        preexec_fn=_die_with_parent,
    )
    if done.returncode != 0:
        last = " | ".join(done.stdout.strip().splitlines()[-4:])
        raise lab_error(
            f"base tree {name}",
            f"mmdebstrap ended with status {done.returncode}: {last}",
            "Check that apt-get update works on this machine, then run the verb again",
        )


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _finish(tree: Path) -> None:
    """Turn a fresh tree into the disk of a host that was just installed."""
    for key in (tree / "etc/ssh").glob("ssh_host_*"):
        key.unlink()  # every host gets its own
    (tree / "etc/apt/apt.conf.d/99mmdebstrap").unlink(missing_ok=True)
    # The mirror's name, possibly with a password in it, stays on the machine.
    (tree / "etc/apt/sources.list").write_text("")
    (tree / "etc/machine-id").write_text("")
    (tree / "etc/resolv.conf").unlink(missing_ok=True)
    (tree / "etc/resolv.conf").write_text("# No DNS in the lab: names come from /etc/hosts.\n")
    systemctl = ["systemctl", f"--root={tree}"]
    run([*systemctl, "enable", "systemd-networkd.service", "ssh.service"])
    # No terminal is attached, nothing can be fetched, and nothing may delay the boot.
    run(
        [
            *systemctl,
            "mask",
            "systemd-networkd-wait-online.service",
            "console-getty.service",
        ]
    )
    run([*systemctl, "mask", "apt-daily.timer", "apt-daily-upgrade.timer"])
