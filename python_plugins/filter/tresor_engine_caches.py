#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible filter: which engine of a host may use which cache of compiled kernels."""

from __future__ import annotations

DOCUMENTATION = r"""
---
name: tresor_engine_caches
short_description: The cache of compiled kernels that fits each engine on GPUs
description:
  - A cache is used only where GPU type, driver, environment, model and engine settings are those
    that it was made with; for the others it says which of them differ.
positional: _input, caches, host
options:
  _input:
    description: Instances of one host, as in the plan.
    type: list
    elements: dict
    required: true
  caches:
    description: Caches of the release, by name, each with C(fits).
    type: dict
    required: true
  host:
    description:
      - What the host has. C(gpu) as the plan writes it, C(driver) its version, C(models) and
        C(environments) of the release.
    type: dict
    required: true
author: Tresor
"""

EXAMPLES = r"""
- name: Show what runs without compiled kernels
  ansible.builtin.debug:
    msg: "{{ vllm_instances | tresor_engine_caches(tresor_release.engine_caches, __vllm_host) }}"
"""

RETURN = r"""
_value:
  description:
    - By the id of each instance on GPUs. C(name) of its cache, empty if none fits, and C(why) then.
  type: dict
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def tresor_engine_caches(
    instances: Iterable[Mapping[str, Any]],
    caches: Mapping[str, Mapping[str, Any]],
    host: Mapping[str, Any],
) -> dict[str, dict[str, str]]:
    """Return the fitting cache of each instance on GPUs, or why there is none."""
    return {
        str(instance["id"]): _choose(instance, caches, host)
        for instance in instances
        if instance["device"] == "cuda"
    }


def _choose(
    instance: Mapping[str, Any], caches: Mapping[str, Mapping[str, Any]], host: Mapping[str, Any]
) -> dict[str, str]:
    wanted = {
        "gpu": str(host["gpu"]),
        "driver": str(host["driver"]).strip(),
        "requirements_sha256": _of(
            host["environments"], instance["environment"], "requirements_sha256"
        ),
        "model_digest": _of(host["models"], instance["artefact"], "digest"),
        "engine_sha256": engine_digest(instance),
    }
    reasons = []
    for name, cache in sorted(caches.items()):
        differs = [key for key, value in wanted.items() if cache["fits"][key] != value]
        if not differs:
            return {"name": name, "why": ""}
        shown = ", ".join(f"{key} {cache['fits'][key]}, here {wanted[key]}" for key in differs)
        reasons.append(f"{name} has {shown}")
    return {"name": "", "why": "; ".join(reasons) or "the release carries none"}


def _of(table: Mapping[str, Mapping[str, Any]], name: str, key: str) -> str:
    return str(table.get(name, {}).get(key, ""))


def engine_digest(instance: Mapping[str, Any]) -> str:
    """Return what `tresor.engine_cache.record.engine_digest` does; a test compares them."""
    lora = [int(adapter["rank"]) for adapter in instance.get("lora") or []]
    speculative = instance.get("speculative") or {}
    env = {key: str(value) for key, value in (instance.get("env") or {}).items()}
    env.pop("CUDA_VISIBLE_DEVICES", None)
    value = {
        "args": dict(instance.get("args") or {}),
        "env": env,
        "lora": sorted(lora),
        "speculative": {
            key: speculative[key] for key in ("method", "tokens") if key in speculative
        },
        "task": instance["task"],
    }
    raw = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(raw.encode()).hexdigest()


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"tresor_engine_caches": tresor_engine_caches}
