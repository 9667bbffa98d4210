"""Where the bastion keeps things; every path can be moved for tests and evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tresor_cli.errors import EnvironmentNotReadyError

DEFAULT_PROJECT = Path("/srv/tresor/store/current/tree/distribution")
DEFAULT_INVENTORY = Path("/etc/tresor/inventory/hosts.yml")
DEFAULT_RUNS = Path("/var/lib/tresor/runs")
DEFAULT_IMPORTER = Path("/usr/local/sbin/tresor-importer")
DEFAULT_PLAN = Path("/var/lib/tresor/plan/plan.json")


@dataclass(frozen=True)
class Paths:
    """Resolved locations of one invocation."""

    project: Path
    inventory: Path
    runs: Path

    def playbook(self, name: str) -> Path:
        """Return the absolute path of a playbook of the distribution.

        Raises:
            EnvironmentNotReadyError: no imported release, no such playbook, or no inventory.
        """
        if not self.project.is_dir():
            raise EnvironmentNotReadyError(
                f"no imported release: {self.project} does not exist. "
                "Import a bundle and activate it first (docs/runbooks/import.md)."
            )
        if not self.inventory.exists():
            raise EnvironmentNotReadyError(
                f"no inventory at {self.inventory}. Copy your site's inventory to "
                f"{self.inventory.parent} or name it with --inventory."
            )
        folder = (self.project / "playbooks").resolve()
        candidate = (folder / name).resolve()
        if not candidate.is_relative_to(folder) or not candidate.is_file():
            known = ", ".join(
                sorted(str(p.relative_to(folder)) for p in folder.rglob("*.yml") if _is_verb(p))
            )
            raise EnvironmentNotReadyError(
                f"no playbook '{name}' in this release. It has: {known or 'none'}."
            )
        return candidate


def _is_verb(path: Path) -> bool:
    return path.parent.name in {"playbooks", "operate"}
