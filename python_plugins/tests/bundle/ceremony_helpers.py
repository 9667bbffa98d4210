"""A production-like set of keys: three roots, three approvers, a builder, all OpenSSH keys."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from python_plugins.tests.bundle.helpers import NOW, Maker
from tresor.bundle import ceremony
from tresor.bundle.canonical import sha256_hex

PEOPLE = ("root-a", "root-b", "root-c", "anna", "ben", "cleo", "builder", "spare")


def make_keys(folder: Path) -> Path:
    """Make software keys for everybody."""
    for name in PEOPLE:
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)],
            check=True,
        )
    return folder


@dataclass
class Ceremony:
    """Keys and roots of one vendor."""

    keys: Path
    roots: Path

    def pub(self, *names: str) -> list[Path]:
        return [self.keys / f"{name}.pub" for name in names]

    def sign(self, draft: Path, *names: str, now: datetime = NOW) -> Path:
        for name in names:
            draft = ceremony.sign_draft(draft, self.keys / name, now)
        return draft

    def first(self, now: datetime = NOW) -> str:
        """Make the first root and return its fingerprint."""
        added = {
            "root": self.pub("root-a", "root-b", "root-c"),
            "targets": self.pub("anna", "ben", "cleo"),
            "builder": self.pub("builder"),
        }
        draft = ceremony.draft_root(self.roots, added, [], {}, now)
        return sha256_hex(self.sign(draft, "root-a", "root-b", now=now).read_bytes())

    def change(
        self, *signers: str, remove: tuple[str, ...] = (), now: datetime = NOW, **added: list[Path]
    ) -> Path:
        """Make the next root."""
        draft = ceremony.draft_root(self.roots, added, remove, {}, now)
        return self.sign(draft, *signers, now=now)

    def release(
        self, maker: Maker, *approvers: str, builder: str = "builder", now: datetime = NOW
    ) -> None:
        """Sign what the maker built."""
        draft = ceremony.draft_release(maker.bundle, self.roots)
        self.sign(draft, *approvers, now=now)
        ceremony.seal(maker.bundle, self.keys / builder, now)
