"""Cross-checks of the catalogue: names, placement, ports, GPUs, engine options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .document import KeyPath
from .problems import Problem, one_of
from .sources import Sources, indexed, mapping, number, text, texts
from .vllm_arguments import argument_fault, environment_fault


def check(sources: Sources) -> Iterator[Problem]:
    """Yield what does not fit together in models.yml."""
    yield from _names(sources)
    for index, model in sources.entries("models"):
        yield from _engine(sources, index, mapping(model.get("engine")))
        yield from _placement(sources, index, model)
        yield from _gpus(sources, index, model)
    yield from _clashes(sources)


def placed_hosts(sources: Sources, placement: Mapping[str, Any]) -> list[str]:
    """Return the known hosts a placement names, each once, in the inventory's order."""
    wanted = {name for _, name in texts(placement.get("hosts"))}
    for _, group in texts(placement.get("groups")):
        wanted.update(sources.hosts.groups.get(group, ()))
    return [name for name in sources.hosts.hosts if name in wanted]


def _names(sources: Sources) -> Iterator[Problem]:
    owners: dict[str, str] = {}
    fix = "write a name that is used once: names and aliases share one list"
    named: list[tuple[KeyPath, str, str]] = []
    for index, model in sources.entries("models"):
        name = text(model.get("name"))
        named.append(((index, "name"), name, name))
    for index, model in sources.entries("models"):
        for position, alias in texts(model.get("aliases")):
            named.append(((index, "aliases", position), alias, text(model.get("name"))))
    for path, name, model_name in named:
        if name and name in owners:
            wrong = f"is already a name of the model {owners[name]}"
            yield sources.problem("models", path, wrong, fix)
        owners.setdefault(name, model_name)


def _engine(sources: Sources, index: int, engine: Mapping[str, Any]) -> Iterator[Problem]:
    for name, value in mapping(engine.get("args")).items():
        fault = argument_fault(name, value)
        if fault:
            yield sources.problem("models", (index, "engine", "args", name), *fault)
    for name in mapping(engine.get("env")):
        fault = environment_fault(name)
        if fault:
            yield sources.problem("models", (index, "engine", "env", name), *fault)


def _placement(sources: Sources, index: int, model: Mapping[str, Any]) -> Iterator[Problem]:
    groups = sources.hosts.groups
    placements = list(indexed(model.get("placement")))
    problems: list[Problem] = []
    for position, placement in placements:
        path: KeyPath = (index, "placement", position)
        for item, host in texts(placement.get("hosts")):
            if host not in sources.hosts.hosts:
                fix = one_of(sources.hosts.hosts, host)
                here: KeyPath = (*path, "hosts", item)
                problems.append(sources.problem("models", here, "unknown host", fix))
            elif "gpu" not in sources.hosts.hosts[host].groups:
                fix = one_of(groups.get("gpu", ()))
                wrong = "is no host of the group gpu, where engines run"
                problems.append(sources.problem("models", (*path, "hosts", item), wrong, fix))
        for item, group in texts(placement.get("groups")):
            if group not in groups:
                here = (*path, "groups", item)
                problems.append(sources.problem("models", here, "unknown group", one_of(groups)))
            elif group != "gpu":
                wrong = "is not the group gpu, where engines run"
                here = (*path, "groups", item)
                problems.append(sources.problem("models", here, wrong, "write gpu"))
    yield from problems
    placed = any(placed_hosts(sources, placement) for _, placement in placements)
    if not placed and not problems and "placement" in model:
        wrong = f"the model {text(model.get('name'))} is placed on no host"
        fix = "write an entry with groups: [gpu] or hosts: [...], or remove the model"
        yield sources.problem("models", (index, "placement"), wrong, fix)


def _gpus(sources: Sources, index: int, model: Mapping[str, Any]) -> Iterator[Problem]:
    device = mapping(model.get("engine")).get("device")
    spread = mapping(model.get("parallelism"))
    tensor, pipeline = number(spread.get("tensor")), number(spread.get("pipeline"))
    if tensor is None or pipeline is None:
        return
    for position, placement in indexed(model.get("placement")):
        path: KeyPath = (index, "placement", position, "gpus")
        gpus = placement.get("gpus")
        if device == "cpu" and gpus is not None:
            fix = "remove gpus, or write device: cuda"
            yield sources.problem("models", path, "belongs to device cuda only", fix)
        elif device == "cuda" and not isinstance(gpus, list):
            fix = f"write gpus: with {tensor * pipeline} indexes, such as [0]"
            yield sources.problem("models", path, "missing key", fix)
        elif device == "cuda" and isinstance(gpus, list) and len(gpus) != tensor * pipeline:
            wrong = f"parallelism {tensor} x {pipeline} needs {tensor * pipeline} GPUs"
            yield sources.problem("models", path, wrong, "write as many indexes")
        for host in placed_hosts(sources, placement):
            count = number(sources.hosts.hosts[host].variables.get("tresor_gpus"))
            worst = max((gpu for gpu in gpus or () if isinstance(gpu, int)), default=-1)
            if isinstance(gpus, list) and count is not None and worst >= count:
                wrong = f"the host {host} has {count} GPUs (tresor_gpus)"
                yield sources.problem("models", path, wrong, f"write indexes below {count}")


def _clashes(sources: Sources) -> Iterator[Problem]:
    ports: dict[tuple[str, int], str] = {}
    names: dict[str, str] = {}
    gpus: dict[tuple[str, int], str] = {}
    for index, model in sources.entries("models"):
        name = text(model.get("name"))
        for position, placement in indexed(model.get("placement")):
            path: KeyPath = (index, "placement", position)
            port = number(placement.get("port"))
            for host in placed_hosts(sources, placement):
                if port is not None and (host, port) in ports:
                    wrong = f"port clash on {host} with the model {ports[host, port]}"
                    fix = "write a port that is free there"
                    yield sources.problem("models", (*path, "port"), wrong, fix)
                if port is not None:
                    ports.setdefault((host, port), name)
                instance = f"{text(placement.get('instance'))}-{host}"
                if instance in names:
                    wrong = f"instance {instance} exists already, of the model {names[instance]}"
                    fix = "write another first part, such as the model's short name"
                    yield sources.problem("models", (*path, "instance"), wrong, fix)
                names.setdefault(instance, name)
                for gpu in placement.get("gpus") or ():
                    if isinstance(gpu, int) and (host, gpu) in gpus:
                        wrong = f"GPU {gpu} of {host} belongs to the model {gpus[host, gpu]}"
                        fix = "write GPUs that no other instance owns"
                        yield sources.problem("models", (*path, "gpus"), wrong, fix)
                    elif isinstance(gpu, int):
                        gpus[host, gpu] = name
