"""Storage formats of weights: bits per element and what their scales cost.

Sources: the parameter shapes that vLLM's quantization layers create
(`model_executor/layers/quantization`), read in 0.11 to 0.32.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """How a checkpoint stores a linear layer's weight, as the engine keeps it in memory.

    `bits` per element; `group` input features share `group_bits` of scale (and zero point);
    `row_bits` of scale per output feature; `block` (rows, columns) share `block_bits`;
    `align` (rows, columns) is what the kernel's layout pads the scales to.
    `compute` names the arithmetic the weight is multiplied in: `16`, `fp8`, `int8` or `fp4`.
    `native_capability` is the first compute capability (x10) that multiplies it natively,
    `minimum_capability` the first that runs it at all (weight-only kernels stand in between), and
    `maximum_capability` the last. `gone_since` is the minor version of vLLM that dropped it.
    """

    name: str
    bits: float
    group: int = 0
    group_bits: int = 0
    row_bits: int = 0
    block: tuple[int, int] = (0, 0)
    block_bits: int = 0
    align: tuple[int, int] = (1, 1)
    compute: str = "16"
    native_capability: int = 70
    minimum_capability: int = 70
    maximum_capability: int = 999
    gone_since: int = 9999

    def data_bytes(self, rows: int, cols: int) -> int:
        """Bytes of the elements of one `rows` x `cols` matrix."""
        return int(-(-rows * cols * self.bits // 8))

    def scale_bytes(self, rows: int, cols: int) -> int:
        """Bytes of its scales and zero points, which are tensors of their own."""
        bits = rows * self.row_bits
        if self.group:
            padded_rows = _round_up(rows, self.align[0])
            groups = _round_up(-(-cols // self.group), self.align[1])
            bits += padded_rows * groups * self.group_bits
        if self.block_bits:
            bits += -(-rows // self.block[0]) * -(-cols // self.block[1]) * self.block_bits
        return -(-bits // 8)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def with_group(base: Format, group: int, *, zero_points: bool | None = None) -> Format:
    """Return a group-wise format with another group size (-1: one scale per output feature)."""
    extra = base.group_bits
    if zero_points is not None:
        extra = 16 + (int(base.bits) if zero_points else 0)
    if group == -1:
        return Format(
            base.name,
            base.bits,
            row_bits=extra,
            compute=base.compute,
            native_capability=base.native_capability,
            minimum_capability=base.minimum_capability,
        )
    return Format(
        base.name,
        base.bits,
        group=group,
        group_bits=extra,
        align=base.align,
        compute=base.compute,
        native_capability=base.native_capability,
        minimum_capability=base.minimum_capability,
    )


FP8_TENSOR = Format("fp8", 8, compute="fp8", native_capability=89, minimum_capability=75)
FP8_CHANNEL = Format(
    "fp8_dynamic", 8, row_bits=32, compute="fp8", native_capability=89, minimum_capability=75
)
FP8_BLOCK = Format(
    "fp8_block",
    8,
    block=(128, 128),
    block_bits=32,
    compute="fp8",
    native_capability=89,
    minimum_capability=75,
)
MXFP8 = Format(
    "mxfp8",
    8,
    group=32,
    group_bits=8,
    compute="fp8",
    native_capability=100,
    minimum_capability=80,
)
# Blackwell has no INT8 kernels in vLLM (its documentation, "INT8 W8A8").
INT8 = Format(
    "int8_w8a8",
    8,
    row_bits=32,
    compute="int8",
    native_capability=75,
    minimum_capability=75,
    maximum_capability=99,
)
INT8_WEIGHT = Format("int8_w8a16", 8, row_bits=16)
AWQ = Format("awq_int4", 4, group=128, group_bits=20, minimum_capability=75)
GPTQ = Format("gptq_int4", 4, group=128, group_bits=16, minimum_capability=75)
GPTQ8 = Format("gptq_int8", 8, group=128, group_bits=16, minimum_capability=75)
NVFP4 = Format(
    "nvfp4",
    4,
    group=16,
    group_bits=8,
    align=(128, 4),
    compute="fp4",
    native_capability=100,
    minimum_capability=75,
)
MXFP4 = Format(
    "mxfp4",
    4,
    group=32,
    group_bits=8,
    compute="fp4",
    native_capability=100,
    minimum_capability=80,
)
# Blocks of 64 share an 8-bit maximum, and 256 of those a 32-bit one (double quantization).
BITSANDBYTES = Format("bitsandbytes", 4 + 8 / 64 + 32 / (64 * 256), gone_since=28)
BITSANDBYTES8 = Format("bitsandbytes_int8", 8, row_bits=32, gone_since=28)
