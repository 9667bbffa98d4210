"""How the machine's own tools (ssh, Ansible, testinfra) reach the hosts.

ssh connects from inside the host's network namespace to the host itself. So it needs no address
of the machine on a lab network, no packet crosses a wire, and the host's firewall (which lets
the loopback interface through) cannot lock the tests out.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from lab.hostfiles import ADMIN
from lab.settings import HostPaths, Settings
from lab.shell import write_atomic
from lab.topology import HOSTS, Host

_SHARED_SECONDS = 30


def public_keys(paths: HostPaths) -> list[str]:
    """Return ``type key`` of each of a host's ssh keys, read from its disk (its console)."""
    keys = []
    for path in sorted((paths.upper / "etc/ssh").glob("ssh_host_*_key.pub")):
        kind, key = path.read_text().split()[:2]
        keys.append(f"{kind} {key}")
    return keys


def known_hosts_line(host: Host, key: str) -> str:
    """Return a known_hosts line under every name and address by which ssh may call a host."""
    return f"{','.join(_names(host))} {key}\n"


def _names(host: Host) -> tuple[str, ...]:
    names = (host.name, host.hostname, host.fqdn, host.ipv4, host.ipv6)
    return tuple(dict.fromkeys(names))


def client_config(settings: Settings) -> str:
    """Return an ssh_config for all hosts, strict about their keys."""
    directory = settings.state / "ssh"
    blocks = []
    for host in HOSTS:
        netns = settings.host(host).netns
        names = " ".join(_names(host))
        blocks.append(
            f"Host {names}\n"
            f"  HostName {host.ipv4}\n"
            f"  HostKeyAlias {host.name}\n"
            f"  ProxyCommand nsenter --net={netns} nc -q1 %h %p\n"
            f"  ControlPath {_shared(settings.host(host))}\n"
        )
    blocks.append(
        "Host *\n"
        f"  User {ADMIN.name}\n"
        f"  IdentityFile {settings.key}\n"
        "  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {directory / 'known_hosts'}\n"
        "  GlobalKnownHostsFile /dev/null\n"
        "  StrictHostKeyChecking yes\n"
        "  UpdateHostKeys no\n"
        "  PasswordAuthentication no\n"
        # Tests ask hosts a thousand times; most of a short command is signing in.
        "  ControlMaster auto\n"
        f"  ControlPersist {_SHARED_SECONDS}\n"
    )
    return "\n".join(blocks)


def write(settings: Settings) -> Path:
    """Write ssh_config and known_hosts of the lab; return the path of the ssh_config."""
    directory = settings.state / "ssh"
    lines = [
        known_hosts_line(host, key) for host in HOSTS for key in public_keys(settings.host(host))
    ]
    write_atomic(directory / "known_hosts", "".join(lines))
    config = directory / "config"
    write_atomic(config, client_config(settings))
    return config


def _shared(paths: HostPaths) -> Path:
    """Return the socket by which ssh clients share one connection to a host."""
    return paths.settings.state / "ssh" / f"{paths.host.name}.mux"


def disconnect(paths: HostPaths) -> None:
    """End the shared connection to a host that goes away: it would outlive the host unnoticed."""
    socket = _shared(paths)
    if socket.exists():
        subprocess.run(
            ["ssh", "-F", "none", "-S", str(socket), "-O", "exit", paths.host.name],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            check=False,
        )  # fmt: skip
        socket.unlink(missing_ok=True)
