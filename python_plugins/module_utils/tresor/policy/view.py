"""What the gates see of a bundle: the verified manifest, its contents, the site, the time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from ..bundle.manifest import BundleManifest, FileEntry, Part
from .rules import Declarations, SiteRules
from .verdict import RefusalError

EVIDENCE_TYPES = ("sbom", "vex", "report", "advisories")
"""Parts that say something about the others; an SBOM does not list them."""
_MISSING = "Import the bundle again from its medium"


@dataclass(frozen=True, slots=True)
class BundleView:
    """One bundle on one site.

    Attributes:
        manifest: parsed and verified.
        locate: returns where the content with a digest lies on our disk (already verified).
        site: this site's name.
        now: the present time, UTC; never before the store's time floor.
        rules: the site's rules.
        declared: what the bundle's people declared.
        read_declared: take ``declared`` from the bundle itself.
        installed: SBOM of the active release; an advisory bundle is judged against it.
        scan: report of a malware scan made on this machine.
    """

    manifest: BundleManifest
    locate: Callable[[str], Path]
    site: str
    now: datetime
    rules: SiteRules = field(default_factory=SiteRules)
    declared: Declarations = field(default_factory=Declarations)
    read_declared: bool = True
    installed: bytes | None = None
    scan: bytes | None = None

    @property
    def advisory_only(self) -> bool:
        """Tell whether the bundle carries only news about what is installed."""
        return self.manifest.advisory_only

    def parts(self, *types: str) -> list[Part]:
        """Return the parts of these types."""
        return [part for part in self.manifest.parts if part.type in types]

    def carried(self) -> list[Part]:
        """Return all parts but the evidence about them."""
        return [part for part in self.manifest.parts if part.type not in EVIDENCE_TYPES]

    def open(self, entry: FileEntry) -> BinaryIO:
        """Open a content for reading.

        Raises:
            RefusalError: it is not there, or not of the size that the manifest says.
        """
        path = self.locate(entry.sha256)
        try:
            stream = path.open("rb")
        except OSError as error:
            raise RefusalError("content.open", entry.path, str(error.strerror), _MISSING) from error
        size = path.stat().st_size
        if size != entry.size:
            stream.close()
            raise RefusalError(
                "content.size", entry.path, f"{size} bytes, not {entry.size}", _MISSING
            )
        return stream

    def read(self, entry: FileEntry, limit: int, rule: str) -> bytes:
        """Return a small content.

        Raises:
            RefusalError: ``<rule>.size``: larger than ``limit`` bytes; or see :meth:`open`.
        """
        if entry.size > limit:
            raise RefusalError(
                f"{rule}.size", entry.path, f"{entry.size} bytes, at most {limit}", "Remove it"
            )
        with self.open(entry) as stream:
            return stream.read()

    def document(self, part_type: str, path: str, rule: str, limit: int) -> bytes | None:
        """Return the one document ``path`` of the parts of a type, or None.

        Raises:
            RefusalError: ``<rule>.twice``: more than one part has it.
        """
        found = [
            entry for part in self.parts(part_type) for entry in part.files if entry.path == path
        ]
        if len(found) > 1:
            raise RefusalError(f"{rule}.twice", path, f"{len(found)} documents", "Keep one of them")
        return self.read(found[0], limit, rule) if found else None
