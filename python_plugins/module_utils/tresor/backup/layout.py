"""What a backup holds and where it lies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FORMAT: Final = 1
"""Raised when an older Tresor could not restore what a newer one wrote."""

MANIFEST: Final = "manifest.json"
FILES: Final = "FILES.json"
"""Last entry of the archive: path, size, mode, owner and SHA-256 of every file before it."""

PARTIAL: Final = ".partial-"
_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z")


@dataclass(frozen=True)
class Roots:
    """Where the bastion's own state lies; tests move it below a folder of theirs."""

    configuration: Path = Path("/etc/tresor")
    state: Path = Path("/var/lib/tresor")
    store: Path = Path("/srv/tresor/store")

    def below(self, folder: Path) -> Roots:
        """Return the same places below ``folder``."""
        return Roots(
            *(
                folder / path.relative_to("/")
                for path in (self.configuration, self.state, self.store)
            )
        )

    @property
    def authority(self) -> Path:
        """The folder of the site's certificate authority."""
        return self.configuration / "pki" / "ca"

    @property
    def highwater(self) -> Path:
        """The importer's file with the highest serial it ever accepted."""
        return self.store / "state" / "highwater.json"

    @property
    def restored(self) -> Path:
        """Where a restore lays what must not replace anything: logs and audit files."""
        return self.state / "restored"


def is_id(name: str) -> bool:
    """Say whether ``name`` is a backup's: the UTC time it was made, ``20261124T235900Z``."""
    return _ID.fullmatch(name) is not None


def complete(directory: Path) -> list[Path]:
    """Return the finished backups, oldest first."""
    if not directory.is_dir():
        return []
    return sorted(
        path for path in directory.iterdir() if is_id(path.name) and (path / MANIFEST).is_file()
    )


Manifest = dict[str, Any]
