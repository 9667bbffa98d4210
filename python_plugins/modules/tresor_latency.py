#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: how fast a model answers on a deployment, and whether that keeps a promise."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tresor_latency
short_description: Predict latency and throughput of a deployment, and judge them against a promise
description:
  - Predicts the time to the first token, between tokens and to the whole answer, and the tokens a
    second, of a model on given cards under a given load. Nothing is started and no GPU is needed.
  - With O(slo) and O(load) it also says whether the promise is reachable, why not, and which
    deployment is the next best.
  - The figures are predictions from the cards' data sheets and constants fitted to published
    measurements; the results carry the error found by cross-validation.
options:
  model:
    description: A name of the shipped catalogue, a directory with a checkpoint, or a config.
    type: raw
    required: true
  gpu:
    description: The card, for example V(H100 SXM 80GB), or the name that C(nvidia-smi) prints.
    type: str
    required: true
  quantization:
    description: The checkpoint's format, if the model's description does not hold it.
    type: str
  gpus_per_node:
    description: GPUs of one host; with O(nodes), more than that are refused.
    type: int
  nodes:
    description: Hosts that one deployment may span.
    type: int
  gpu_total_gib:
    description: Memory of the card as torch sees it, if it differs from the catalogue's.
    type: float
  tensor_parallel_size:
    description: GPUs that share each layer.
    type: int
  pipeline_parallel_size:
    description: Stages.
    type: int
  data_parallel_size:
    description: Data-parallel ranks of one deployment.
    type: int
  enable_expert_parallel:
    description: Whether experts are spread whole over the ranks.
    type: bool
    default: false
  replicas:
    description: Equal deployments that share the load.
    type: int
  max_model_len:
    description: The longest context.
    type: int
  max_num_seqs:
    description: The most sequences that run at a time.
    type: int
  max_num_batched_tokens:
    description: The most tokens of a step.
    type: int
  gpu_memory_utilization:
    description: The share of the card's memory that the engine takes.
    type: float
  kv_cache_dtype:
    description: The format of the KV cache.
    type: str
  enforce_eager:
    description: Whether the engine runs without CUDA graphs.
    type: bool
    default: false
  vllm_version:
    description: The version of vLLM.
    type: str
  engine:
    description: The engine.
    type: str
    choices: [vllm, tensorrt_llm, sglang]
    default: vllm
  metric_kind:
    description: What is measured.
    type: str
    choices:
      - online_closed_loop
      - online_open_loop
      - offline_static_batch
      - offline_max_throughput
      - mlperf_offline
      - mlperf_server
      - mlperf_interactive
    default: online_closed_loop
  input_tokens:
    description: Tokens of the mean prompt. Taken from O(load) if that is given.
    type: float
  output_tokens:
    description: Tokens of the mean answer. Taken from O(load) if that is given.
    type: float
  cached_tokens:
    description: Tokens of the prompt that are in the prefix cache and come on top.
    type: float
  concurrency:
    description: Users who each wait for an answer before they ask again.
    type: int
  request_rate:
    description: Requests a second, for O(metric_kind=online_open_loop).
    type: float
  slo:
    description: The promise, as C(slo.yml) states it; only its two latency limits are read.
    type: dict
  load:
    description: The busiest time.
    type: dict
    suboptions:
      users:
        description: People who ask, wait, and ask again.
        type: int
        required: true
      input_tokens:
        description: Tokens of the mean prompt.
        type: float
        required: true
      output_tokens:
        description: Tokens of the mean answer.
        type: float
        required: true
      input_tokens_p95:
        description: 95 of 100 prompts are not longer. The mean if left out.
        type: float
      output_tokens_p95:
        description: 95 of 100 answers are not longer. The mean if left out.
        type: float
      cached_tokens:
        description: Tokens of the prompt that are in the prefix cache and come on top.
        type: float
      think_seconds:
        description: Seconds between an answer and the next question.
        type: float
attributes:
  check_mode:
    support: full
    description: The module only computes, so check mode is the same.
  diff_mode:
    support: none
    description: There is nothing to compare.
author:
  - Tresor
"""

EXAMPLES = r"""
- name: How fast does a 70B model in 16 bit answer 50 users on four H100?
  tresor_latency:
    model: meta-llama/Llama-3.3-70B-Instruct
    gpu: H100 SXM 80GB
    tensor_parallel_size: 4
    input_tokens: 1000
    output_tokens: 200
    concurrency: 50

- name: Does that keep the promise, and what would?
  tresor_latency:
    model: meta-llama/Llama-3.3-70B-Instruct
    gpu: H100 SXM 80GB
    tensor_parallel_size: 4
    slo: {ttft_p95_ms: 500, e2e_p95_ms: 3000}
    load: {users: 50, input_tokens: 1000, output_tokens: 200}
"""

RETURN = r"""
latency:
  description:
    - The prediction, without O(slo). Times are in milliseconds, none where the kind of figure does
      not define them.
  returned: without slo
  type: dict
  sample:
    ttft_ms: 78.1
    ttft_p95_ms: 95.0
    itl_ms: 19.9
    e2e_ms: 4040.0
    e2e_p95_ms: 4060.0
    output_tok_s_total: 49.5
    bound_by: memory bandwidth (weights)
assessment:
  description: The verdict with reasons and alternatives, with O(slo).
  returned: with slo
  type: dict
  sample:
    outcome: not_reachable
    verdict: "not reachable: ..."
    because: ["even one user alone waits 4.04 s ..."]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tresor.sizing.errors import SizingError
from ansible.module_utils.tresor.sizing.latency import latency
from ansible.module_utils.tresor.sizing.slo import assess

KINDS = [
    "online_closed_loop",
    "online_open_loop",
    "offline_static_batch",
    "offline_max_throughput",
    "mlperf_offline",
    "mlperf_server",
    "mlperf_interactive",
]
# What a promise with a load replaces.
OF_ONE_FIGURE = ("input_tokens", "output_tokens", "cached_tokens", "concurrency", "request_rate")


def argument_spec() -> dict[str, Any]:
    """Return the options of the module."""
    whole = (
        "gpus_per_node",
        "nodes",
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "data_parallel_size",
        "replicas",
        "max_model_len",
        "max_num_seqs",
        "max_num_batched_tokens",
        "concurrency",
    )
    real = (
        "gpu_total_gib",
        "gpu_memory_utilization",
        "input_tokens",
        "output_tokens",
        "cached_tokens",
        "request_rate",
    )
    return {
        "model": {"type": "raw", "required": True},
        "gpu": {"type": "str", "required": True},
        **{name: {"type": "int"} for name in whole},
        **{name: {"type": "float"} for name in real},
        **{name: {"type": "str"} for name in ("quantization", "kv_cache_dtype", "vllm_version")},
        "enable_expert_parallel": {"type": "bool", "default": False},
        "enforce_eager": {"type": "bool", "default": False},
        "engine": {
            "type": "str",
            "choices": ["vllm", "tensorrt_llm", "sglang"],
            "default": "vllm",
        },
        "metric_kind": {"type": "str", "choices": KINDS, "default": "online_closed_loop"},
        "slo": {"type": "dict"},
        "load": {
            "type": "dict",
            "options": {
                "users": {"type": "int", "required": True},
                "input_tokens": {"type": "float", "required": True},
                "output_tokens": {"type": "float", "required": True},
                "input_tokens_p95": {"type": "float"},
                "output_tokens_p95": {"type": "float"},
                "cached_tokens": {"type": "float"},
                "think_seconds": {"type": "float"},
            },
        },
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=argument_spec(),
        supports_check_mode=True,
        required_together=[("slo", "load")],
        mutually_exclusive=[("load", name) for name in OF_ONE_FIGURE],
    )
    given = {key: value for key, value in module.params.items() if value is not None}
    slo, load = given.pop("slo", None), given.pop("load", None)
    try:
        if slo is None:
            module.exit_json(changed=False, latency=latency(**given))
        kind = given.pop("metric_kind")
        if kind != "online_closed_loop":
            module.fail_json(
                msg=f"metric_kind: a promise is judged as online_closed_loop, not as {kind}; "
                "remove one of slo and metric_kind"
            )
        stated = {key: value for key, value in load.items() if value is not None}
        module.exit_json(changed=False, assessment=assess(slo, stated, given))
    except SizingError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
