"""What to buy, for a site that has no GPU servers yet: a report on servers that do not exist."""

from __future__ import annotations

from dataclasses import replace

from ..sizing.slo import Promise
from .alternatives import Comparer
from .load import ServiceModel
from .report import Subject
from .resources import check_needs
from .site import Capacity
from .values import Hardware, Placement


class ProposalError(Exception):
    """No number of these servers carries the site; says which model and why."""


def propose(
    subject: Subject, capacity: Capacity, server: Hardware, service: ServiceModel
) -> tuple[Subject, Capacity]:
    """Return the site with the fewest servers of a kind that carry it, in place of its own.

    Raises ProposalError. Hosts that run no engine stay as they are.
    """
    bare = replace(capacity, placement=Placement({}))
    comparer = Comparer(bare, subject.planning, Promise.read(subject.slo), service, None)
    wanted = [entry for entry in capacity.wanted if entry.device == "cuda"]
    solved = comparer.solve(wanted, server, comparer.loads)
    placement = solved.found.placement
    problems = [f"{m.model} {m.why}; {m.remedy}" for m in placement.misfits] + list(solved.reasons)
    if problems:
        raise ProposalError(
            f"servers with {server.gpus} x {server.gpu} do not carry the site: "
            + "; ".join(problems)
        )
    stated = {"tresor_hardware": {"gpu": server.gpu, "gpus": server.gpus}}
    others = {name: v for name, v in subject.hosts.items() if name not in subject.groups["gpu"]}
    hosts = {**others, **dict.fromkeys(placement.hosts, stated)}
    groups = {
        name: tuple(placement.hosts) if name == "gpu" else members
        for name, members in subject.groups.items()
    }
    _, notes = check_needs(placement, capacity.revisions)
    proposed = replace(capacity, placement=placement, notes=tuple(notes))
    return replace(subject, hosts=hosts, groups=groups), proposed
