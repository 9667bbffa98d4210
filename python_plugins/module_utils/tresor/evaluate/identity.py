"""Who an instance is: asked before and after, so that a restart or a change does not go unseen."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from ..api_check.client import Request, RequestFailed, Response, call
from ..api_check.metrics import MetricMissing, total
from .asking import Instance
from .errors import InstanceError

GENERATED: Final = "vllm:generation_tokens_total"


@dataclass(frozen=True)
class Identity:
    """What an engine says of itself.

    ``started`` is the Unix time of its process, None if it does not tell. ``generated`` counts the
    tokens that it gave since then, to anybody. ``cache`` holds the labels of its cache
    configuration.
    """

    model: str
    max_model_len: int | None
    version: str
    started: float | None
    generated: float
    cache: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for the file of answers."""
        return asdict(self)


def identify(instance: Instance, context: ssl.SSLContext, timeout: float) -> Identity:
    """Ask an instance who it is.

    Raises:
        InstanceError: it does not answer, or serves another model than the plan says.
    """
    listed = _get(instance, "/v1/models", context, timeout).json()
    models = listed.get("data") if isinstance(listed, dict) else None
    known = {one["id"]: one for one in models or [] if isinstance(one, dict) and "id" in one}
    if instance.model not in known:
        raise InstanceError(
            f"instance {instance.id} serves {', '.join(sorted(known)) or 'nothing'}, the plan says "
            f"{instance.model}: converge the site"
        )
    version = _get(instance, "/version", context, timeout).json()
    metrics = _get(instance, "/metrics", context, timeout).body.decode("utf-8", "replace")
    try:
        generated = total(metrics, GENERATED)
    except MetricMissing:
        raise InstanceError(
            f"instance {instance.id}: its /metrics has no {GENERATED}, so what others asked cannot "
            "be told; it is no engine that Tresor knows"
        ) from None
    return Identity(
        instance.model,
        known[instance.model].get("max_model_len"),
        str(version.get("version", "")) if isinstance(version, dict) else "",
        _started(metrics),
        generated,
        _cache(metrics),
    )


def changed(before: Identity, after: Identity) -> str:
    """Return what makes it another instance than before; empty if it is the same."""
    for name in ("model", "max_model_len", "version", "started"):
        was, now = getattr(before, name), getattr(after, name)
        if was != now:
            return f"{name} was {was} and is {now}"
    if after.generated < before.generated:
        return f"it had given {before.generated:g} tokens and now {after.generated:g}: it restarted"
    # Labels such as the number of blocks: the same process never changes them.
    if dict(before.cache) != dict(after.cache):
        return f"its cache configuration was {dict(before.cache)} and is {dict(after.cache)}"
    return ""


def _get(instance: Instance, path: str, context: ssl.SSLContext, timeout: float) -> Response:
    try:
        response = call(instance.endpoint, Request("GET", path), context, timeout)
    except RequestFailed as error:
        raise InstanceError(f"instance {instance.id} cannot be reached: {error}") from None
    if response.status != 200:
        raise InstanceError(f"instance {instance.id}: {path} answered with HTTP {response.status}")
    return response


def _started(metrics: str) -> float | None:
    try:
        return total(metrics, "process_start_time_seconds")
    except MetricMissing:
        return None


def _cache(metrics: str) -> dict[str, str]:
    """Return the engine's dtype, cache and block figures; one engine's are enough to compare."""
    wanted = ("block_size", "cache_dtype", "kv_cache_size_tokens", "num_gpu_blocks")
    for line in metrics.splitlines():
        if line.startswith("vllm:cache_config_info{"):
            labels = dict(re.findall(r'([a-zA-Z_]+)="((?:[^"\\]|\\.)*)"', line))
            return {name: labels[name] for name in wanted if name in labels}
    return {}
