#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible filter: which engines of a host share GPUs, and in which order they start."""

from __future__ import annotations

DOCUMENTATION = r"""
---
name: tresor_gpu_turns
short_description: Start order of engines that share a GPU
description:
  - Returns the instances that share at least one GPU with another one of the same host, in the
    order in which they start. The one that takes most memory is first, it has the least choice.
  - An instance on GPUs whose environment names none sees all of them, so it shares with every
    other.
positional: _input
options:
  _input:
    description: Instances of one host, each with C(id), C(device), C(args) and C(env).
    type: list
    elements: dict
    required: true
author: Tresor
"""

EXAMPLES = r"""
- name: Show who waits for whom
  ansible.builtin.debug:
    msg: "{{ vllm_instances | tresor_gpu_turns }}"
"""

RETURN = r"""
_value:
  description:
    - By the id of the instance, in starting order. C(gpus) it computes on, C(rank) counted from 0,
      C(after) the ids that start before it and share a GPU with it.
  type: dict
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

EVERY = "all"


def tresor_gpu_turns(instances: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the instances that share a GPU, with GPUs, rank and predecessors."""
    on_gpu = [instance for instance in instances if instance["device"] == "cuda"]
    named = {str(instance["id"]): _named(instance) for instance in on_gpu}
    every = {gpu for gpus in named.values() for gpu in gpus} | {EVERY}
    seen = {name: gpus or every for name, gpus in named.items()}
    size = {str(one["id"]): _size(one, len(seen[str(one["id"])])) for one in on_gpu}
    order = [
        name
        for name in sorted(seen, key=lambda name: (-size[name], name))
        if any(seen[name] & seen[other] for other in seen if other != name)
    ]
    return {
        name: {
            "gpus": sorted(seen[name], key=lambda gpu: (len(gpu), gpu)),
            "rank": rank,
            "after": [other for other in order[:rank] if seen[name] & seen[other]],
        }
        for rank, name in enumerate(order)
    }


def _named(instance: Mapping[str, Any]) -> set[str]:
    value = str((instance.get("env") or {}).get("CUDA_VISIBLE_DEVICES", ""))
    return {gpu.strip() for gpu in value.split(",")} - {""}


def _size(instance: Mapping[str, Any], gpus: int) -> float:
    """Return the memory that an engine asks for, in GPUs."""
    args = {key.replace("-", "_"): value for key, value in (instance.get("args") or {}).items()}
    try:
        share = float(args.get("gpu_memory_utilization", 1.0))
    except (TypeError, ValueError):
        share = 1.0
    return share * gpus


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"tresor_gpu_turns": tresor_gpu_turns}
