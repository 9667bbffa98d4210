"""Put engines on GPUs: those whose GPUs are named first, then the largest first.

For each instance the host and the NVLink domain with the least room that still suffices is taken
(best fit), so that large gaps stay for large models. With `spread` the emptiest host is taken,
which serves many copies that must stand apart. Engines share a GPU only when each states its share
(`gpu_memory_utilization` below 0.9).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations

from .cpu import place_on_cpu
from .values import (
    SHARED_LIMIT,
    Hardware,
    Misfit,
    Placed,
    Placement,
    Predict,
    Prediction,
    Wanted,
)


def place(
    hosts: Mapping[str, Hardware],
    wanted: Sequence[Wanted],
    predict: Predict,
    *,
    spread: bool = False,
) -> Placement:
    """Return where everything runs, and a misfit for each thing that cannot."""
    packer = _Packer(hosts, predict, spread)
    on_gpu = [entry for entry in wanted if entry.device == "cuda"]
    for entry in (entry for entry in on_gpu if entry.gpus is not None):
        packer.fixed(entry)
    chosen = [packer.sized(entry) for entry in on_gpu if entry.gpus is None]
    for sized in sorted(chosen, key=lambda item: (-item.size, item.entry.path)):
        packer.free(sized)
    on_cpu = [entry for entry in wanted if entry.device == "cpu"]
    placed, misfits = place_on_cpu(hosts, on_cpu, predict)
    return Placement(
        hosts,
        tuple(sorted([*packer.placed, *placed], key=lambda item: item.id)),
        (*packer.misfits, *misfits),
    )


class _Sized:
    """What is wanted, with the GPUs per layer that were chosen for each host it may run on."""

    def __init__(self, entry: Wanted, tensors: Mapping[str, int]) -> None:
        self.entry = entry
        self.tensors = tensors
        most = max(tensors.values(), default=0)
        self.size = most * entry.pipeline * entry.share


class _Packer:
    def __init__(self, hosts: Mapping[str, Hardware], predict: Predict, spread: bool) -> None:
        self.hosts = hosts
        self.predict = predict
        self.order = -1 if spread else 1
        self.placed: list[Placed] = []
        self.misfits: list[Misfit] = []
        self.used = {name: [0.0] * hardware.gpus for name, hardware in hosts.items()}

    def fixed(self, entry: Wanted) -> None:
        """Place an entry whose GPUs the site names, on each of its hosts."""
        gpus = entry.gpus or ()
        tensor = entry.tensor or max(1, len(gpus) // entry.pipeline)
        for name in entry.hosts:
            hardware = self.hosts[name]
            if not self._stated(entry, name):
                continue
            missing = [gpu for gpu in gpus if gpu >= hardware.gpus]
            if missing:
                why = f"wants GPU {missing[0]}, the host has {hardware.gpus}"
                self._refuse(entry, name, "structural", why, f"write GPUs below {hardware.gpus}")
                continue
            self._settle(entry, name, gpus, tensor)

    def sized(self, entry: Wanted) -> _Sized:
        """Choose the GPUs per layer where the site leaves it open: the fewest that fit."""
        tensors: dict[str, int] = {}
        for name in entry.hosts:
            if not self._stated(entry, name):
                continue
            tensor = entry.tensor or self._fewest(entry, name)
            if tensor:
                tensors[name] = tensor
        return _Sized(entry, tensors)

    def free(self, sized: _Sized) -> None:
        """Place an entry on as many of its hosts as it wants, the fullest suitable first."""
        entry, open_hosts = sized.entry, dict(sized.tensors)
        wanted = len(entry.hosts) if entry.replicas is None else entry.replicas
        found = 0
        while found < wanted and open_hosts:
            options = [
                (self.order * self._left(name), position, name, gpus)
                for position, (name, tensor) in enumerate(open_hosts.items())
                if (gpus := self._room(name, tensor, entry))
            ]
            if not options:
                break
            _, _, name, gpus = min(options)
            found += self._settle(entry, name, gpus, open_hosts.pop(name))
        for name in open_hosts if found < wanted else ():
            need = open_hosts[name] * entry.pipeline
            free = sum(1 for share in self.used[name] if share + entry.share <= _limit(entry))
            why = f"needs {need} free GPUs, the host has {free} of {self.hosts[name].gpus} left"
            remedy = "add GPUs or a host, take fewer replicas, or a smaller model"
            self._refuse(entry, name, "no_room", why, remedy)
        if entry.replicas is not None and entry.replicas > len(entry.hosts):
            why = f"wants {entry.replicas} replicas on {len(entry.hosts)} hosts"
            self._refuse(entry, None, "no_room", why, "name more hosts, or fewer replicas")

    def _stated(self, entry: Wanted, name: str) -> bool:
        hardware = self.hosts[name]
        if hardware.gpu is None or hardware.gpus < 1:
            why = "runs on cuda, and the host's GPUs are not stated"
            remedy = f"write tresor_hardware with gpu and gpus for {name} in hosts.yml"
            self._refuse(entry, name, "structural", why, remedy)
            return False
        return True

    def _fewest(self, entry: Wanted, name: str) -> int | None:
        """Return the smallest power of two of GPUs with which the model fits, or None."""
        hardware = self.hosts[name]
        last: Prediction | None = None
        tensor = 1
        while tensor * entry.pipeline <= hardware.gpus:
            last = self.predict(entry, hardware, tensor, None)
            if last.fits:
                return tensor
            tensor *= 2
        if last is None:
            why = f"wants {entry.pipeline} stages, the host has {hardware.gpus} GPUs"
            self._refuse(entry, name, "structural", why, "take fewer stages or another host")
        else:
            self._refuse_prediction(entry, name, last, f"even on {tensor // 2} GPUs per layer ")
        return None

    def _room(self, name: str, tensor: int, entry: Wanted) -> tuple[int, ...]:
        """Return free GPUs: each layer's inside one NVLink domain where there is one so large."""
        hardware, used = self.hosts[name], self.used[name]
        domains = hardware.domains()
        if len(domains[0]) < tensor:
            domains = [list(range(hardware.gpus))]
        limit = _limit(entry)
        gpus: list[int] = []
        for _ in range(entry.pipeline):
            options = []
            for domain in domains:
                open_gpus = [g for g in domain if g not in gpus and used[g] + entry.share <= limit]
                if len(open_gpus) >= tensor:
                    fullest = sorted(open_gpus, key=lambda gpu: (-used[gpu], gpu))[:tensor]
                    options.append(
                        (-sum(used[g] for g in fullest), len(open_gpus), sorted(fullest))
                    )
            if not options:
                return ()
            gpus += min(options)[2]
        return tuple(gpus)

    def _left(self, name: str) -> float:
        return sum(1 - share for share in self.used[name])

    def _settle(self, entry: Wanted, name: str, gpus: tuple[int, ...], tensor: int) -> bool:
        """Ask whether the engine fits on these GPUs beside what is there, and take them."""
        hardware = self.hosts[name]
        taken = max((self.used[name][gpu] for gpu in gpus), default=0.0)
        if taken + entry.share > _limit(entry) and taken > 0:
            why = (
                f"GPUs {_listed(gpus)} would be asked for {taken + entry.share:.2f} of their "
                f"memory together, at most {SHARED_LIMIT} can be shared"
            )
            remedy = "let every engine on the GPU state gpu_memory_utilization, with a smaller sum"
            self._refuse(entry, name, "shared_gpu", why, remedy)
            return False
        free = None
        if taken:
            whole = self.predict(entry, hardware, tensor, None).total_gib
            free = whole * (1 - taken)
        prediction = self.predict(entry, hardware, tensor, free)
        if not prediction.fits:
            self._refuse_prediction(entry, name, prediction, f"on GPUs {_listed(gpus)} ")
            return False
        for gpu in gpus:
            self.used[name][gpu] += entry.share
        over_pcie = tensor > 1 and not _joined(gpus, tensor, hardware)
        self.placed.append(Placed(entry, name, gpus, tensor, prediction, over_pcie))
        return True

    def _refuse_prediction(
        self, entry: Wanted, name: str, prediction: Prediction, where: str
    ) -> None:
        why = f"does not fit {where}({figures(prediction)}): {'; '.join(prediction.reasons)}"
        remedy = "; ".join(prediction.advice) or "take a smaller model or larger GPUs"
        self._refuse(entry, name, prediction.fail_kind or "no_fit", why, remedy)

    def _refuse(self, entry: Wanted, host: str | None, kind: str, why: str, remedy: str) -> None:
        self.misfits.append(Misfit(entry.model, host, kind, why, remedy, entry.path))


def figures(prediction: Prediction) -> str:
    """Return the memory of one GPU in words."""
    budget = prediction.total_gib * (prediction.utilization or 1.0)
    return (
        f"per GPU: weights {prediction.weights_gib:.1f}, activations "
        f"{prediction.activation_gib:.1f}, other {prediction.non_torch_gib:.1f}, graphs "
        f"{prediction.cudagraph_gib:.1f}, left for KV {prediction.kv_gib:.1f}, budget {budget:.1f} "
        f"of {prediction.total_gib:.1f} GiB"
    )


def _limit(entry: Wanted) -> float:
    return SHARED_LIMIT if entry.share < 1 else 1.0


def _joined(gpus: Sequence[int], tensor: int, hardware: Hardware) -> bool:
    """Return whether the GPUs of each layer lie in one NVLink domain."""
    domain = {gpu: at for at, group in enumerate(hardware.domains()) for gpu in group}
    groups = (gpus[start : start + tensor] for start in range(0, len(gpus), tensor))
    return all(domain[a] == domain[b] for group in groups for a, b in _pairs(group))


def _pairs(group: Iterable[int]) -> Iterator[tuple[int, int]]:
    return combinations(group, 2)


def _listed(gpus: Iterable[int]) -> str:
    return ", ".join(str(gpu) for gpu in gpus)
