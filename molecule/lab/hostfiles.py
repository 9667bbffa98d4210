"""The files of every host: name, addresses, accounts, ssh, and what a container lacks."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterable
from pathlib import Path

from lab.launcher import INIT
from lab.network import networkd_file
from lab.seed import Account, Directory, Entry, File, accounts
from lab.shell import run
from lab.topology import HOSTS, Host, names_of

FILES = Path(__file__).resolve().parent / "files"
ADMIN = Account("tresor", 1000, "/home/tresor", "/bin/bash")

# The unit is skipped when /proc/sys itself is read-only, as it is in a container; the settings
# that a host may have are writable all the same.
_SYSCTL_DROPIN = "[Unit]\nConditionPathIsReadWrite=\n"
# A host may not set the machine's clock: chronyd runs, synchronises, and leaves it alone (-x).
_CHRONY_DROPIN = """\
[Unit]
ConditionCapability=

[Service]
EnvironmentFile=/usr/local/lib/tresor-lab/chrony.env
"""


def ssh_host_key(host: Host) -> tuple[str, str]:
    """Return a new private key and its public line for a host's sshd."""
    return ssh_key(f"root@{host.hostname}")


def ssh_key(comment: str) -> tuple[str, str]:
    """Return a new Ed25519 key: private part, public line."""
    with tempfile.TemporaryDirectory(prefix="tresor-lab-") as directory:
        path = Path(directory, "key")
        run(
            [
                "ssh-keygen",
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-C",
                comment,
                "-f",
                str(path),
            ]
        )
        return path.read_text(), path.with_suffix(".pub").read_text()


def local_hosts_file(host: Host) -> str:
    """Return /etc/hosts of a site's host as Debian's installer leaves it: only itself."""
    return (
        "127.0.0.1 localhost\n"
        "::1 localhost ip6-localhost ip6-loopback\n"
        f"{host.ipv4} {host.fqdn} {host.hostname}\n"
    )


def full_hosts_file() -> str:
    """Return /etc/hosts of a host outside the site: there is no DNS, so it lists everybody."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    for host in HOSTS:
        names = " ".join(names_of(host))
        lines += [f"{host.ipv4} {names}", f"{host.ipv6} {names}"]
    return "\n".join(lines) + "\n"


def common(
    host: Host,
    tree: Path,
    host_key: tuple[str, str],
    authorized: Iterable[str],
    extra_accounts: Iterable[Account] = (),
) -> list[Entry]:
    """Return what every host gets; ``authorized`` are public key lines for the admin."""
    home = ADMIN.home.lstrip("/")
    own = {"owner": ADMIN.number, "group": ADMIN.number}
    private, public = host_key
    entries: list[Entry] = [
        File("etc/hostname", f"{host.hostname}\n"),
        File("etc/hosts", local_hosts_file(host) if host.on_site else full_hosts_file()),
        File("etc/machine-id", f"{uuid.uuid4().hex}\n", 0o444),
        *accounts(tree, [ADMIN, *extra_accounts]),
        File("etc/sudoers.d/tresor", "tresor ALL=(ALL:ALL) NOPASSWD: ALL\n", 0o440),
        Directory(home, 0o750, **own),
        Directory(f"{home}/.ssh", 0o700, **own),
        File(f"{home}/.ssh/authorized_keys", "".join(authorized), 0o600, **own),
        File("etc/ssh/ssh_host_ed25519_key", private, 0o600),
        File("etc/ssh/ssh_host_ed25519_key.pub", public),
        *(
            File(f"etc/systemd/network/10-{nic.name}.network", networkd_file(host, nic))
            for nic in host.nics
        ),
        File(INIT.lstrip("/"), (FILES / "init").read_text(), 0o755),
        File("usr/local/lib/tresor-lab/chrony.env", 'DAEMON_OPTS="-F 1 -x"\n'),
        File("etc/systemd/system/systemd-sysctl.service.d/lab.conf", _SYSCTL_DROPIN),
        File("etc/systemd/system/chrony.service.d/lab.conf", _CHRONY_DROPIN),
    ]
    return entries
