"""The lab's wires: one namespace with the bridges and no uplink, one namespace per host.

The bridges carry no address: the machine itself is on none of the lab's networks.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

from lab.errors import lab_error
from lab.settings import HostPaths, Settings
from lab.shell import run
from lab.topology import NETWORKS, Host, Nic

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


def port_name(host: Host, nic: Nic) -> str:
    """Name of the bridge's end of a wire (at most 15 characters)."""
    return f"{host.name}.{nic.network.number}"


def bridge_script() -> str:
    """Return the ``ip -batch`` lines that make the bridges."""
    lines = ["link set lo up"]
    for network in NETWORKS:
        # A fixed MAC: otherwise the bridge's changes whenever a host comes or goes.
        mac = f"02:7e:50:{network.number:02x}:ff:00"
        lines += [
            f"link add {network.name} address {mac} type bridge stp_state 0 forward_delay 0 "
            "mcast_snooping 0",
            f"link set {network.name} addrgenmode none",
            f"link set {network.name} up",
        ]
    return "\n".join(lines) + "\n"


def wire_script(host: Host, netns: str) -> str:
    """Return the ``ip -batch`` lines that connect one host's namespace with the bridges."""
    lines = []
    for nic in host.nics:
        port = port_name(host, nic)
        lines += [
            f"link add {port} type veth peer name {nic.name} address {host.mac(nic)} netns {netns}",
            f"link set {port} addrgenmode none",
            f"link set {port} master {nic.network.name} up",
        ]
    return "\n".join(lines) + "\n"


def networkd_file(host: Host, nic: Nic) -> str:
    """Return the .network file of one NIC: static, dual stack, ready at once."""
    lines = [
        "[Match]",
        f"Name={nic.name}",
        "",
        "[Network]",
        f"Address={nic.ipv4}",
        "LinkLocalAddressing=ipv6",
        "IPv6AcceptRA=no",
        "IPv6DuplicateAddressDetection=0",
        "LLDP=no",
        "DHCP=no",
    ]
    if not host.is_router:
        lines += [f"Gateway={nic.network.gateway4}", f"Gateway={nic.network.gateway6}"]
    lines += ["", "[Address]", f"Address={nic.ipv6}", "DuplicateAddressDetection=none"]
    return "\n".join(lines) + "\n"


def is_namespace(path: Path) -> bool:
    """Whether a path is a mounted network namespace, not just the file of a broken one."""
    try:
        return path.stat().st_dev == Path("/proc/self/ns/net").stat().st_dev
    except FileNotFoundError:
        return False


def ensure_bridges(settings: Settings) -> None:
    """Make the lab's namespace and bridges, or renew them when a crash left a part."""
    if is_namespace(settings.netns):
        names = run(["ip", "-n", settings.name, "-o", "link", "show", "type", "bridge"]).stdout
        if all(f" {network.name}:" in names for network in NETWORKS):
            return
    remove_namespace(settings.netns)
    run(["ip", "netns", "add", settings.name])
    run(["ip", "-n", settings.name, "-batch", "-"], stdin=bridge_script())


def wire(paths: HostPaths) -> None:
    """Give a host that does not run a fresh namespace and fresh wires."""
    unwire(paths)
    run(["ip", "netns", "add", paths.netns.name])
    lab = paths.settings.name
    run(
        ["ip", "-n", lab, "-batch", "-"],
        stdin=wire_script(paths.host, paths.netns.name),
    )


def unwire(paths: HostPaths) -> None:
    """Remove a host's wires and namespace."""
    if is_namespace(paths.settings.netns):
        for nic in paths.host.nics:
            # Removing the wire here is immediate; with the namespace it would go later.
            port = port_name(paths.host, nic)
            run(["ip", "-n", paths.settings.name, "link", "del", port], check=False)
    remove_namespace(paths.netns)


def remove_namespace(path: Path) -> None:
    """Remove a network namespace, also one that was only half made."""
    if is_namespace(path):
        run(["ip", "netns", "del", path.name])
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def enter(netns: Path) -> None:
    """Move the calling thread (only it) into a network namespace; there is no way back."""
    descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _LIBC.setns(descriptor, _CLONE_NEWNET) != 0:
            raise lab_error(
                f"network namespace {netns}",
                os.strerror(ctypes.get_errno()),
                "Run 'labctl up' to renew it",
            )
    finally:
        os.close(descriptor)
