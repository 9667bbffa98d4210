"""The MLPerf Inference workloads for language models: mean lengths and latency limits.

Limits are those of the load generator's configuration (99th percentile; time to the first token
and time per further token, in milliseconds). Lengths are the means over each benchmark's data set
that its documentation states; where it states none, ``assumed`` is true.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Limits:
    """99th-percentile limits in milliseconds."""

    ttft_ms: float
    itl_ms: float


@dataclass(frozen=True)
class Workload:
    """One benchmark: mean prompt and answer in tokens, and its limits."""

    input_tokens: float
    output_tokens: float
    server: Limits
    interactive: Limits
    assumed: bool = False


_WORKLOADS: Final = {
    # OpenOrca; the answer's mean is the reference's tokens per sample.
    "llama270b": Workload(294, 294, Limits(2000, 200), Limits(450, 40)),
    # CNN/DailyMail, answers of at most 128 tokens.
    "llama318b": Workload(778, 73, Limits(2000, 100), Limits(500, 30)),
    # LongBench, LongDataCollections, Ruler, GovReport.
    "llama31405b": Workload(9400, 685, Limits(6000, 175), Limits(4500, 80)),
    # OpenOrca, GSM8K and MBXP.
    "mixtral8x7b": Workload(275, 146, Limits(2000, 200), Limits(450, 40), assumed=True),
    # Reasoning answers of up to 20 000 tokens.
    "deepseekr1": Workload(800, 3886, Limits(2000, 80), Limits(1500, 15)),
    "gptoss120b": Workload(1000, 1000, Limits(3000, 80), Limits(2000, 20), assumed=True),
}


def workload_of(model: str) -> Workload | None:
    """Return the benchmark that uses a model of that name, or None.

    Reads ``llama2-70b-99.9`` (MLPerf's name with an accuracy target) and Hugging Face's names.
    """
    name = model.lower().rpartition("/")[2]
    name = re.sub(r"-99(\.9)?$", "", name)
    plain = re.sub(r"[^a-z0-9]", "", name).replace("meta", "")
    for key, workload in _WORKLOADS.items():
        if plain.startswith(key):
            return workload
    return None
