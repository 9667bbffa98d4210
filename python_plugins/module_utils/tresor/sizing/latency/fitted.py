"""Fitted constants. Written by docs/tools/latency_fit; do not edit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .constants import Constants

CONSTANTS: Final = Constants(
    {
        "attention": -0.6517,
        "attention/ampere": -0.0005,
        "attention/hopper": -0.0180,
        "attention/tensorrt_llm": 0.0687,
        "attention/vllm": -0.0025,
        "balance": -0.3788,
        "bandwidth": -0.1305,
        "bandwidth/ada": 0.0035,
        "bandwidth/ampere": -0.0100,
        "bandwidth/blackwell": -0.0247,
        "bandwidth/hopper": 0.0479,
        "cache": -0.4443,
        "cache/ada": -0.1363,
        "cache/ampere": -0.0412,
        "cache/blackwell": 0.1579,
        "cache/hopper": -0.0072,
        "cache/tensorrt_llm_old": -0.0662,
        "cache/vllm_old": -0.0523,
        "compute": -0.4442,
        "compute/ada": -0.0764,
        "compute/ampere": 0.0076,
        "compute/blackwell": 0.0931,
        "compute/fp4": 0.0875,
        "compute/fp8": 0.1916,
        "compute/hopper": -0.0121,
        "compute/maximum": -0.1078,
        "compute/mlperf": 0.1308,
        "compute/narrow": -0.2331,
        "compute/tensorrt_llm": 0.0812,
        "compute/vllm": -0.0478,
        "compute/weight_only": -0.0451,
        "expert": -1.6309,
        "expert_read": -0.4779,
        "layer_us": 4.3551,
        "layer_us/ada": -0.0188,
        "layer_us/ampere": 0.0367,
        "layer_us/blackwell": 0.0061,
        "layer_us/eager": 0.6931,
        "layer_us/hopper": -0.0303,
        "layer_us/mlperf": 0.0328,
        "layer_us/tensorrt_llm_new": -0.0850,
        "layer_us/tensorrt_llm_old": -0.0124,
        "layer_us/vllm_new": -0.0188,
        "layer_us/vllm_old": 0.1161,
        "link": -0.1849,
        "link_us": 3.3003,
        "link_us/network": 0.6931,
        "link_us/nvlink": 0.1747,
        "link_us/pcie": -0.1442,
        "link_us/tensorrt_llm_old": -0.1239,
        "link_us/vllm_old": 0.1398,
        "occupancy": -0.0660,
        "occupancy/mlperf_interactive": 0.0144,
        "occupancy/vllm": -0.0806,
        "request_us": 6.0427,
        "sequence_us": 3.8637,
        "sequence_us/mlperf": 0.1649,
        "sequence_us/tensorrt_llm_new": 0.1448,
        "sequence_us/tensorrt_llm_old": -0.2021,
        "sequence_us/vllm_new": 0.6693,
        "sequence_us/vllm_old": 0.5361,
    }
)
# Median and 90th percentile of the error in percent, leaving one family out.
ERRORS: Final[Mapping[str, tuple[float, float]]] = {
    "mlperf_interactive": (62.0, 440.0),
    "mlperf_offline": (35.0, 152.7),
    "mlperf_server": (39.0, 202.3),
    "offline_max_throughput": (41.0, 79.7),
    "offline_static_batch": (7.3, 19.1),
    "online_closed_loop": (8.3, 32.9),
}
