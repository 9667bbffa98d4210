"""Which of vLLM's two model runners serves a model; they profile differently.

The second runner's profile run samples without top-k and top-p, so its logits stay in 16 bit.
Source: `use_v2_model_runner` in `config/vllm.py`, `Sampler` in `v1/worker/gpu/sample/sampler.py`.
"""

from __future__ import annotations

from ..model.shape import ModelShape, State
from .engine import Engine

# Architectures that 0.24 serves with the second runner.
_SINCE_24 = frozenset(
    {
        "Qwen3ForCausalLM",
        "DeepseekV2ForCausalLM",
        "Qwen2MoeForCausalLM",
        "GraniteMoeForCausalLM",
        "LlamaForCausalLM",
        "MistralForCausalLM",
    }
)
# Mixtures of experts that 0.28 serves with it, besides all dense models.
_MOE_SINCE_28 = frozenset({"DeepseekV2ForCausalLM", "GraniteMoeForCausalLM", "Qwen2MoeForCausalLM"})


def second_runner(model: ModelShape, engine: Engine) -> bool:
    """Tell whether the second model runner serves the model by default."""
    if engine.cpu or not engine.since(22):
        return False
    if engine.since(32):
        return True
    if model.pooling:
        return False
    if engine.since(28):
        recurrent = any(isinstance(cache, State) for cache, _ in model.caches)
        return not recurrent and (model.experts is None or model.architecture in _MOE_SINCE_28)
    if engine.since(24):
        return model.architecture in _SINCE_24
    return model.architecture == "Qwen3ForCausalLM" and not model.quantization.formats
