"""What a machine must have before a lab is made: looked at first, judged without side effects."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.cgroup import parse_mounts
from lab.errors import Problem
from lab.settings import Settings, name_problem

GIB = 1024**3
MINIMUM_DISK_GIB = 25.0
MINIMUM_MEMORY_GIB = 16.0
# A machine sold with 16 GiB shows a little less: the kernel keeps some for itself.
_MEMORY_TOLERANCE = 0.95

PROGRAMS: Mapping[str, str] = {
    "apt-get": "apt",
    "dpkg-query": "dpkg",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "mount": "mount",
    "nc": "netcat-openbsd",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "systemctl": "systemd",
    "systemd-nspawn": "systemd-container",
    "unshare": "util-linux",
}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# Any of the options of a line will do; the words say what it is for.
KERNEL: Mapping[tuple[str, ...], str] = {
    ("CONFIG_OVERLAY_FS",): "overlay file systems (the hosts' disks)",
    ("CONFIG_NET_NS",): "network namespaces",
    ("CONFIG_PID_NS",): "process namespaces",
    ("CONFIG_VETH",): "veth pairs (the wires)",
    ("CONFIG_BRIDGE",): "bridges (the networks)",
    ("CONFIG_SECCOMP_FILTER",): "seccomp filters (the services' sandboxes)",
    (
        "CONFIG_NFT_COMPAT",
        "CONFIG_IP_NF_IPTABLES",
        "CONFIG_IP_NF_IPTABLES_LEGACY",
    ): "iptables",
    (
        "CONFIG_NFT_COMPAT",
        "CONFIG_IP6_NF_IPTABLES",
        "CONFIG_IP6_NF_IPTABLES_LEGACY",
    ): "ip6tables",
    ("CONFIG_NETFILTER_XT_MATCH_CONNTRACK",): "iptables match conntrack",
    ("CONFIG_NETFILTER_XT_MATCH_OWNER",): "iptables match owner",
    ("CONFIG_NETFILTER_XT_MATCH_COMMENT",): "iptables match comment",
    ("CONFIG_NETFILTER_XT_TARGET_NFLOG",): "iptables target NFLOG",
    ("CONFIG_CGROUP_BPF",): "IPAddressDeny= of systemd units",
}
_OLDEST_KERNEL = (5, 14)  # cgroup.kill


@dataclass(frozen=True)
class Limits:
    """What the caller asks of the machine, in GiB; a lab without engines needs less."""

    disk_gib: float = MINIMUM_DISK_GIB
    memory_gib: float = MINIMUM_MEMORY_GIB


@dataclass(frozen=True)
class Facts:
    """The machine as it was found."""

    user: int
    missing_programs: tuple[str, ...]
    has_keyring: bool
    kernel_release: str
    kernel_config: str | None
    mounts: str
    free_bytes: Mapping[str, int]
    state_file_system: str
    memory_bytes: int
    lab_owner: str | None
    foreign_namespace: bool


def check(settings: Settings, limits: Limits, facts: Facts) -> list[Problem]:
    """Return everything that is wrong; an empty list means that a lab can be made."""
    problems = []
    if facts.user != 0:
        problems.append(
            Problem(
                "user",
                f"user id {facts.user} is not root",
                "Run it as root, e.g. with sudo",
            )
        )
    if (problem := name_problem(settings.name)) is not None:
        problems.append(problem)
    problems += _in_use(settings, facts)
    problems += _programs(facts)
    problems += _kernel(facts)
    problems += _room(settings, limits, facts)
    return problems


def _in_use(settings: Settings, facts: Facts) -> list[Problem]:
    problems = []
    if facts.lab_owner not in (None, str(settings.checkout)):
        problems.append(
            Problem(
                "lab name",
                f"'{settings.name}' is in use by the checkout {facts.lab_owner}",
                "Use another name (--name or TRESOR_LAB), or destroy that lab from there",
            )
        )
    if facts.foreign_namespace:
        problems.append(
            Problem(
                "lab name",
                f"'{settings.name}' is in use: {settings.netns} exists and is no lab's",
                "Use another name (--name or TRESOR_LAB)",
            )
        )
    return problems


def _programs(facts: Facts) -> list[Problem]:
    problems = [
        Problem(
            f"program {program}",
            "not found on PATH",
            f"Install it: apt-get install {PROGRAMS[program]}",
        )
        for program in facts.missing_programs
    ]
    if not facts.has_keyring:
        problems.append(
            Problem(
                "Debian's archive keys",
                f"{KEYRING} does not exist",
                "Install them: apt-get install debian-archive-keyring",
            )
        )
    return problems


def _kernel(facts: Facts) -> list[Problem]:
    problems = []
    found = re.match(r"(\d+)\.(\d+)", facts.kernel_release)
    if found and (int(found.group(1)), int(found.group(2))) < _OLDEST_KERNEL:
        problems.append(
            Problem(
                "kernel",
                f"release {facts.kernel_release}",
                "Use 5.14 or newer (Debian 12)",
            )
        )
    if facts.kernel_config is not None:
        enabled = set(re.findall(r"^(CONFIG_\w+)=[ym]$", facts.kernel_config, re.MULTILINE))
        for options, purpose in KERNEL.items():
            if not enabled.intersection(options):
                problems.append(
                    Problem(
                        f"kernel feature {purpose}",
                        f"{' or '.join(options)} is not set",
                        "Use a kernel that has it, such as Debian's",
                    )
                )
    if parse_mounts(facts.mounts, systemd_is_pid1=False) is None:
        problems.append(
            Problem(
                "control groups",
                "no cgroup2 file system is mounted",
                "Mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified",
            )
        )
    return problems


def _room(settings: Settings, limits: Limits, facts: Facts) -> list[Problem]:
    problems = [
        Problem(
            f"free disk space at {where}",
            f"{free / GIB:.1f} GiB, {limits.disk_gib:g} GiB are needed",
            "Free some, point TRESOR_CACHE to a larger disk, or lower the limit for a lab "
            "without engines: --min-free-gib",
        )
        for where, free in facts.free_bytes.items()
        if free < limits.disk_gib * GIB
    ]
    if facts.memory_bytes < limits.memory_gib * GIB * _MEMORY_TOLERANCE:
        problems.append(
            Problem(
                "memory",
                f"{facts.memory_bytes / GIB:.1f} GiB, {limits.memory_gib:g} GiB are needed",
                "Use a larger machine, or lower the limit for a lab without engines: "
                "--min-memory-gib",
            )
        )
    if facts.state_file_system in {"overlay", "nfs", "nfs4", "vfat", "9p", "fuse"}:
        problems.append(
            Problem(
                f"file system of {settings.state_root}",
                f"{facts.state_file_system} cannot carry the hosts' overlay disks",
                "Mount a local ext4, xfs or btrfs there",
            )
        )
    if any(character in str(settings.trees) for character in ",:\\"):
        problems.append(
            Problem(
                "TRESOR_CACHE",
                f"'{settings.cache}' has a comma, colon or backslash",
                "Use a path without them: it becomes a mount option",
            )
        )
    return problems


def file_system(mounts: str, path: Path) -> str:
    """Return the type of the file system that holds a path, from /proc/self/mounts."""
    best, kind = Path("/"), "unknown"
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        where = Path(fields[1])
        if path.is_relative_to(where) and len(where.parts) >= len(best.parts):
            best, kind = where, fields[2]
    return kind


def existing_parent(path: Path) -> Path:
    """Return the path or the nearest directory above it that exists."""
    while not path.exists():
        path = path.parent
    return path


def lab_owner(settings: Settings) -> str | None:
    """Return the checkout that made the lab of this name, or None when there is none."""
    try:
        return (settings.state / "owner").read_text().strip()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None


def gather(settings: Settings) -> Facts:
    """Look at the machine; changes nothing."""
    mounts = Path("/proc/self/mounts").read_text()
    places = {existing_parent(path).resolve() for path in (settings.state_root, settings.cache)}
    free: dict[int, tuple[str, int]] = {}
    for place in sorted(places):
        free[place.stat().st_dev] = (str(place), shutil.disk_usage(place).free)
    owner = lab_owner(settings)
    known = owner is not None or settings.marker.exists()
    return Facts(
        user=os.geteuid(),
        missing_programs=tuple(name for name in PROGRAMS if shutil.which(name) is None),
        has_keyring=KEYRING.exists(),
        kernel_release=os.uname().release,
        kernel_config=_kernel_config(),
        mounts=mounts,
        free_bytes=dict(free.values()),
        state_file_system=file_system(mounts, existing_parent(settings.state_root).resolve()),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        lab_owner=owner,
        foreign_namespace=not known and settings.netns.exists(),
    )


def _kernel_config() -> str | None:
    """Return the kernel's configuration where it is published; None says nothing either way."""
    with contextlib.suppress(OSError):
        return gzip.decompress(Path("/proc/config.gz").read_bytes()).decode()
    with contextlib.suppress(OSError):
        return Path(f"/boot/config-{os.uname().release}").read_text()
    return None
