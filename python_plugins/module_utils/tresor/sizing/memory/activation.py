"""The transient peak of the profile run, and what stays allocated beside it.

vLLM runs one dummy forward pass with `max_num_batched_tokens` and samples for `max_num_seqs`
requests; the peak is whichever needs more. Sources: `GPUModelRunner.profile_run`,
`_dummy_sampler_run`, `sample/ops/topk_topp_sampler.py`, `sample/ops/topk_topp_triton.py`,
`fused_moe.py` (`workspace_shapes`).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..model.formats import MXFP4
from ..model.shape import ModelShape
from .constants import Constants
from .engine import Engine
from .parallel import Layout
from .runner import second_runner

GIB = 1024**3

# Bytes per logit alive at the sampler's peak: 16-bit logits and their float32 copy, then either
# sorted values, 64-bit indices and the sort's own buffers, or probabilities and random numbers. The
# second model runner keeps 16-bit logits only while it profiles.
LOGIT_BYTES = {"v0": 24, "sort": 38, "triton": 14, "flashinfer": 14, "unfiltered": 2}

# 16-bit activations per patch that are alive at an encoder's peak, in hidden and inner sizes.
_ENCODER_HIDDEN = 6
_ENCODER_INNER = 2


@dataclass(frozen=True)
class Batch:
    """What the profile run feeds: tokens, sequences and the card's multiprocessors."""

    tokens: int
    sequences: int
    multiprocessors: int = 132


@dataclass(frozen=True)
class Peak:
    """Peaks in bytes of a stage: while the encoder runs, while layers run, while sampling."""

    encoder: float
    forward: float
    sampler: float

    @property
    def bytes(self) -> float:
        """The transient peak: the largest of the three."""
        return max(self.encoder, self.forward, self.sampler)


def peak(
    model: ModelShape,
    layout: Layout,
    engine: Engine,
    batch: Batch,
    constants: Constants,
    *,
    first: bool,
    last: bool,
) -> Peak:
    """Return the peak of one rank of a pipeline stage."""
    hidden = batch.tokens * model.hidden_size * model.dtype_bits / 8
    held = constants.workspace * GIB
    if layout.pipeline > 1:
        # Hidden states and residual that go to, or came from, the neighbouring stage.
        held += 2 * hidden
    encoder = 0.0
    if first and model.vision is not None:
        encoder = held + _encoder_outputs(model, batch) + _encoder_run(model, batch)
        held += _encoder_outputs(model, batch) + constants.encoder * GIB
    moe = _expert_workspace(model, layout, batch)
    dense = 3 * _widest(model, layout) * batch.tokens * model.dtype_bits / 8
    forward = held + constants.forward * GIB + 3 * hidden + max(moe, dense)
    sampler = 0.0
    if last:
        kept = moe if _workspace_kept(model, engine) else 0.0
        sampler = held + hidden + kept + _sampling(model, engine, batch)
    return Peak(encoder, forward, sampler)


def _widest(model: ModelShape, layout: Layout) -> int:
    """Features of the widest feed-forward activation of one rank, gate and up counted as one."""
    if model.experts is not None and model.experts.layers == model.num_layers:
        return model.experts.shared_intermediate // layout.tensor
    return model.intermediate_size // layout.tensor


def _expert_workspace(model: ModelShape, layout: Layout, batch: Batch) -> float:
    """Scratch of the fused experts kernel: two buffers of tokens x top_k rows."""
    if model.experts is None:
        return 0.0
    inner = model.experts.intermediate
    if not layout.expert:
        inner = -(-inner // (layout.tensor * layout.data))
    rows = batch.tokens * model.experts.top_k
    width = max(inner, model.hidden_size) + max(2 * inner, model.hidden_size)
    return rows * width * model.dtype_bits / 8


def _workspace_kept(model: ModelShape, engine: Engine) -> bool:
    """Tell whether experts use the shared workspace; MXFP4 kernels do not."""
    return engine.moe_workspace_kept and MXFP4 not in model.quantization.formats


def _images(model: ModelShape, batch: Batch) -> int:
    """Return how many of the largest images the encoder's budget holds."""
    if model.vision is None:
        return 0
    return max(batch.tokens // model.vision.max_tokens_per_item, 1)


def _encoder_outputs(model: ModelShape, batch: Batch) -> float:
    """Embeddings of those images, which stay until the profile run ends."""
    if model.vision is None:
        return 0.0
    tokens = _images(model, batch) * model.vision.max_tokens_per_item
    return tokens * model.hidden_size * model.dtype_bits / 8


def _encoder_run(model: ModelShape, batch: Batch) -> float:
    """Activations of the tower itself."""
    if model.vision is None:
        return 0.0
    patches = _images(model, batch) * model.vision.patches_per_item
    width = _ENCODER_HIDDEN * model.vision.hidden + _ENCODER_INNER * model.vision.intermediate
    return patches * width * model.dtype_bits / 8


def _sampling(model: ModelShape, engine: Engine, batch: Batch) -> float:
    if model.pooling:
        return 0.0
    rows = min(batch.sequences, batch.tokens)
    kind = "unfiltered" if second_runner(model, engine) else engine.sampler
    if kind == "triton" and rows < 8:
        kind = "sort"
    total = float(LOGIT_BYTES[kind] * rows * model.vocab_size)
    if kind == "triton":
        total += 4 * min(rows, batch.multiprocessors) * model.vocab_size
    return total
