"""Put engines on GPUs: those whose GPUs are named first, then the largest first.

For each instance the host and the NVLink domain with the least room that still suffices is taken
(best fit), so that large gaps stay for large models. With `spread` the emptiest host is taken,
which serves many copies that must stand apart. Engines share a GPU only when each states its share
(`gpu_memory_utilization` below 0.9). An instance that spans hosts takes the same GPUs on each.
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
        self.size = entry.ranks_on_host(most) * entry.share


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
        able = [name for name in entry.hosts if self._has(entry, name, gpus)]
        if entry.nodes == 1:
            for name in able:
                self._settle(entry, (name,), gpus, tensor)
        elif len(able) == len(entry.hosts):
            self._settle(entry, entry.hosts, gpus, tensor)

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
        if entry.nodes > 1:
            self._spanning(entry, open_hosts)
            return
        wanted = entry.instances
        found = 0
        while found < wanted and open_hosts:
            options = [
                (self.order * self._left(name), position, name, gpus)
                for position, (name, tensor) in enumerate(open_hosts.items())
                if (gpus := self._room((name,), tensor, entry))
            ]
            if not options:
                break
            _, _, name, gpus = min(options)
            found += self._settle(entry, (name,), gpus, open_hosts.pop(name))
        for name in open_hosts if found < wanted else ():
            need = open_hosts[name] * entry.pipeline
            free = sum(1 for share in self.used[name] if share + entry.share <= _limit(entry))
            why = f"needs {need} free GPUs, the host has {free} of {self.hosts[name].gpus} left"
            remedy = "add GPUs or a host, take fewer replicas, or a smaller model"
            self._refuse(entry, name, "no_room", why, remedy)
        if entry.replicas is not None and entry.replicas > len(entry.hosts):
            why = f"wants {entry.replicas} replicas on {len(entry.hosts)} hosts"
            self._refuse(entry, None, "no_room", why, "name more hosts, or fewer replicas")

    def _spanning(self, entry: Wanted, tensors: Mapping[str, int]) -> None:
        """Place one instance over all of its hosts, on the same GPUs of each."""
        if len(entry.hosts) < entry.nodes:
            why = f"spans {entry.nodes} hosts, there are {len(entry.hosts)}"
            self._refuse(entry, None, "no_room", why, "add hosts, or span fewer")
            return
        if len(tensors) < len(entry.hosts):
            return  # a host that cannot take its part was refused already
        tensor = max(tensors.values())
        gpus = self._room(entry.hosts, tensor, entry)
        if gpus:
            self._settle(entry, entry.hosts, gpus, tensor)
            return
        why = (
            f"needs {entry.ranks_on_host(tensor)} GPUs that are free on each of its "
            f"{entry.nodes} hosts {', '.join(entry.hosts)}"
        )
        remedy = "add GPUs, take other hosts, or a smaller model"
        self._refuse(entry, entry.hosts[0], "no_room", why, remedy)

    def _has(self, entry: Wanted, name: str, gpus: Sequence[int]) -> bool:
        """Return whether a host has the GPUs that the site names."""
        if not self._stated(entry, name):
            return False
        count = self.hosts[name].gpus
        missing = [gpu for gpu in gpus if gpu >= count]
        if missing:
            why = f"wants GPU {missing[0]}, the host has {count}"
            self._refuse(entry, name, "structural", why, f"write GPUs below {count}")
        return not missing

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
        while tensor * entry.pipeline <= hardware.gpus * entry.nodes:
            if tensor * entry.pipeline % entry.nodes == 0:
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

    def _room(self, names: Sequence[str], tensor: int, entry: Wanted) -> tuple[int, ...]:
        """Return GPUs that are free on each host: each layer's inside one NVLink domain.

        Where no domain is so large, the whole host is taken for one.
        """
        hardware = self.hosts[names[0]]
        used = [max(shares) for shares in zip(*(self.used[name] for name in names), strict=False)]
        ranks = entry.ranks_on_host(tensor)
        group = min(tensor, ranks)
        domains = hardware.domains()
        if len(domains[0]) < group:
            domains = [list(range(len(used)))]
        limit = _limit(entry)
        gpus: list[int] = []
        while len(gpus) < ranks:
            size = min(group, ranks - len(gpus))
            options = []
            for domain in domains:
                open_gpus = [
                    g
                    for g in domain
                    if g < len(used) and g not in gpus and used[g] + entry.share <= limit
                ]
                if len(open_gpus) >= size:
                    fullest = sorted(open_gpus, key=lambda gpu: (-used[gpu], gpu))[:size]
                    options.append(
                        (-sum(used[g] for g in fullest), len(open_gpus), sorted(fullest))
                    )
            if not options:
                return ()
            gpus += min(options)[2]
        return tuple(gpus)

    def _left(self, name: str) -> float:
        return sum(1 - share for share in self.used[name])

    def _settle(
        self, entry: Wanted, names: tuple[str, ...], gpus: tuple[int, ...], tensor: int
    ) -> bool:
        """Ask whether the engine fits on these GPUs beside what is there, and take them."""
        name = names[0]
        hardware = self.hosts[name]
        taken = max((self.used[host][gpu] for host in names for gpu in gpus), default=0.0)
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
        for host in names:
            for gpu in gpus:
                self.used[host][gpu] += entry.share
        group = min(tensor, len(gpus))
        over_pcie = group > 1 and not _joined(gpus, group, hardware)
        self.placed.append(Placed(entry, name, gpus, tensor, prediction, over_pcie, names[1:]))
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
