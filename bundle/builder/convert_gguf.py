"""Convert a GGUF model to bf16 safetensors with tokenizer and chat template.

Runs in the locked build environment, never in the builder's own: ``convert_gguf.py IN.gguf OUT``.
One thread and fixed seeds: the same input gives the same bytes, and the lock has their digests.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(source: Path, out: Path) -> None:
    """Write the converted model to ``out``."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    folder, name = str(source.parent), source.name
    loaded = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    config = loaded.config
    if hasattr(config, "quantization_config"):
        # save_pretrained refuses a model that calls itself quantized; the weights no longer are.
        del config.quantization_config
    config.dtype = torch.bfloat16
    fresh = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    fresh.load_state_dict({key: value.bfloat16() for key, value in loaded.state_dict().items()})
    fresh.generation_config = loaded.generation_config
    fresh.save_pretrained(out)
    AutoTokenizer.from_pretrained(folder, gguf_file=name).save_pretrained(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
