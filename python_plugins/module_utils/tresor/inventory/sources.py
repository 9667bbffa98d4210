"""Everything an inventory says, as read: the common ground of the cross-checks.

The checks run on data that may be wrong in other places, so that one run reports every problem.
They therefore reach values through `mapping`, `sequence` and `text`, which treat a value of the
wrong type as absent: the schema has already reported it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .document import Data, Document, KeyPath
from .hosts import HostTable
from .problems import Problem

CONCERNS: Final = ("site", "models", "access", "guardrails", "retention", "slo", "flows")
OPTIONAL: Final = ("planning",)
"""Concerns that a site may leave out."""
HOSTS_FILE: Final = "hosts.yml"
CONCERN_FOLDER: Final = "group_vars/all"
WIRING_FILE: Final = "wiring.yml"


@dataclass(frozen=True)
class Sources:
    """The documents of an inventory that could be read, and its table of hosts."""

    documents: Mapping[str, Document]
    hosts_document: Document | None
    hosts: HostTable

    def value(self, concern: str) -> Data:
        """Return the value of a concern's variable, or None."""
        document = self.documents.get(concern)
        return document.value((variable(concern),)) if document else None

    def problem(
        self, concern: str, path: KeyPath, wrong: str, fix: str, seen: object = None
    ) -> Problem:
        """Return a problem at a path below the concern's variable."""
        return self.documents[concern].problem((variable(concern), *path), wrong, fix, seen)

    def entries(self, concern: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield index and mapping of each entry of a concern that is a list."""
        yield from indexed(self.value(concern))


def variable(concern: str) -> str:
    """Return the name of a concern's one variable."""
    return f"tresor_{concern}"


def mapping(value: object) -> Mapping[str, Any]:
    """Return the value if it is a mapping, otherwise an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Data]:
    """Return the value if it is a list, otherwise an empty one."""
    return value if isinstance(value, list) else []


def text(value: object) -> str:
    """Return the value if it is a text, otherwise an empty one."""
    return value if isinstance(value, str) else ""


def number(value: object) -> int | None:
    """Return the value if it is a whole number, otherwise None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def indexed(value: object) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield index and entry of a list of mappings."""
    for index, entry in enumerate(sequence(value)):
        if isinstance(entry, dict):
            yield index, entry


def texts(value: object) -> Iterator[tuple[int, str]]:
    """Yield index and entry of a list of texts."""
    for index, entry in enumerate(sequence(value)):
        if isinstance(entry, str):
            yield index, entry
