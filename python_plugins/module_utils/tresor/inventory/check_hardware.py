"""Cross-checks of what hosts.yml says about hardware."""

from __future__ import annotations

from collections.abc import Iterator

from ..sizing.gpu import UnknownGpuError, find
from .document import KeyPath
from .problems import Problem
from .schema_check import Schema, value_problems
from .sources import Sources, mapping, number, text

VARIABLE = "tresor_hardware"


def check(sources: Sources, schema: Schema) -> Iterator[Problem]:
    """Yield what is wrong with the hardware of each host."""
    document = sources.hosts_document
    for host in sources.hosts.hosts.values() if document else ():
        if VARIABLE not in host.variables or document is None:
            continue
        path: KeyPath = (*host.path, VARIABLE)
        value = host.variables[VARIABLE]
        yield from value_problems(document, path, value, schema)
        name = text(mapping(value).get("gpu"))
        if name:
            try:
                find(name)
            except UnknownGpuError as error:
                fix = "write a card of the catalogue; docs/planning.md says how to add one"
                yield document.problem((*path, "gpu"), str(error), fix)
        count, hardware = number(host.variables.get("tresor_gpus")), mapping(value)
        stated = number(hardware.get("gpus"))
        if count is not None and stated is not None and count != stated:
            wrong = f"tresor_gpus says {count}"
            yield document.problem((*path, "gpus"), wrong, "write one number, and only here")
        domain = number(hardware.get("nvlink_domain"))
        if domain is not None and stated is not None and domain > stated:
            wrong = f"the host has {stated} GPUs"
            yield document.problem((*path, "nvlink_domain"), wrong, f"write {stated} or less")
