"""Read the start-up log of vLLM. The wording changed with versions; all of it is known here.

| figure | wording | versions |
|---|---|---|
| weights | `Loading model weights took N GB` (the figure is in GiB) | V0, V1 to 0.7 |
|  | `Model loading took N GiB and S seconds` | 0.8 to 0.10 |
|  | `Model loading took N GiB memory and S seconds` | later |
| memory for KV | `the rest of the memory reserved for KV Cache is NGiB` | V0 |
|  | `Available KV cache memory: N GiB` | V1 |
|  | `Explicitly set (N/T) GiB for KV cache`, `Auto set (N/T) GiB for KV cache` | CPU engine |
| blocks | `# cuda blocks: N, # CPU blocks: M`, `# GPU blocks: N` | V0, first V1 |
| tokens | `GPU KV cache size: N tokens`, `CPU KV cache size: N tokens` | V1 from 0.7.3 |
| concurrency | `Maximum concurrency for N tokens per request: X.XXx` | all |
| graphs | `Graph capturing finished in S secs, took N GiB` | all with graphs |
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from .observed import Observed

SIZE_LIMIT: Final = 8 * 1024 * 1024
"""Characters that are read, from the start; an engine is ready within far less."""
_N: Final = r"(\d+(?:\.\d+)?)"
_WHOLE: Final = r"(\d{1,3}(?:,\d{3})+|\d+)"
_START: Final = re.compile(r"Initializing an? V\d LLM engine \(v([0-9][0-9A-Za-z.+]*)\)")
_WEIGHTS: Final = (
    re.compile(rf"Model loading took {_N} GiB"),
    re.compile(rf"Loading model weights took {_N} GB"),
)
_KV_MEMORY: Final = (
    re.compile(rf"Available KV cache memory: {_N} GiB"),
    re.compile(rf"memory reserved for KV Cache is {_N}GiB"),
    re.compile(rf"(?:Explicitly|Auto) set \({_N}/{_N}\) GiB for KV cache"),
)
_TOKENS: Final = re.compile(rf"KV cache size: {_WHOLE} tokens")
_BLOCKS: Final = re.compile(rf"# (?:cuda|GPU) blocks: {_WHOLE}")
_CONCURRENCY: Final = re.compile(rf"Maximum concurrency for {_WHOLE} tokens per request: {_N}x")
_GRAPHS: Final = re.compile(rf"Graph capturing finished in {_N} secs?, took {_N} GiB")


def parse_log(text: str) -> Observed:
    """Return what the log of one start tells; a log of something else gives nothing."""
    text = text[:SIZE_LIMIT]
    start = _START.search(text)
    return Observed(
        version=start[1] if start else None,
        weights_gib=_worst(_WEIGHTS, text, max),
        kv_gib=_worst(_KV_MEMORY, text, min),
        kv_tokens=_least(_TOKENS, text),
        max_concurrency=_concurrency(text),
        num_blocks=_least(_BLOCKS, text),
        cudagraph_gib=max((float(match[2]) for match in _GRAPHS.finditer(text)), default=None),
    )


def _worst(
    patterns: tuple[re.Pattern[str], ...], text: str, choose: Callable[[list[float]], float]
) -> float | None:
    for pattern in patterns:
        values = [float(match[1]) for match in pattern.finditer(text)]
        if values:
            return choose(values)
    return None


def _least(pattern: re.Pattern[str], text: str) -> int | None:
    values = [int(match[1].replace(",", "")) for match in pattern.finditer(text)]
    return min(values) if values else None


def _concurrency(text: str) -> float | None:
    values = [float(match[2]) for match in _CONCURRENCY.finditer(text)]
    return min(values) if values else None
