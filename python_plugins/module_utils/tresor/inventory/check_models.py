"""Cross-checks of the catalogue: names, placement, ports, GPUs, engine options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..catalogue.contradictions import contradictions
from ..placement.values import FULL_SHARE
from .check_extras import adapter_names
from .document import KeyPath
from .problems import Problem, one_of
from .sources import Sources, indexed, mapping, number, sequence, text, texts
from .vllm_arguments import argument_fault, environment_fault

START_SECONDS: Final = 60
"""What an engine takes at least until it answers: an assumption, large models take minutes."""


def check(sources: Sources) -> Iterator[Problem]:
    """Yield what does not fit together in models.yml."""
    yield from _names(sources)
    for index, model in sources.entries("models"):
        yield from _engine(sources, index, model)
        yield from _placement(sources, index, model)
        yield from _gpus(sources, index, model)
        yield from _recovery(sources, index, model)
    yield from _clashes(sources)


def placed_hosts(sources: Sources, placement: Mapping[str, Any]) -> list[str]:
    """Return the known hosts a placement names, each once, in the inventory's order.

    Of an instance that spans hosts, too: it takes GPUs of every one.
    """
    wanted = {name for _, name in texts(placement.get("hosts"))}
    for _, group in texts(placement.get("groups")):
        wanted.update(sources.hosts.groups.get(group, ()))
    return [name for name in sources.hosts.hosts if name in wanted]


def spans(placement: Mapping[str, Any]) -> int:
    """Return over how many hosts one instance of a placement runs; 1 unless it states `nodes`."""
    return max(number(placement.get("nodes")) or 1, 1)


def serving_hosts(sources: Sources, placement: Mapping[str, Any]) -> list[str]:
    """Return the hosts on which an instance of a placement answers requests."""
    if spans(placement) == 1:
        return placed_hosts(sources, placement)
    return [name for _, name in texts(placement.get("hosts")) if name in sources.hosts.hosts][:1]


def _names(sources: Sources) -> Iterator[Problem]:
    owners: dict[str, str] = {}
    fix = "write a name that is used once: names, aliases and adapters share one list"
    named: list[tuple[KeyPath, str, str]] = []
    for index, model in sources.entries("models"):
        name = text(model.get("name"))
        named.append(((index, "name"), name, name))
    for index, model in sources.entries("models"):
        for position, alias in texts(model.get("aliases")):
            named.append(((index, "aliases", position), alias, text(model.get("name"))))
        for position, adapter in adapter_names(model):
            named.append(((index, "lora", position, "name"), adapter, adapter))
    for path, name, model_name in named:
        if name and name in owners:
            wrong = f"is already a name of the model {owners[name]}"
            yield sources.problem("models", path, wrong, fix)
        owners.setdefault(name, model_name)


def _engine(sources: Sources, index: int, model: Mapping[str, Any]) -> Iterator[Problem]:
    engine = mapping(model.get("engine"))
    args = mapping(engine.get("args"))
    context = number(model.get("context_tokens"))
    for name, wrong, fix in contradictions(args, text(model.get("task")), context):
        yield sources.problem("models", (index, "engine", "args", name), wrong, fix)
    for name, value in args.items():
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
    if spread.get("tensor") == "auto" and pipeline is not None:
        yield from _auto(sources, index, model)
        return
    if tensor is None or pipeline is None:
        return
    for position, placement in indexed(model.get("placement")):
        path: KeyPath = (index, "placement", position, "gpus")
        gpus = placement.get("gpus")
        needed = tensor * pipeline // spans(placement)
        over = f" over {spans(placement)} hosts" if spans(placement) > 1 else ""
        yield from _replicas(sources, (index, "placement", position), placement)
        if device == "cpu" and gpus is not None:
            fix = "remove gpus, or write device: cuda"
            yield sources.problem("models", path, "belongs to device cuda only", fix)
        elif device == "cuda" and gpus is None:
            fix = f"write gpus: with {needed} indexes, such as [0], or gpus: auto"
            yield sources.problem("models", path, "missing key", fix)
        elif device == "cuda" and isinstance(gpus, list) and len(gpus) != needed:
            wrong = f"parallelism {tensor} x {pipeline}{over} needs {needed} GPUs"
            yield sources.problem("models", path, wrong, "write as many indexes")
        for host in placed_hosts(sources, placement):
            variables = sources.hosts.hosts[host].variables
            stated = mapping(variables.get("tresor_hardware")).get("gpus")
            count = number(stated if stated is not None else variables.get("tresor_gpus"))
            worst = max((gpu for gpu in sequence(gpus) if isinstance(gpu, int)), default=-1)
            if isinstance(gpus, list) and count is not None and worst >= count:
                wrong = f"the host {host} has {count} GPUs"
                yield sources.problem("models", path, wrong, f"write indexes below {count}")


def _auto(sources: Sources, index: int, model: Mapping[str, Any]) -> Iterator[Problem]:
    """The planner chooses how many GPUs, so it must choose which, too."""
    cpu = mapping(model.get("engine")).get("device") == "cpu"
    if cpu:
        path: KeyPath = (index, "parallelism", "tensor")
        yield sources.problem("models", path, "belongs to device cuda only", "write 1")
    for position, placement in indexed(model.get("placement")):
        path = (index, "placement", position)
        yield from _replicas(sources, path, placement)
        if not cpu and placement.get("gpus") != "auto":
            wrong = "parallelism.tensor is auto, so the GPUs are not known either"
            yield sources.problem("models", (*path, "gpus"), wrong, "write gpus: auto")


def _replicas(sources: Sources, path: KeyPath, placement: Mapping[str, Any]) -> Iterator[Problem]:
    replicas = number(placement.get("replicas"))
    if replicas is None:
        return
    hosts = len(placed_hosts(sources, placement))
    if placement.get("gpus") != "auto":
        fix = "write gpus: auto, or name the hosts that get an instance"
        wrong = "belongs to gpus: auto only"
        yield sources.problem("models", (*path, "replicas"), wrong, fix)
    elif replicas > hosts:
        wrong = f"is more than the {hosts} hosts of this entry, and a host gets one instance of it"
        fix = f"write {hosts} or less, or a second entry"
        yield sources.problem("models", (*path, "replicas"), wrong, fix)


def _clashes(sources: Sources) -> Iterator[Problem]:
    ports: dict[tuple[str, int], str] = {}
    names: dict[str, str] = {}
    gpus: dict[tuple[str, int], tuple[str, bool]] = {}
    for index, model in sources.entries("models"):
        name = text(model.get("name"))
        shares = _states_share(model)
        for position, placement in indexed(model.get("placement")):
            path: KeyPath = (index, "placement", position)
            port = number(placement.get("port"))
            for host in serving_hosts(sources, placement):
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
            for host in placed_hosts(sources, placement):
                for gpu in sequence(placement.get("gpus")):
                    owner, owner_shares = gpus.get((host, gpu), (None, True))
                    if owner is not None and not (shares and owner_shares):
                        wrong = f"GPU {gpu} of {host} belongs to the model {owner}"
                        fix = (
                            "write GPUs that no other instance owns, or let both models state "
                            f"gpu_memory_utilization below {FULL_SHARE}"
                        )
                        yield sources.problem("models", (*path, "gpus"), wrong, fix)
                    elif isinstance(gpu, int):
                        gpus[host, gpu] = (name, shares)


def _recovery(sources: Sources, index: int, model: Mapping[str, Any]) -> Iterator[Problem]:
    """What is promised must be possible: one engine is away while it starts again."""
    declared = mapping(model.get("recovery"))
    path: KeyPath = (index, "recovery", "rpo")
    if declared.get("rpo") == "none" and model.get("task") == "chat":
        wrong = "no other engine can go on with an answer that has begun"
        yield sources.problem("models", path, wrong, "write in_flight")
        return
    placements = [placement for _, placement in indexed(model.get("placement"))]
    instances = sum(
        number(placement.get("replicas")) or len(serving_hosts(sources, placement))
        for placement in placements
    )
    if instances != 1:
        return
    fix = "place a second instance, or write"
    if declared.get("rpo") == "none":
        wrong = "the model has one instance, so what it was answering is lost with it"
        yield sources.problem("models", path, wrong, f"{fix} in_flight")
    seconds = number(declared.get("rto_seconds"))
    if seconds is not None and seconds < START_SECONDS:
        wrong = f"the model has one instance, and its start takes {START_SECONDS} s or more"
        rto: KeyPath = (index, "recovery", "rto_seconds")
        yield sources.problem("models", rto, wrong, f"{fix} {START_SECONDS} or more")


def _states_share(model: Mapping[str, Any]) -> bool:
    """Return whether a model's engines say that they leave a part of their GPUs to others."""
    share = mapping(mapping(model.get("engine")).get("args")).get("gpu_memory_utilization")
    return isinstance(share, (int, float)) and 0 < share < FULL_SHARE
