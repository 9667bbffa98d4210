"""One compiled database of patterns, one scan per text (Vectorscan; linear in the text's length).

Patterns only say where to look: a match is reported by its end, and plain code around that place
decides. So nothing here depends on how the engine treats overlapping or longest matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import hyperscan

from tresor_gateway.guardrails.errors import GuardrailError, TooManyCandidatesError

MAX_HITS: Final = 100_000


@dataclass(frozen=True)
class Pattern:
    """A regular expression over UTF-8 bytes; ``once`` reports the first match only."""

    expression: bytes
    once: bool = False
    caseless: bool = False

    @property
    def flags(self) -> int:
        """The engine's flags."""
        flags = hyperscan.HS_FLAG_DOTALL
        if self.once:
            flags |= hyperscan.HS_FLAG_SINGLEMATCH
        if self.caseless:
            flags |= hyperscan.HS_FLAG_CASELESS
        return int(flags)


class Matcher:
    """Finds all patterns at once. Not for use from several threads at a time."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        """Compile (some milliseconds).

        Raises:
            GuardrailError: a pattern is malformed.
        """
        self._database = hyperscan.Database()
        try:
            self._database.compile(
                expressions=[pattern.expression for pattern in patterns],
                ids=list(range(len(patterns))),
                elements=len(patterns),
                flags=[pattern.flags for pattern in patterns],
            )
        except hyperscan.error as error:
            raise GuardrailError(f"patterns cannot be compiled: {error}") from error
        self._scan = self._database.scan
        self._hits: list[tuple[int, int]] = []
        # One handler for all scans: making a function for every scan costs as much as a short one.
        self._handler = self._on_match

    def scan(self, data: bytes) -> list[tuple[int, int]]:
        """``(number of the pattern, offset behind its match)`` in the order of the offsets.

        Raises:
            GuardrailError: the engine failed, or there are more than ``MAX_HITS`` matches.
        """
        hits = self._hits = []
        try:
            self._scan(data, self._handler)
        except hyperscan.ScanTerminated as ended:
            raise TooManyCandidatesError(f"more than {MAX_HITS} possible findings") from ended
        except hyperscan.error as error:
            raise GuardrailError(f"scan failed: {error}") from error
        return hits

    def _on_match(self, number: int, _start: int, end: int, _flags: int, _context: object) -> bool:
        hits = self._hits
        hits.append((number, end))
        return len(hits) > MAX_HITS
