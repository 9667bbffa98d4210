"""Engines as published figures name them, and how their schedulers differ."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ..errors import SizingError


class LatencyError(SizingError):
    """A latency question that cannot be answered: the option, the value seen and what to write."""


@dataclass(frozen=True)
class Engine:
    """How an engine schedules.

    ``reserve_all`` admits a request only with room for its whole answer; otherwise it admits with
    room for the prompt and preempts later. ``fill`` is the share of an answer that a running
    sequence holds on average when sequences come and go. ``max_num_seqs`` and
    ``max_num_batched_tokens`` are defaults; ``narrow_cache`` says that the cache is 8-bit when the
    weights are. ``frees_windows`` says that layers with sliding attention keep no more than their
    window by default. ``first_overlapped`` is the first version that by default prepares the next
    step on the CPU while the GPU computes this one (None: all of the newer generation).
    """

    name: str
    reserve_all: bool
    fill: float
    max_num_seqs: int
    max_num_batched_tokens: int
    narrow_cache: bool
    frees_windows: bool
    first_overlapped: tuple[int, int] | None


VLLM: Final = Engine("vllm", False, 0.6, 256, 2048, False, True, (0, 14))
TENSORRT: Final = Engine("tensorrt_llm", True, 1.0, 2048, 8192, True, False, None)
SGLANG: Final = Engine("sglang", False, 0.6, 1024, 8192, False, True, None)
# Engine versions before this one schedule whole prompts before any decoding, in Python.
FIRST_CHUNKED: Final = (0, 8)
OLD_YEARS: Final = range(2020, 2025)
_VERSION: Final = re.compile(r"(\d+)\.(\d+)")
_YEAR: Final = re.compile(r"\b(20\d\d)\b")


def find_engine(name: str) -> Engine:
    """Return the engine that a name of a published table means.

    Raises:
        LatencyError: the engine is not one whose figures are known.
    """
    plain = re.sub(r"[^a-z]", "", str(name).lower())
    if "tensorrt" in plain or plain in ("trtllm", "trt"):
        return TENSORRT
    if "sglang" in plain:
        return SGLANG
    if "vllm" in plain:
        return VLLM
    raise LatencyError(
        f"engine: {str(name)[:40]!r} is not known; use one of vllm, tensorrt_llm, sglang"
    )


def generation(engine: Engine, version: str | None, *, static: bool) -> str:
    """Return ``old`` for engines of 2024 and before, ``new`` for later ones.

    A version is a number such as ``0.10.2`` or a text with a year. Without one, offline static
    batches count as ``old``, because all published figures of that kind are, and all else as
    ``new``.
    """
    if version is None:
        return "old" if static else "new"
    year = _YEAR.search(version)
    if year is not None:
        return "old" if int(year[1]) in OLD_YEARS else "new"
    number = _VERSION.search(version)
    if engine is VLLM and number is not None:
        return "old" if (int(number[1]), int(number[2])) < FIRST_CHUNKED else "new"
    return "new"


def overlaps(engine: Engine, version: str | None, era: str) -> bool:
    """Return whether the CPU's work for the next step runs beside the GPU's of this one.

    A version that is not stated counts as the newest of its generation.
    """
    if era == "old":
        return False
    if engine.first_overlapped is None or version is None:
        return True
    number = _VERSION.search(version)
    stated = number is not None and _YEAR.search(version) is None
    if number is None or not stated:
        return True
    return (int(number[1]), int(number[2])) >= engine.first_overlapped
