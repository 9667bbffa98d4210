"""Where a lab keeps its things, and how labs are named."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.errors import Problem
from lab.topology import HOSTS, Host

CHECKOUT = Path(__file__).resolve().parents[2]
STATE_ROOT = Path("/var/lib/tresor-lab")
RUN_ROOT = Path("/run/tresor-lab")
NETNS_ROOT = Path("/run/netns")
DEFAULT_CACHE = Path("/var/cache/tresor")

# <name>-<host> is also a machine name for systemd-nspawn, which ends at 64 characters.
_NAME = re.compile(r"[a-z][a-z0-9-]{0,29}")


def default_name(checkout: Path) -> str:
    """Return a lab name that no other checkout on this machine has."""
    digest = hashlib.sha256(str(checkout).encode()).hexdigest()
    return f"tresor-{digest[:6]}"


def name_problem(name: str) -> Problem | None:
    """Say what is wrong with a lab's name, or None."""
    if not _NAME.fullmatch(name) or name.endswith("-"):
        return Problem(
            "lab name",
            f"'{name}' is not a name",
            "Use 1 to 30 lower-case letters, digits and dashes, beginning with a letter "
            "and not ending with a dash (--name or TRESOR_LAB)",
        )
    for host in HOSTS:
        # The namespaces of host "gpu1" in lab "a" and of a lab "a-gpu1" would be the same one.
        if name.endswith(f"-{host.name}"):
            return Problem(
                "lab name",
                f"'{name}' ends with the name of the host {host.name}",
                "Use another ending (--name or TRESOR_LAB)",
            )
    return None


@dataclass(frozen=True)
class Settings:
    """Everything the verbs need to know about one lab on this machine."""

    name: str
    checkout: Path = CHECKOUT
    state_root: Path = STATE_ROOT
    cache: Path = DEFAULT_CACHE

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], name: str | None) -> Settings:
        """Read TRESOR_LAB and TRESOR_CACHE; an explicit name wins."""
        chosen = name or environment.get("TRESOR_LAB") or default_name(CHECKOUT)
        cache = Path(environment.get("TRESOR_CACHE") or DEFAULT_CACHE)
        return cls(name=chosen, cache=cache)

    @property
    def state(self) -> Path:
        """Directory of this lab; nothing of the lab's data is outside it."""
        return self.state_root / self.name

    @property
    def trees(self) -> Path:
        """Directory of the base trees, shared by all labs."""
        return self.cache / "base"

    @property
    def netns(self) -> Path:
        """The namespace that holds the lab's bridges."""
        return NETNS_ROOT / self.name

    @property
    def lock(self) -> Path:
        """Lock file of the verbs that change the lab; outside the state, which destroy removes."""
        return RUN_ROOT / f"{self.name}.lock"

    @property
    def marker(self) -> Path:
        """Runtime note that this name has namespaces or cgroups (gc reads it)."""
        return RUN_ROOT / f"{self.name}.lab"

    @property
    def key(self) -> Path:
        """Private ssh key of the machine for the hosts (testinfra, ssh-config)."""
        return self.state / "ssh" / "id_ed25519"

    def host(self, host: Host) -> HostPaths:
        """Return where one host's files are."""
        return HostPaths(self, host)


@dataclass(frozen=True)
class HostPaths:
    """Files of one host of one lab."""

    settings: Settings
    host: Host

    @property
    def directory(self) -> Path:
        """All files of the host."""
        return self.settings.state / "hosts" / self.host.name

    @property
    def upper(self) -> Path:
        """What the host changed against its base tree."""
        return self.directory / "upper"

    @property
    def work(self) -> Path:
        """Overlayfs's working directory."""
        return self.directory / "work"

    @property
    def root(self) -> Path:
        """Mount point of the overlay, visible only to the host's launcher."""
        return self.directory / "root"

    @property
    def lock(self) -> Path:
        """Held by the launcher as long as it lives."""
        return self.directory / "lock"

    @property
    def run(self) -> Path:
        """What the launcher says about the running host."""
        return self.directory / "run.json"

    @property
    def creation(self) -> Path:
        """How the host was made; its presence says that making it was finished."""
        return self.directory / "creation.json"

    @property
    def console(self) -> Path:
        """What the host printed since it was started."""
        return self.directory / "console.log"

    @property
    def netns(self) -> Path:
        """The host's network namespace."""
        return NETNS_ROOT / f"{self.settings.name}-{self.host.name}"

    @property
    def machine(self) -> str:
        """Name for systemd-nspawn, unique on the machine."""
        return f"{self.settings.name}-{self.host.name}"
