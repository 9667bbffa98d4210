"""What is expected of each constant before any figure is seen, and how far it may move.

Bases come from what kernels are known to reach of a data sheet; factors for an engine, a card or a
protocol start at 1 and are held near it, so that few figures cannot carry one far (shrinkage).
"""

from __future__ import annotations

from math import log

Prior = tuple[float, float]

BASES: dict[str, Prior] = {
    "bandwidth": (log(0.85), 0.10),
    "cache": (log(0.75), 0.12),
    "compute": (log(0.70), 0.10),
    "attention": (log(0.40), 0.40),
    "layer_us": (log(45), 0.35),
    "step_us": (log(800), 0.50),
    "vector": (log(12), 0.30),
    "sequence_us": (log(20), 0.30),
    "request_us": (log(2000), 1.00),
    "link": (log(0.60), 0.40),
    "link_us": (log(20), 0.70),
    "compute/weight_only": (log(0.80), 0.15),
    "expert": (log(0.80), 0.20),
    "expert_unpack": (log(0.55), 0.20),
    "expert_read": (log(0.80), 0.15),
    "balance": (log(0.60), 0.40),
    "expert_us": (log(30), 0.30),
    "activations": (log(1.0), 0.40),
    # Crowds are computed; what is left is the margin that submitters keep. The start lies below the
    # ceiling of a share, where it can move both ways.
    "occupancy": (log(0.92), 0.08),
}
OLD = ("vllm_old", "tensorrt_llm_old")
NEW = ("vllm_new", "tensorrt_llm_new", "mlperf")
CARDS = ("ampere", "hopper", "ada", "blackwell")
FACTORS: tuple[tuple[str, tuple[str, ...], float], ...] = (
    ("bandwidth", CARDS, 0.07),
    ("cache", CARDS, 0.10),
    ("cache", OLD, 0.25),
    ("compute", ("fp8", "fp4"), 0.10),
    ("compute", (*CARDS, "vllm", "tensorrt_llm", "mlperf", "maximum"), 0.10),
    ("attention", ("ampere", "hopper", "vllm", "tensorrt_llm"), 0.20),
    ("layer_us", (*CARDS, *OLD), 0.25),
    ("step_us", OLD, 0.50),
    ("step_us", NEW, 0.30),
    ("sequence_us", OLD, 0.70),
    ("sequence_us", NEW, 0.35),
    ("expert", ("maximum", "mlperf"), 0.15),
    ("link_us", OLD, 0.30),
)
# Not fitted, for want of figures. Eager mode launches every kernel of a layer on its own; a link
# between nodes adds its round trip to each collective, and without NVLink the engines' own fast
# all-reduce for small messages is off. AMD's cards reach a smaller share of their
# data sheet than NVIDIA's: about 620 of 1307 TFLOPS in 16-bit matrix products and 4.2 of 5.3 TB/s,
# against 720 of 989 and 3.0 of 3.35 on an H100 (published micro-benchmarks of MI300X, 2024).
FIXED: dict[str, float] = {
    "layer_us/eager": log(2.0),
    "link_us/network": log(3.0),
    "link_us/pcie": log(2.5),
    **{f"compute/{card}": log(0.65) for card in ("cdna2", "cdna3", "cdna4")},
    **{f"bandwidth/{card}": log(0.88) for card in ("cdna2", "cdna3", "cdna4")},
}


# Factors that are not expected at 1. Engines since 2025 join the all-reduce with the norm that
# follows it, start a kernel before the one in front of it has drained, and quantize inside of the
# kernel before: a decode step of a 70B model on four B200 takes 7 to 9 ms in public benchmarks.
EXPECTED: dict[str, Prior] = {
    **{f"layer_us/{name}": (log(0.7), 0.15) for name in NEW},
    **{f"link_us/{name}": (log(0.5), 0.20) for name in NEW},
}


def priors() -> dict[str, Prior]:
    """Return the mean and the standard deviation of every constant's logarithm."""
    table = dict(BASES)
    for quantity, names, deviation in FACTORS:
        for name in names:
            table[f"{quantity}/{name}"] = (0.0, deviation)
    table |= EXPECTED
    return table
