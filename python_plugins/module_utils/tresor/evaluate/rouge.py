"""ROUGE-L: how much of a reference text an answer has, in its order.

Source: C.-Y. Lin, ROUGE: A Package for Automatic Evaluation of Summaries, 2004, section 3: recall
and precision by the longest common subsequence of words; their harmonic mean (beta = 1).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_WORD: Final = re.compile(r"\w+")
LIMIT: Final = 4000
"""Words of each text that count; the time is the product of both."""


def words(text: str) -> list[str]:
    """Return the words of a text in lower case; letters with diacritics stay what they are."""
    return _WORD.findall(text.casefold())[:LIMIT]


def common(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for one in first:
        corner = 0
        for position, other in enumerate(second, start=1):
            above = row[position]
            row[position] = corner + 1 if one == other else max(above, row[position - 1])
            corner = above
    return row[-1]


def rouge_l(answer: str, reference: str) -> float:
    """Return the F-measure from 0 (no common word) to 1 (the same words in the same order)."""
    said, wanted = words(answer), words(reference)
    shared = common(said, wanted)
    if not shared:
        return 0.0
    precision, recall = shared / len(said), shared / len(wanted)
    return 2 * precision * recall / (precision + recall)
