"""What is on a host's disk before its first boot."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from lab.access import client_config, disconnect, known_hosts_line
from lab.errors import LabError
from lab.hostfiles import common, full_hosts_file, local_hosts_file
from lab.seed import Account, Directory, Entry, File, Link, accounts, apply
from lab.settings import Settings
from lab.topology import BASTION, COMPANY1, GPU1, HOSTS


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    etc = tmp_path / "tree" / "etc"
    etc.mkdir(parents=True)
    for name, mode in (("passwd", 0o644), ("group", 0o644), ("shadow", 0o640), ("gshadow", 0o640)):
        (etc / name).write_text("root:x:0\n")
        (etc / name).chmod(mode)
    return tmp_path / "tree"


def by_path(entries: list[Entry]) -> dict[str, Entry]:
    return {entry.path: entry for entry in entries}


def test_admin_can_log_in_by_key_only(tree: Path) -> None:
    files = by_path(accounts(tree, [Account("tresor", 1000, "/home/tresor", "/bin/bash")]))
    passwd, shadow = files["etc/passwd"], files["etc/shadow"]
    assert isinstance(passwd, File)
    assert isinstance(shadow, File)
    assert passwd.content == "root:x:0\ntresor:x:1000:1000::/home/tresor:/bin/bash\n"
    assert "tresor:*:" in str(shadow.content)
    assert shadow.mode == 0o640


def test_site_host_knows_only_itself(tree: Path) -> None:
    hosts = by_path(common(GPU1, tree, ("private", "public"), []))["etc/hosts"]
    assert isinstance(hosts, File)
    assert hosts.content == local_hosts_file(GPU1)
    assert "198.51.100.31 gpu1.site.example gpu1" in local_hosts_file(GPU1)
    assert "bastion1" not in local_hosts_file(GPU1)


def test_outside_host_knows_everybody() -> None:
    text = full_hosts_file()
    for host in HOSTS:
        assert f"{host.ipv4} {host.fqdn}" in text
        assert f"{host.ipv6} {host.fqdn}" in text
    assert "llm.site.example" in text


def test_every_host_gets_its_own_machine_id(tree: Path) -> None:
    ids = {
        str(entry.content)
        for _ in range(2)
        for entry in common(GPU1, tree, ("", ""), [])
        if isinstance(entry, File) and entry.path == "etc/machine-id"
    }
    assert len(ids) == 2


def test_private_files_are_private(tree: Path) -> None:
    files = by_path(common(GPU1, tree, ("private", "public"), ["key"]))
    modes = {path: entry.mode for path, entry in files.items() if not isinstance(entry, Link)}
    assert modes["etc/ssh/ssh_host_ed25519_key"] == 0o600
    assert modes["home/tresor/.ssh/authorized_keys"] == 0o600
    assert modes["home/tresor/.ssh"] == 0o700
    assert modes["etc/sudoers.d/tresor"] == 0o440


def test_time_service_may_run_but_not_set_the_clock(tree: Path) -> None:
    files = by_path(common(GPU1, tree, ("", ""), []))
    options = files["usr/local/lib/tresor-lab/chrony.env"]
    assert isinstance(options, File)
    assert "-x" in str(options.content)


def test_directories_of_the_tree_keep_their_mode(tmp_path: Path, tree: Path) -> None:
    (tree / "etc").chmod(0o751)
    me = {"owner": tmp_path.stat().st_uid, "group": tmp_path.stat().st_gid}
    apply(tree, tmp_path / "upper", [File("etc/x/y", "1", 0o640, **me), Link("etc/l", "x/y")])
    assert (tmp_path / "upper/etc").stat().st_mode & 0o777 == 0o751
    assert (tmp_path / "upper/etc/x").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "upper/etc/x/y").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "upper/etc/l").read_text() == "1"


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x"])
def test_entry_cannot_leave_the_host(tmp_path: Path, tree: Path, path: str) -> None:
    with pytest.raises(LabError, match="leaves the host"):
        apply(tree, tmp_path / "upper", [Directory(path)])


def test_ssh_is_strict_and_needs_no_address_on_the_networks() -> None:
    text = client_config(Settings(name="demo"))
    assert "StrictHostKeyChecking yes" in text
    assert "accept-new" not in text
    assert "nsenter --net=/run/netns/demo-gpu1 nc -q1 %h %p" in text
    assert text.count("ProxyCommand") == len(HOSTS)


def test_connections_are_shared_at_paths_that_a_socket_can_have() -> None:
    text = client_config(Settings(name="x" * 30))
    paths = [line.split()[1] for line in text.splitlines() if "ControlPath" in line]
    assert len(paths) == len(set(paths)) == len(HOSTS)
    # sun_path has 108 bytes; a client adds 17 while it opens its end.
    assert max(map(len, paths)) + 17 < 108


def test_shared_connection_of_a_host_that_died_is_forgotten(tmp_path: Path) -> None:
    paths = Settings(name="demo", state_root=tmp_path).host(COMPANY1)
    disconnect(paths)
    left = tmp_path / "demo" / "ssh" / "company1.mux"
    left.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(left))
    disconnect(paths)
    assert not left.exists()


def test_bastion_is_known_under_all_its_names() -> None:
    line = known_hosts_line(BASTION, "ssh-ed25519 AAAA")
    names, kind, key = line.split()
    assert names.split(",") == [
        "bastion",
        "bastion1",
        "bastion1.site.example",
        "198.51.100.10",
        "2001:db8:51::10",
    ]
    assert (kind, key) == ("ssh-ed25519", "AAAA")


def test_company_is_outside_the_site() -> None:
    assert not COMPANY1.on_site
