#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: say whether a model fits a GPU, before either is bought or started."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tresor_vram_fit
short_description: Say whether a model fits a GPU, and what is left for its KV cache
description:
  - Predicts what a vLLM start-up measures per GPU on the worst rank, weights, profile peak, memory
    outside of torch, CUDA graphs, KV cache, and whether the start-up succeeds. If it does not, the
    answer names the step that fails and what to change.
  - Needs no GPU, no network and nothing but Python. Method, error band and limits are in
    C(docs/sizing.md).
  - Option names are vLLM's flags. An option that is left out has the default of I(vllm_version).
options:
  model:
    description:
      - A name from the catalogue (the publisher's, also with a quantization in it), the path of a
        directory with C(config.json) and safetensors files, a Hugging Face config as a mapping, or
        a reduced description with C(model_id), C(family) and C(config).
    type: raw
    required: true
  quantization:
    description:
      - The format of the checkpoint's weights if the model's description does not hold it, for
        example V(bf16), V(fp8), V(fp8_dynamic), V(int8_w8a8), V(awq_int4), V(nvfp4) or V(mxfp4).
    type: str
  gpu:
    description:
      - The card, by any usual name, or V(cpu) for the CPU engine.
      - One of I(gpu) and I(gpu_total_gib) is required.
    type: str
  gpu_total_gib:
    description: The card's memory as torch sees it, in GiB. Overrides the catalogue's.
    type: float
  free_gib:
    description: What is free when the engine starts, in GiB, if other programs use the card.
    type: float
  gpus_per_node:
    description: GPUs of one node. With I(nodes), a layout that needs more is refused.
    type: int
  nodes:
    description: Nodes that the engine may span.
    type: int
  tensor_parallel_size:
    description: Ranks that every layer is divided over.
    type: int
    default: 1
  pipeline_parallel_size:
    description: Stages that the layers are divided over.
    type: int
    default: 1
  data_parallel_size:
    description: Replicas of the attention layers.
    type: int
    default: 1
  enable_expert_parallel:
    description: Whether experts stay whole and are distributed over the ranks.
    type: bool
    default: false
  gpu_memory_utilization:
    description: The share of the card that the engine may take, from 0.01 to 1.
    type: float
  max_model_len:
    description: The longest context of a request, in tokens.
    type: int
  max_num_seqs:
    description: Requests that run at the same time.
    type: int
  max_num_batched_tokens:
    description: Tokens of one step.
    type: int
  block_size:
    description: Tokens of one block of the KV cache.
    type: int
  kv_cache_dtype:
    description: The type of the KV cache, V(auto) for the model's own.
    type: str
    default: auto
  kv_cache_memory_bytes:
    description:
      - The KV cache in bytes, instead of what is left of the card. On the CPU engine this is
        C(VLLM_CPU_KVCACHE_SPACE) in bytes.
    type: int
  enable_prefix_caching:
    description: Whether prefixes are cached. It matters for hybrids with recurrent layers only.
    type: bool
  enforce_eager:
    description: Whether the engine runs without CUDA graphs.
    type: bool
    default: false
  vllm_version:
    description: The engine's version. The default is the one that this distribution carries.
    type: str
  fail_on_no_fit:
    description: Whether a model that does not fit fails the task.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Only computes, in check mode and without.
  diff_mode:
    support: none
    description: Nothing is changed.
author:
  - Tresor
"""

EXAMPLES = r"""
- name: Ask whether an 8B model fits an L4
  tresor_vram_fit:
    model: meta-llama/Llama-3.1-8B-Instruct
    quantization: bf16
    gpu: L4
    max_model_len: 8192

- name: Stop unless the 70B model in FP8 fits four H100
  tresor_vram_fit:
    model: RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic
    gpu: H100 SXM 80GB
    tensor_parallel_size: 4
    max_model_len: 32768
    fail_on_no_fit: true
"""

RETURN = r"""
outcome:
  description: V(fit) or V(no_fit).
  returned: always
  type: str
fail_kind:
  description:
    - The step that fails, null if the model fits. One of V(weights_oom_at_load), V(negative_kv),
      V(kv_insufficient_for_one_request), V(oom_after_kv_allocation), V(free_memory_below_budget)
      and V(structural).
  returned: always
  type: str
reasons:
  description: Why, in words.
  returned: always
  type: list
  elements: str
advice:
  description: What to change so that it fits.
  returned: always
  type: list
  elements: str
weights_gib_per_gpu:
  description: Weights of one GPU, in GiB.
  returned: always
  type: float
peak_activation_gib:
  description: The transient peak of the engine's profile run, in GiB.
  returned: always
  type: float
non_torch_gib:
  description: Memory outside of torch's allocator, in GiB.
  returned: always
  type: float
cudagraph_gib:
  description: CUDA graphs, in GiB.
  returned: always
  type: float
available_kv_gib_per_gpu:
  description: What is left for the KV cache of one GPU, in GiB.
  returned: always
  type: float
kv_cache_tokens:
  description: What the engine reports as the size of its KV cache.
  returned: always
  type: int
max_concurrency:
  description: How many requests of the full context fit at once.
  returned: always
  type: float
est_max_model_len:
  description: The longest context that one request can have.
  returned: always
  type: int
error_band:
  description: The range that nine of ten measured KV caches lie in.
  returned: always
  type: dict
resolved:
  description: The values that were in force, with the engine's defaults filled in.
  returned: always
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.sizing import SizingError, estimate


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    return {
        "model": {"type": "raw", "required": True},
        "quantization": {"type": "str"},
        "gpu": {"type": "str"},
        "gpu_total_gib": {"type": "float"},
        "free_gib": {"type": "float"},
        "gpus_per_node": {"type": "int"},
        "nodes": {"type": "int"},
        "tensor_parallel_size": {"type": "int", "default": 1},
        "pipeline_parallel_size": {"type": "int", "default": 1},
        "data_parallel_size": {"type": "int", "default": 1},
        "enable_expert_parallel": {"type": "bool", "default": False},
        "gpu_memory_utilization": {"type": "float"},
        "max_model_len": {"type": "int"},
        "max_num_seqs": {"type": "int"},
        "max_num_batched_tokens": {"type": "int"},
        "block_size": {"type": "int"},
        "kv_cache_dtype": {"type": "str", "default": "auto"},
        "kv_cache_memory_bytes": {"type": "int"},
        "enable_prefix_caching": {"type": "bool"},
        "enforce_eager": {"type": "bool", "default": False},
        "vllm_version": {"type": "str"},
        "fail_on_no_fit": {"type": "bool", "default": False},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    options = dict(module.params)
    fail_on_no_fit = options.pop("fail_on_no_fit")
    try:
        result = estimate(**options)
    except SizingError as error:
        module.fail_json(msg=str(error))
    if fail_on_no_fit and result["outcome"] != "fit":
        module.fail_json(msg="; ".join([*result["reasons"], *result["advice"]]), **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
