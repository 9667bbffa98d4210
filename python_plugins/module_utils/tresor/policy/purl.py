"""Package URLs: the names that bills of materials, advisories and statements agree on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

_TYPE = re.compile(r"[a-z][a-z0-9.+-]*")


@dataclass(frozen=True, slots=True)
class Purl:
    """The parts of a package URL; ``namespace`` and ``version`` may be empty."""

    type: str
    namespace: str
    name: str
    version: str

    @property
    def package(self) -> tuple[str, str, str]:
        """Return what stays the same between versions."""
        return (self.type, self.namespace, self.name)


def parse(text: str) -> Purl:
    """Read a package URL; qualifiers and subpath are dropped.

    Raises:
        ValueError: not a package URL.
    """
    if not text.startswith("pkg:"):
        raise ValueError(f"{text[:80]!r} does not begin with 'pkg:'")
    rest = text[4:].partition("#")[0].partition("?")[0].strip("/")
    head, at, version = rest.rpartition("@")
    if not at or "/" in version:
        head, version = rest, ""
    parts = [unquote(part) for part in head.split("/")]
    if len(parts) < 2 or not all(parts) or not _TYPE.fullmatch(parts[0]):
        raise ValueError(f"{text[:80]!r} has no type or no name")
    kind, name = parts[0], parts[-1]
    if kind == "pypi":
        name = re.sub(r"[-_.]+", "-", name).lower()
    return Purl(kind, "/".join(parts[1:-1]), name, unquote(version))


def make(kind: str, name: str, version: str, *, namespace: str = "", arch: str = "") -> str:
    """Return the canonical text of a package URL."""
    parts = [kind, *(namespace.split("/") if namespace else []), name]
    text = "pkg:" + "/".join(quote(part, safe=".-_~") for part in parts)
    text += f"@{quote(version, safe='.-_~:')}"
    return f"{text}?arch={arch}" if arch else text
