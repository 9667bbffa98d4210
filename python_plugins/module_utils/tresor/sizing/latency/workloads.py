"""The MLPerf Inference workloads for language models: mean lengths and latency limits.

Limits are those of the load generator's configuration (99th percentile; time to the first token
and time per further token, in milliseconds). Lengths are the means over each benchmark's data set
that its documentation states; where it states none, ``assumed`` is true.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# The 99th percentile of Student's distribution by its degrees of freedom.
_STUDENT_99: Final = {2: 6.96, 3: 4.54, 4: 3.75, 8: 2.90, 16: 2.58}


@dataclass(frozen=True)
class Limits:
    """99th-percentile limits in milliseconds.

    The second one is the mean over an answer, and answers differ in length: with gamma-distributed
    lengths of coefficient of variation ``c`` the mean over one has the tail of Student's
    distribution with ``freedom`` = 2 / c^2 degrees of freedom. Answers of chats spread with c near
    0.8; those cut at a length near their mean (c = 0.35) hardly.
    """

    ttft_ms: float
    itl_ms: float
    freedom: int = 3

    @property
    def tail(self) -> float:
        """Deviations of a mean over an answer of mean length that 99 of 100 answers stay below."""
        return _STUDENT_99[self.freedom]


@dataclass(frozen=True)
class Workload:
    """One benchmark: its model, mean prompt and answer in tokens, and its limits."""

    model: str
    input_tokens: float
    output_tokens: float
    server: Limits
    interactive: Limits | None
    assumed: bool = False


_WORKLOADS: Final = {
    # OpenOrca; the answer's mean is the reference's tokens per sample.
    "llama270b": Workload(
        "meta-llama/Llama-2-70b-hf", 294, 294, Limits(2000, 200), Limits(450, 40)
    ),
    # CNN/DailyMail. The model writes on until it is cut at 128 tokens (the 73 of the articles' own
    # summaries are not what it answers).
    "llama318b": Workload(
        "meta-llama/Llama-3.1-8B",
        778,
        128,
        Limits(2000, 100, freedom=16),
        Limits(500, 30, freedom=16),
    ),
    # LongBench, LongDataCollections, Ruler and GovReport.
    "llama31405b": Workload(
        "meta-llama/Llama-3.1-405B", 9400, 685, Limits(6000, 175), Limits(4500, 80)
    ),
    # OpenOrca, GSM8K and MBXP, 5 000 each: the answer's mean is stated; published token counts of
    # the prompts are near 290, 665 and 180.
    "mixtral8x7b": Workload(
        "mistralai/Mixtral-8x7B-v0.1", 380, 146, Limits(2000, 200), None, assumed=True
    ),
    # Mathematics and code with answers of up to 20 000 tokens.
    "deepseekr1": Workload(
        "deepseek-ai/DeepSeek-R1", 800, 3886, Limits(2000, 80), Limits(1500, 15)
    ),
    # Summaries of 6 396 PubMed papers of about 8 000 tokens each, as a public loader of the set
    # describes them; the mean answer is that of MLPerf's compliance test (TEST09).
    "gptoss120b": Workload(
        "openai/gpt-oss-120b",
        8000,
        1278,
        Limits(3000, 80, freedom=16),
        Limits(2000, 15, freedom=16),
        assumed=True,
    ),
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
