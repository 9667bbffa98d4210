"""Read what `dcgmi diag -j` and nccl-tests print."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .values import ReadingError

_PASSED: Final = frozenset({"pass", "skip"})
_ROOTS: Final = ("DCGM Diagnostic", "DCGM GPU Diagnostic")
_WARNING_LIMIT: Final = 200


@dataclass(frozen=True)
class Failed:
    """One failed test of a diagnosis: on what, and DCGM's own words."""

    test: str
    entity: str
    warning: str

    def __str__(self) -> str:
        """Return the line that an operator reads."""
        return f"{self.test} on {self.entity}: {self.warning or 'failed without a word'}"


def parse_diag(text: str) -> tuple[int, list[Failed]]:
    """Return how many results there are, and the failed ones.

    The exit status of dcgmi says nothing: it is not 0 for mere warnings. What is neither Pass nor
    Skip has failed; a diagnosis without a result is none. Raises ReadingError.
    """
    start = text.find("{")
    try:
        document = json.loads(text[start:]) if start >= 0 else None
    except ValueError as error:
        raise ReadingError(f"dcgmi printed no JSON: {error}") from None
    root = next((document[key] for key in _ROOTS if key in document), None) if document else None
    if not isinstance(root, Mapping):
        raise ReadingError(f"dcgmi printed no diagnosis: {text.strip()[:200] or 'nothing'}")
    if root.get("runtime_error"):
        raise ReadingError(f"the diagnosis broke off: {str(root['runtime_error'])[:200]}")
    results = list(_results(root))
    if not results:
        raise ReadingError("the diagnosis has no result")
    return len(results), [
        Failed(test, _entity(result), _warning(result))
        for test, result in results
        if str(result.get("status", "")).lower() not in _PASSED
    ]


def _results(root: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for category in root.get("test_categories") or []:
        for test in category.get("tests") or []:
            name = f"{category.get('category', '?')}/{test.get('name', '?')}"
            results = [r for r in test.get("results") or [] if isinstance(r, Mapping)]
            summary = test.get("test_summary")
            if not results and isinstance(summary, Mapping):
                results = [summary]
            for result in results:
                yield name, result


def _entity(result: Mapping[str, Any]) -> str:
    if "entity_id" in result:
        return f"{result.get('entity_group', 'entity')} {result['entity_id']}"
    return f"GPU {result['gpu_ids']}" if "gpu_ids" in result else "the host"


def _warning(result: Mapping[str, Any]) -> str:
    warnings = result.get("warnings") or []
    texts = [w.get("warning", "") if isinstance(w, Mapping) else str(w) for w in warnings]
    return "; ".join(text.strip() for text in texts if text)[:_WARNING_LIMIT]


@dataclass(frozen=True)
class Reduced:
    """The largest message of an all-reduce: bytes, and GB/s on the bus (out of place)."""

    size: int
    bus_gb_s: float
    wrong: int


_ROW: Final = re.compile(
    r"^\s*(?P<size>\d+)\s+\d+\s+\w+\s+\w+\s+-?\d+\s+[\d.]+\s+[\d.]+\s+(?P<bus>[\d.]+)\s+"
    r"(?P<wrong>\d+|N/A)\b",
    re.MULTILINE,
)


def parse_all_reduce(text: str) -> Reduced:
    """Return the row of the largest message of `all_reduce_perf`; raises ReadingError."""
    rows = [
        Reduced(
            int(match["size"]),
            float(match["bus"]),
            int(match["wrong"]) if match["wrong"].isdigit() else 0,
        )
        for match in _ROW.finditer(text)
    ]
    if not rows or "Out of bounds values" not in text:
        raise ReadingError("all_reduce_perf did not come to its end")
    return max(rows, key=lambda row: row.size)
