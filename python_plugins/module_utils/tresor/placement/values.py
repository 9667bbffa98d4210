"""The values of a placement. Memory and disk are in GiB, power in W, networks in Gbit/s."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

FULL_SHARE: Final = 0.9
"""From this utilization on an engine wants the GPU for itself."""
SHARED_LIMIT: Final = 0.95
"""What engines on one GPU may ask for together: each also needs room beside its budget."""


@dataclass(frozen=True)
class Hardware:
    """A host as `tresor_hardware` in hosts.yml states it; None is what the site left out."""

    gpu: str | None = None
    gpus: int = 0
    nvlink_domain: int | None = None
    gpu_total_gib: float | None = None
    gpu_power_w: float | None = None
    memory_gib: float | None = None
    disk_gib: float | None = None
    rack_units: float | None = None
    network_gbit: float | None = None
    base_power_w: float | None = None

    def domains(self) -> list[list[int]]:
        """Return the GPU indexes of each NVLink domain, in order."""
        size = max(1, min(self.nvlink_domain or 1, self.gpus or 1))
        indexes = list(range(self.gpus))
        return [indexes[start : start + size] for start in range(0, self.gpus, size)]


@dataclass(frozen=True)
class Wanted:
    """One entry of a model's `placement`: what shall run, and where it may.

    `tensor` and `gpus` are None where the planner chooses. `replicas` is None for one instance on
    each host. With `nodes` above 1 it is one instance over all `hosts`, in the order of its ranks,
    on the same `gpus` of each.
    """

    name: str
    model: str
    artefact: str
    architecture: str | Mapping[str, Any] | None
    task: str
    device: str
    quantization: str | None
    context_tokens: int
    hosts: tuple[str, ...]
    tensor: int | None = 1
    pipeline: int = 1
    gpus: tuple[int, ...] | None = None
    replicas: int | None = None
    nodes: int = 1
    args: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    path: tuple[int, ...] = ()
    """Where it stands: index of the model, index of the placement."""

    @property
    def share(self) -> float:
        """Return the share of each GPU that one instance takes."""
        utilization = self.args.get("gpu_memory_utilization")
        if isinstance(utilization, (int, float)) and 0 < utilization < FULL_SHARE:
            return float(utilization)
        return 1.0

    @property
    def instances(self) -> int:
        """Return how many instances are asked for."""
        if self.nodes > 1:
            return 1
        return len(self.hosts) if self.replicas is None else self.replicas

    def ranks_on_host(self, tensor: int) -> int:
        """Return how many GPUs of each host one instance takes."""
        return tensor * self.pipeline // self.nodes


@dataclass(frozen=True)
class Prediction:
    """What `tresor.sizing.estimate` says of one engine, per GPU of its worst rank.

    `utilization` is the share of the GPU that the engine may use, `error_band` the stated error in
    the words of the sizing package.
    """

    outcome: str
    fail_kind: str | None
    reasons: tuple[str, ...]
    advice: tuple[str, ...]
    weights_gib: float
    activation_gib: float
    non_torch_gib: float
    cudagraph_gib: float
    kv_gib: float
    kv_tokens: int | None
    max_concurrency: float | None
    total_gib: float
    utilization: float | None
    error_band: Mapping[str, Any] | None

    @property
    def fits(self) -> bool:
        """Return whether the engine starts and serves one request of full length."""
        return self.outcome == "fit"


Predict = Callable[[Wanted, Hardware, int, float | None], Prediction]
"""Takes what is wanted, the host, the GPUs for each layer, and the memory free if not all is."""


@dataclass(frozen=True)
class Placed:
    """One engine instance with its host, GPUs (of each host) and prediction."""

    wanted: Wanted
    host: str
    gpus: tuple[int, ...]
    tensor: int
    prediction: Prediction
    over_pcie: bool = False
    """Whether GPUs of one layer talk past NVLink: it works, and is slow."""
    followers: tuple[str, ...] = ()
    """The other hosts of an instance that spans hosts, by rank; they answer no request."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return every host of the instance: it needs them all."""
        return (self.host, *self.followers)

    @property
    def id(self) -> str:
        """Return the name of the instance."""
        return f"{self.wanted.name}-{self.host}"

    @property
    def weights_gib(self) -> float:
        """Return the weights of a host's ranks, at most: ranks are counted as the worst."""
        return self.prediction.weights_gib * max(1, len(self.gpus))


@dataclass(frozen=True)
class Misfit:
    """Why something cannot run: which model on which host, with figures and what would cure it."""

    model: str
    host: str | None
    kind: str
    why: str
    remedy: str
    path: tuple[int, ...] = ()


@dataclass(frozen=True)
class Placement:
    """The whole site: what runs where, and what does not fit."""

    hosts: Mapping[str, Hardware]
    placed: tuple[Placed, ...] = ()
    misfits: tuple[Misfit, ...] = ()

    def on(self, host: str) -> list[Placed]:
        """Return the instances that need a host, in the order of their names."""
        return sorted((p for p in self.placed if host in p.hosts), key=lambda p: p.id)
