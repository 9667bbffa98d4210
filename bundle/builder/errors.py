"""Errors of the builder: each says what is wrong, the value seen, and what to do next."""

from __future__ import annotations


class BuilderError(Exception):
    """Base of everything the builder reports without a traceback."""


class SpecError(BuilderError):
    """A file under ``bundle/spec`` is wrong."""


class LockError(BuilderError):
    """A lock is absent, damaged, or does not belong to the spec."""


class DigestError(BuilderError):
    """Content is not what the lock says."""


class FetchError(BuilderError):
    """A package client could not deliver what the lock names."""


class GoneError(FetchError):
    """A locked package is no longer offered by the mirror.

    Attributes:
        part: name of the part.
        missing: what is gone, as readable text per item.
    """

    def __init__(self, part: str, missing: tuple[str, ...]) -> None:
        self.part = part
        self.missing = missing
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if missing[5:] else "")
        super().__init__(
            f"{part}: the mirror no longer offers {shown} as locked. Renew the lock with "
            f"'python -m bundle.builder lock --upgrade --part {part}' and review the diff, or "
            "build with --relock-missing to resolve this part afresh for one build"
        )


class PolicyError(BuilderError):
    """A gate refuses what would be built."""


class SpaceError(BuilderError):
    """The file system has too little room."""


class CommandError(BuilderError):
    """A program that the builder called failed."""
