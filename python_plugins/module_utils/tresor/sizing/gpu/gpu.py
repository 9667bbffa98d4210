"""One card of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# 32-bit lanes of a multiprocessor (compute unit) and boost clock in GHz, by vendor and compute
# capability, as the architectures' white papers give them.
_LANES: Final = {
    ("nvidia", (7, 0)): (64, 1.53),
    ("nvidia", (7, 5)): (64, 1.59),
    ("nvidia", (8, 0)): (64, 1.41),
    ("nvidia", (8, 6)): (128, 1.70),
    ("nvidia", (8, 9)): (128, 2.50),
    ("nvidia", (9, 0)): (128, 1.83),
    ("nvidia", (10, 0)): (128, 1.92),
    ("nvidia", (10, 3)): (128, 1.92),
    ("nvidia", (12, 0)): (128, 2.45),
    ("nvidia", (12, 1)): (128, 2.42),
    ("amd", (9, 0)): (64, 1.70),
    ("amd", (9, 4)): (128, 2.10),
    ("amd", (9, 5)): (128, 2.40),
}
_USUAL_LANES: Final = (128, 1.7)


@dataclass(frozen=True)
class Gpu:
    """One GPU type.

    Speeds are the vendor's dense figures (without structured sparsity) at boost clock, with 32-bit
    accumulation, and zero where the card has no such unit. They are ceilings, not what a kernel
    reaches.

    - ``memory_gb``: the figure on the data sheet, in units of 10^9 bytes as marketed.
    - ``total_gib``: what ``torch.cuda.mem_get_info`` reports as total, in GiB. ECC, page tables and
      the driver take the difference. ``total_source`` says how it is known.
    - ``bandwidth_gb_s``: memory bandwidth in 10^9 bytes a second.
    - ``bf16_tflops`` (16-bit floats of either kind), ``fp8_tflops``, ``int8_tflops``,
      ``fp4_tflops``: 10^12 operations a second.
    - ``nvlink_gb_s``: GPU to GPU, both directions together, in 10^9 bytes a second (NVLink,
      Infinity Fabric); zero without a link. ``nvlink_domain``: how many GPUs of a node reach each
      other over it.
    - ``pcie_gb_s``: both directions together.
    - ``power_w``: the board's limit as delivered.
    """

    name: str
    family: str
    variant: str
    vendor: str
    architecture: str
    memory_gb: float
    total_gib: float
    total_source: str
    compute_capability: tuple[int, int]
    sms: int
    bandwidth_gb_s: float
    bf16_tflops: float
    fp8_tflops: float
    int8_tflops: float
    fp4_tflops: float
    nvlink_gb_s: float
    nvlink_domain: int
    pcie_gb_s: float
    power_w: int
    aliases: tuple[str, ...] = ()

    @property
    def native_formats(self) -> frozenset[str]:
        """Number formats that the card's matrix units multiply without unpacking them first.

        Other formats may still run: kernels such as Marlin unpack the weights to 16 bit, which
        saves memory and bandwidth but no arithmetic.
        """
        formats = {"fp16", "bf16"}
        if self.int8_tflops:
            formats.add("int8")
        if self.fp8_tflops:
            formats.add("fp8")
        if self.fp4_tflops:
            formats |= {"nvfp4", "mxfp4"}
        return frozenset(formats)

    @property
    def vector_ops(self) -> float:
        """32-bit instructions a second outside of the matrix units (a multiply-add is one)."""
        lanes, clock = _LANES.get((self.vendor, self.compute_capability), _USUAL_LANES)
        return self.sms * lanes * clock * 1e9

    def tflops(self, kind: str) -> float:
        """Return the dense speed of ``bf16``, ``fp16``, ``fp8``, ``int8`` or ``fp4``.

        A format without units of its own runs at the 16-bit speed, as weight-only kernels do.
        """
        speeds = {
            "fp8": self.fp8_tflops,
            "int8": self.int8_tflops,
            "fp4": self.fp4_tflops,
        }
        return speeds.get(kind, 0.0) or self.bf16_tflops
