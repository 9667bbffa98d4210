"""AMD's cards for servers.

Figures are those of the vendor's data sheets, ``total_gib`` as in :mod:`datacenter`. The compute
capability is what torch reports for the architecture; it is no CUDA capability.
"""

from __future__ import annotations

from typing import Final

from .gpu import Gpu

_LOG: Final = "torch, public logs"
_CLASS: Final = "derived: share of the data sheet's memory that torch sees on this family"

CARDS: Final = (
    Gpu(
        name="MI250 64GB",
        family="mi250",
        variant="",
        vendor="amd",
        architecture="cdna2",
        memory_gb=64,
        total_gib=63.98,
        total_source="torch shows each of the two dies as a device; all figures are those of one",
        compute_capability=(9, 0),
        sms=104,
        bandwidth_gb_s=1638,
        bf16_tflops=181,
        fp8_tflops=0,
        int8_tflops=181,
        fp4_tflops=0,
        nvlink_gb_s=400,
        nvlink_domain=8,
        pcie_gb_s=64,
        power_w=280,
        aliases=("mi250", "mi250 128gb", "mi250x"),
    ),
    Gpu(
        name="MI300X 192GB",
        family="mi300x",
        variant="",
        vendor="amd",
        architecture="cdna3",
        memory_gb=192,
        total_gib=191.98,
        total_source=_LOG,
        compute_capability=(9, 4),
        sms=304,
        bandwidth_gb_s=5300,
        bf16_tflops=1307,
        fp8_tflops=2615,
        int8_tflops=2615,
        fp4_tflops=0,
        nvlink_gb_s=896,
        nvlink_domain=8,
        pcie_gb_s=128,
        power_w=750,
        aliases=("mi300x", "mi300"),
    ),
    Gpu(
        name="MI325X 256GB",
        family="mi325x",
        variant="",
        vendor="amd",
        architecture="cdna3",
        memory_gb=256,
        total_gib=255.98,
        total_source=_LOG,
        compute_capability=(9, 4),
        sms=304,
        bandwidth_gb_s=6000,
        bf16_tflops=1307,
        fp8_tflops=2615,
        int8_tflops=2615,
        fp4_tflops=0,
        nvlink_gb_s=896,
        nvlink_domain=8,
        pcie_gb_s=128,
        power_w=1000,
        aliases=("mi325x",),
    ),
    Gpu(
        name="MI355X 288GB",
        family="mi355x",
        variant="",
        vendor="amd",
        architecture="cdna4",
        memory_gb=288,
        total_gib=287.98,
        total_source=_CLASS,
        compute_capability=(9, 5),
        sms=256,
        bandwidth_gb_s=8000,
        bf16_tflops=2500,
        fp8_tflops=5000,
        int8_tflops=5000,
        fp4_tflops=10000,
        nvlink_gb_s=1075,
        nvlink_domain=8,
        pcie_gb_s=128,
        power_w=1400,
        aliases=("mi355x",),
    ),
)
