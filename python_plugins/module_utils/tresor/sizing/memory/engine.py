"""What vLLM does by default, version by version, as far as memory depends on it.

Read in the sources of 0.8.5, 0.9.2, 0.10.1.1, 0.11.0, 0.12.0, 0.14.0, 0.15.1, 0.17.0, 0.19.0,
0.20.0, 0.21.0, 0.22.0, 0.24.0, 0.28.0, 0.32.0 and 0.33.0. A version between two of them is taken to
behave like the older one.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from ..errors import OptionError, shown

NEWEST = (0, 33)
OLDEST = (0, 5)
# The version that this distribution carries; a request without a version means this one.
DEFAULT_VERSION = "0.32.0"

_VERSION = re.compile(r"(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?")


@dataclass(frozen=True)
class Engine:
    """One vLLM version on a GPU (or, with `cpu`, its CPU build)."""

    version: tuple[int, int]
    cpu: bool = False

    def since(self, minor: int) -> bool:
        """Tell whether the version is 0.`minor` or later."""
        return self.version >= (0, minor)

    @property
    def gpu_memory_utilization(self) -> float:
        """Default share of a card's memory that the engine takes."""
        return 0.92 if self.since(20) else 0.9

    @property
    def v1(self) -> bool:
        """Whether the V1 engine is the default (0.8 and later)."""
        return self.since(8)

    @property
    def graphs_in_budget(self) -> bool:
        """Whether the estimate of CUDA graph memory is taken from the KV pool (0.20 and later)."""
        return self.since(20)

    @property
    def tokens_are_capacity(self) -> bool:
        """Whether "KV cache size" means concurrency x context (0.21) rather than blocks x size."""
        return self.since(21)

    @property
    def hybrid_groups(self) -> bool:
        """Whether windows and chunks get block tables of their own (0.9 and later)."""
        return self.since(9)

    @property
    def chunked_groups(self) -> bool:
        """Whether that holds for chunked attention, too (0.14 and later by default)."""
        return self.since(14)

    @property
    def group_ratio(self) -> float:
        """Layer counts closer than this share one group size, filled up with padding."""
        if self.since(19):
            return 1.5
        return 1.25 if self.since(12) else 1.0

    @property
    def in_flight_batches(self) -> int:
        """Batches whose tokens a window keeps besides itself (asynchronous scheduling: two)."""
        return 2 if self.since(28) and not self.cpu else 1

    @property
    def null_block_reserved(self) -> bool:
        """Whether the admission check sets one block aside."""
        return self.since(32)

    @property
    def states_cached(self) -> bool:
        """Whether hybrids cache recurrent states at block boundaries by default.

        They do once prefix caching is on by default for hybrids (0.28 and later); a request then
        holds two states instead of one.
        """
        return self.since(28)

    @property
    def obeys_checkpoint_cache(self) -> bool:
        """Whether `kv_cache_dtype` auto takes what a ModelOpt checkpoint asks for (0.14)."""
        return self.since(14)

    @property
    def batch_within_context(self) -> bool:
        """Whether the default batch holds at most every sequence's context (0.12)."""
        return self.since(12)

    @property
    def moe_workspace_kept(self) -> bool:
        """Whether the experts' scratch memory stays allocated through the sampler (0.14)."""
        return self.since(14)

    @property
    def splits_blocks(self) -> bool:
        """Whether large blocks are split while weights load; since 0.21 they are not."""
        return not self.since(21)

    @property
    def sampler(self) -> str:
        """Sampler of the profile run: `v0`, `sort`, `triton` or `flashinfer`."""
        if not self.v1:
            return "v0"
        if self.since(22):
            return "flashinfer"
        return "triton" if self.since(17) else "sort"

    def block_size(self, *, latent: bool) -> int:
        """Default tokens per block."""
        if self.cpu:
            return 16 if latent or not self.since(9) else 128
        return 64 if latent and self.since(9) else 16

    def batched_tokens(self, total_gib: float, length: int, *, modest: bool) -> int:
        """Default `max_num_batched_tokens` of the API server; `modest` as `Card.modest`.

        The V0 engine prefilled whole prompts, and chunks of 2048 beyond a context of 32768.
        """
        if self.cpu:
            return 2048
        if not self.v1:
            return max(2048, length) if length <= 32768 else 2048
        if self.since(28) and total_gib >= 160:
            return 16384
        return 8192 if total_gib >= 70 and not modest else 2048

    def sequences(self, total_gib: float, *, modest: bool) -> int:
        """Default `max_num_seqs` of the API server; `modest` as `Card.modest`."""
        if self.cpu:
            return 128
        return 1024 if self.v1 and total_gib >= 70 and not modest else 256


@functools.lru_cache(maxsize=1024)
def engine_of(version: str | None, *, cpu: bool = False) -> Engine:
    """Return the engine of a version, which may have words around its number.

    A version said to be unknown is taken to be the one that this distribution carries.

    Raises `OptionError` for a text without a version or one outside of what was read.
    """
    text = DEFAULT_VERSION if version is None else version
    if text.strip().lower().startswith("unknown"):
        text = DEFAULT_VERSION
    match = _VERSION.search(text)
    if match is None or len(text) > 200:
        raise OptionError(
            f"vllm_version is {shown(version)}; expected a version such as {DEFAULT_VERSION}"
        )
    found = (int(match[1]), int(match[2]))
    if not OLDEST <= found <= (0, 99):
        raise OptionError(
            f"vllm_version is {shown(version)}; memory is known for 0.{OLDEST[1]} to "
            f"0.{NEWEST[1]} (later ones are taken to be like 0.{NEWEST[1]})"
        )
    return Engine(found, cpu)
