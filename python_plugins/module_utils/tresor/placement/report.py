"""The capacity report: everything a procurement needs, as one value that JSON can hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..sizing.errors import SizingError
from ..sizing.gpu import find
from ..sizing.slo import Load, Promise
from .alternatives import Comparer
from .arguments import engine_arguments
from .bom import hardware_lines, open_points, software_lines
from .headroom import losses
from .load import ServiceModel, carried, load_keys, loads_of
from .predict import engine_keys
from .prices import Prices
from .resources import RULES
from .site import Capacity
from .values import Hardware, Placed

SCHEMA: Final = "capacity/v1"
SEGMENTS: Final = ("weights", "activations", "other", "graphs", "kv")


@dataclass(frozen=True)
class Subject:
    """What is reported on: the site, its hosts and groups, its planning and service level."""

    name: str
    inventory_sha256: str
    hosts: Mapping[str, Mapping[str, Any]]
    groups: Mapping[str, Sequence[str]]
    planning: Mapping[str, Any]
    slo: Mapping[str, Any]
    recovery: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By model what is declared for the loss of an engine; no entry where nothing is."""


@dataclass(frozen=True)
class Bundle:
    """The locks and specifications of a bundle's parts, by name; empty where there is none."""

    locks: Mapping[str, Mapping[str, Any]]
    specs: Mapping[str, Mapping[str, Any]]


def capacity_report(
    subject: Subject,
    capacity: Capacity,
    bundle: Bundle,
    service: ServiceModel,
    prices: Prices | None,
) -> dict[str, Any]:
    """Return the report; the same inputs give the same report, byte for byte."""
    promise = Promise.read(subject.slo)
    hardware = hardware_lines(subject.hosts, subject.groups)
    software = software_lines(bundle.locks, bundle.specs)
    needs = capacity.needs()
    compared = Comparer(capacity, subject.planning, promise, service, prices).rows()
    return {
        "schema": SCHEMA,
        "site": subject.name,
        "inventory_sha256": subject.inventory_sha256,
        "vllm_version": capacity.vllm_version,
        "survive_loss_of": capacity.survive,
        "model_revisions": capacity.revisions,
        "instances": [_instance(item) for item in capacity.placement.placed],
        "gpus": gpu_bars(capacity),
        "hosts": [need.as_dict() for need in needs],
        "totals": {
            "gpus": sum(hw.gpus for hw in capacity.placement.hosts.values()),
            "gpu_power_w": round(sum(need.gpu_power_w for need in needs), 1),
            "models_gib": round(sum(need.models_gib for need in needs), 2),
        },
        "losses": [
            {"what": loss.what, "instances": list(loss.gone)}
            for loss in losses(capacity.placement, capacity.survive)
        ],
        "recovery": _recovery(capacity, subject),
        "service": _service(capacity, subject, service),
        "alternatives": [row.as_dict() for row in compared],
        "bom": {
            "hardware": hardware,
            "software": software,
            "open": open_points(hardware, software),
        },
        "prices": None if prices is None else {"source": prices.source},
        "rules": list(RULES),
        "notes": list(capacity.notes),
    }


def _recovery(capacity: Capacity, subject: Subject) -> list[dict[str, Any]]:
    """Return for each model what the site declares, also where that is nothing."""
    counts = Counter(item.wanted.model for item in capacity.placement.placed)
    return [
        {
            "model": model,
            "instances": count,
            **{key: subject.recovery.get(model, {}).get(key) for key in ("rto_seconds", "rpo")},
        }
        for model, count in sorted(counts.items())
    ]


def gpu_bars(capacity: Capacity) -> list[dict[str, Any]]:
    """Return for each GPU (or the memory of a host with CPU engines) who takes how much, in GiB."""
    bars: list[dict[str, Any]] = []
    for host, hardware in capacity.placement.hosts.items():
        here = capacity.placement.on(host)
        for gpu in range(hardware.gpus):
            items = [item for item in here if gpu in item.gpus]
            total = items[0].prediction.total_gib if items else _memory_of(hardware)
            bars.append(_bar(host, gpu, hardware.gpu, total, items))
        cpu = [item for item in here if item.wanted.device == "cpu"]
        if cpu:
            bars.append(_bar(host, None, "host memory", hardware.memory_gib, cpu))
    return bars


def _memory_of(hardware: Hardware) -> float | None:
    if hardware.gpu_total_gib is not None or hardware.gpu is None:
        return hardware.gpu_total_gib
    return find(hardware.gpu).total_gib


def _bar(
    host: str, gpu: int | None, kind: str | None, total: float | None, items: Sequence[Placed]
) -> dict[str, Any]:
    parts = [
        {"instance": item.id, "part": part, "gib": round(value, 2)}
        for item in items
        for part, value in zip(SEGMENTS, _values(item), strict=True)
        if value > 0
    ]
    return {
        "host": host,
        "gpu": gpu,
        "kind": kind,
        "total_gib": None if total is None else round(total, 2),
        "parts": parts,
    }


def _values(item: Placed) -> tuple[float, ...]:
    prediction = item.prediction
    return (
        prediction.weights_gib,
        prediction.activation_gib,
        prediction.non_torch_gib,
        prediction.cudagraph_gib,
        prediction.kv_gib,
    )


def _instance(item: Placed) -> dict[str, Any]:
    wanted = item.wanted
    known = wanted.architecture
    return {
        "id": item.id,
        "model": wanted.model,
        "architecture": known if isinstance(known, str) else "config of the site",
        "quantization": wanted.quantization,
        "host": item.host,
        "gpus": list(item.gpus),
        "tensor_parallel_size": item.tensor,
        "pipeline_parallel_size": wanted.pipeline,
        "over_pcie": item.over_pcie,
        "max_model_len": wanted.context_tokens,
        "args": dict(sorted(engine_arguments(wanted, item.tensor).items())),
        "kv_cache_tokens": item.prediction.kv_tokens,
        "max_concurrency": _rounded(item.prediction.max_concurrency),
        "error": item.prediction.error_band,
        **({"followers": list(item.followers)} if item.followers else {}),
    }


def _service(capacity: Capacity, subject: Subject, service: ServiceModel) -> list[dict[str, Any]]:
    """Return for each loaded model whether its present instances carry the load, and what would."""
    lines: list[dict[str, Any]] = []
    for model, load in loads_of(subject.planning).items():
        items = [item for item in capacity.placement.placed if item.wanted.model == model]
        line = {
            "model": model,
            "users": load.users,
            "input_tokens": load.input_tokens,
            "output_tokens": load.output_tokens,
            "instances": len(items),
        }
        first = items[0]
        hardware = capacity.placement.hosts[first.host]
        keys = engine_keys(first.wanted, hardware, first.tensor, capacity.vllm_version)
        lines.append(line | _judged(keys, len(items), load, subject.slo, service))
    return lines


def _judged(
    keys: Mapping[str, Any],
    replicas: int,
    load: Load,
    slo: Mapping[str, Any],
    service: ServiceModel,
) -> dict[str, Any]:
    try:
        answer = service.assess(slo, load_keys(load), {**keys, "replicas": replicas})
    except SizingError as error:
        unknown = {"users_per_instance": None, "outcome": "unknown", "verdict": str(error)}
        return {**unknown, "because": [], "next_best": []}
    return {
        "users_per_instance": carried(keys, load, Promise.read(slo), service).users,
        "outcome": answer["outcome"],
        "verdict": answer["verdict"],
        "because": list(answer["because"]),
        "next_best": [
            {
                "change": one["change"],
                "reachable": one["reachable"],
                "gpus": one["gpus"],
                "gpu_power_w": one["gpu_power_w"],
            }
            for one in answer["alternatives"]
        ],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
