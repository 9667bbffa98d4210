"""How a model divides over ranks, and what makes a division impossible."""

from __future__ import annotations

from dataclasses import dataclass

from ..model.formats import MXFP4
from ..model.shape import Attention, Kind, ModelShape, Split, Weight


@dataclass(frozen=True)
class Layout:
    """Tensor, pipeline and data parallel sizes; `expert` says that experts stay whole."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert: bool = False

    @property
    def gpus(self) -> int:
        """GPUs of all replicas together."""
        return self.tensor * self.pipeline * self.data


def stage_layers(layers: int, stages: int) -> list[tuple[int, int]]:
    """Return first and last+1 layer of every pipeline stage, as vLLM's `get_pp_indices` does.

    What does not divide goes to the stages before the last, from the back.
    """
    sizes = [layers // stages] * stages
    for index in range(2, layers % stages + 2):
        sizes[-index] += 1
    result, start = [], 0
    for size in sizes:
        result.append((start, start + size))
        start += size
    return result


def structural_problems(model: ModelShape, layout: Layout) -> list[str]:
    """Return why this layout cannot start at all; empty if it can."""
    tensor, found = layout.tensor, []
    if tensor > 1:
        if model.heads % tensor:
            found.append(
                f"tensor_parallel_size {tensor} does not divide the {model.heads} attention heads"
            )
        found += _kv_problems(model, tensor)
        if -(-model.vocab_size // 64) * 64 % tensor:
            found.append(
                f"tensor_parallel_size {tensor} does not divide the padded vocabulary of "
                f"{-(-model.vocab_size // 64) * 64}"
            )
        found += _width_problems(model, layout)
    if layout.pipeline > model.num_layers:
        found.append(
            f"pipeline_parallel_size {layout.pipeline} is larger than the {model.num_layers} layers"
        )
    if layout.expert and model.experts is None:
        found.append("enable_expert_parallel needs a mixture of experts; this model has none")
    return list(dict.fromkeys(found))


def _kv_problems(model: ModelShape, tensor: int) -> list[str]:
    found = []
    for cache, _ in model.caches:
        if isinstance(cache, Attention):
            small, large = sorted((cache.kv_heads, tensor))
            if large % small:
                found.append(
                    f"tensor_parallel_size {tensor} and {cache.kv_heads} KV heads do not divide "
                    "each other"
                )
    return found


def _width_problems(model: ModelShape, layout: Layout) -> list[str]:
    found = []
    for weight, _ in model.weights():
        if weight.kind == Kind.VISION:
            continue
        problem = _weight_problem(weight, layout)
        if problem:
            found.append(problem)
    return found


def _padded(weight: Weight) -> bool:
    """Return whether the engine pads a rank's share up to whole groups instead of refusing it.

    For MXFP4 experts it does (`mxfp4_round_up_hidden_size_and_intermediate_size` in vLLM 0.32,
    whose example is the 2880 / 4 = 720 of gpt-oss), so these run with a tensor parallel size of 4
    and 8.
    """
    return weight.split is Split.EXPERT and weight.format == MXFP4


def _weight_problem(weight: Weight, layout: Layout) -> str | None:
    tensor = layout.tensor
    if weight.split is Split.EXPERT and layout.expert:
        return None
    side = {
        Split.COLUMN: weight.rows,
        Split.ROW: weight.cols,
        Split.EXPERT: weight.rows if weight.inner == "rows" else weight.cols,
    }.get(weight.split)
    if side is None or (weight.split is Split.EXPERT and weight.inner == "none"):
        return None
    if side % tensor:
        return f"tensor_parallel_size {tensor} does not divide the {side} features of {weight.kind}"
    # MXFP4 kernels pad each rank's part, so any division will do.
    group = 0 if weight.format in (None, MXFP4) else weight.format.group
    cut_columns = weight.split is Split.ROW or (
        weight.split is Split.EXPERT and weight.inner == "cols"
    )
    uneven = group > 1 and side // tensor % group != 0 and side % group == 0
    if uneven and cut_columns and not _padded(weight):
        return (
            f"tensor_parallel_size {tensor} leaves {side // tensor} input features of "
            f"{weight.kind}, which is no multiple of the quantization group of {group}"
        )
    block = weight.format.block[0] if weight.format is not None else 0
    if block and weight.linear and side // tensor % block and side % block == 0:
        return (
            f"tensor_parallel_size {tensor} leaves {side // tensor} features of {weight.kind}, "
            f"which is no multiple of the quantization block of {block}"
        )
    return None
