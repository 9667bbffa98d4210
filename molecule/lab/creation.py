"""Make a lab's lasting parts: keys, the company, and every host's disk. Interrupted, it resumes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from lab import access, company, internet, router
from lab.errors import lab_error
from lab.hostfiles import common, ssh_host_key, ssh_key
from lab.seed import Account, Directory, Entry, File, apply
from lab.settings import HostPaths, Settings
from lab.shell import write_atomic
from lab.topology import (
    BASTION,
    COMPANY1,
    HOSTS,
    INTERNET1,
    ROUTER1,
    SITE_HOSTS,
    TreeName,
)

# Raise it when hosts made by older code cannot be started by newer code.
_RECIPE = 3


def create(settings: Settings, trees: Mapping[TreeName, Path]) -> list[str]:
    """Make what is missing of the lab; return the names of the hosts that were made."""
    state = settings.state
    for directory in (state, state / "ssh", state / "hosts"):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(state / "owner", f"{settings.checkout}\n")
    machine_key = _key_pair(settings.key, "tresor-lab")
    bastion_key = _key_pair(state / "ssh" / "bastion", "tresor@bastion1")
    the_company = company.Company.load_or_create(state / "company.json")
    made = []
    for host in HOSTS:
        paths = settings.host(host)
        if paths.creation.exists():
            continue
        authorized = [machine_key[1]]
        if host.on_site:
            authorized.append(bastion_key[1])
        host_key = ssh_host_key(host)
        extra: list[Entry] = []
        extra_accounts: list[Account] = []
        if host == BASTION:
            known_hosts = _known_hosts(settings, host_key[1])
            extra = [
                *_bastion_ssh(bastion_key, known_hosts),
                *company.bastion_files(the_company),
            ]
        elif host == COMPANY1:
            extra, extra_accounts = company.files(the_company), [company.IDP_ACCOUNT]
        elif host == INTERNET1:
            extra = internet.files()
        elif host == ROUTER1:
            extra = router.files()
        tree = trees[host.tree]
        entries = common(host, tree, host_key, authorized, extra_accounts)
        _make_disk(paths, tree, [*entries, *extra])
        made.append(host.name)
    access.write(settings)
    return made


def _key_pair(path: Path, comment: str) -> tuple[str, str]:
    """Return a key of the lab, made on first use."""
    public = path.with_name(f"{path.name}.pub")
    if not path.exists():
        private_text, public_text = ssh_key(comment)
        write_atomic(public, public_text)
        write_atomic(path, private_text, 0o600)
    return path.read_text(), public.read_text()


def _bastion_ssh(key: tuple[str, str], known_hosts: str) -> list[Entry]:
    return [
        Directory("etc/tresor/ssh", 0o700),
        File("etc/tresor/ssh/id_ed25519", key[0], 0o600),
        File("etc/tresor/ssh/id_ed25519.pub", key[1]),
        File("etc/tresor/ssh/known_hosts", known_hosts),
    ]


def _known_hosts(settings: Settings, bastion_public: str) -> str:
    """Return the site's host keys; the bastion is made last, so all others have theirs."""
    lines = [
        access.known_hosts_line(host, key)
        for host in SITE_HOSTS
        if host != BASTION
        for key in access.public_keys(settings.host(host))
    ]
    own = " ".join(bastion_public.split()[:2])
    return "".join([*lines, access.known_hosts_line(BASTION, own)])


def _make_disk(paths: HostPaths, tree: Path, entries: list[Entry]) -> None:
    """Fill a host's disk; the record that is written last says that it is complete."""
    if paths.directory.exists():
        shutil.rmtree(paths.directory)  # an earlier creation was interrupted
    paths.directory.mkdir(mode=0o700)
    apply(tree, paths.upper, entries)
    record = {"tree": str(tree), "recipe": _RECIPE}
    write_atomic(paths.creation, json.dumps(record) + "\n")


def recorded_tree(paths: HostPaths) -> Path:
    """Return the base tree that a host's disk was made over; LabError when it is gone.

    A disk holds only differences, so it never moves to another tree.
    """
    tree = Path(json.loads(paths.creation.read_text())["tree"])
    if not tree.is_dir():
        raise lab_error(
            f"disk of {paths.host.name}",
            f"its base tree {tree} is gone",
            "The disk is worthless without it: labctl destroy, then labctl up",
        )
    return tree


def all_made(settings: Settings) -> bool:
    """Whether every host's disk exists."""
    return all(settings.host(host).creation.exists() for host in HOSTS)


def refuse_other_recipe(settings: Settings) -> None:
    """Raise LabError when a host was made by other code in a way that this code cannot start."""
    for host in HOSTS:
        recipe = json.loads(settings.host(host).creation.read_text()).get("recipe")
        if recipe != _RECIPE:
            raise lab_error(
                f"disk of {host.name}",
                f"recipe {recipe}, this lab makes and starts recipe {_RECIPE}",
                "Make the lab anew: labctl destroy, then labctl up",
            )
