"""Where the certificate authority lives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """Where the authority lives."""

    directory: Path
    passphrase_file: Path

    @property
    def key(self) -> Path:
        """The private key, encrypted with the passphrase."""
        return self.directory / "ca.key"

    @property
    def certificate(self) -> Path:
        """The self-signed certificate."""
        return self.directory / "ca.crt"

    @property
    def book(self) -> Path:
        """The index of issued certificates."""
        return self.directory / "issued.jsonl"

    @property
    def crl(self) -> Path:
        """The list of revoked certificates, signed."""
        return self.directory / "ca.crl"

    @property
    def revocations(self) -> Path:
        """The book of revocations, JSON lines."""
        return self.directory / "revoked.jsonl"

    @property
    def issued(self) -> Path:
        """The folder of issued certificates, one file per serial number."""
        return self.directory / "issued"

    def missing(self) -> list[Path]:
        """Return the files of the authority that are not there."""
        wanted = (self.passphrase_file, self.key, self.certificate)
        return [path for path in wanted if not path.is_file()]
