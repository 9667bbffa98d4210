"""The hosts of a site: what `hosts.yml` says, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .document import Document, KeyPath
from .problems import NOTHING, Problem, one_of

GROUPS: Final = ("bastion", "gateway", "gpu", "vector", "knowledge", "ops")
"""The groups Tresor knows; each names what its hosts run."""
REQUIRED_GROUPS: Final = ("bastion", "gateway", "gpu")
FABRIC_ADDRESS: Final = "tresor_fabric_ipv4"
FABRIC_INTERFACE: Final = "tresor_fabric_interface"
HOST_VARIABLES: Final = (
    "tresor_ipv4",
    "tresor_ipv6",
    FABRIC_ADDRESS,
    FABRIC_INTERFACE,
    "tresor_gpus",
    "tresor_hardware",
)
SSH_PORT: Final = 22
_HOST_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,61}[a-z0-9]|[a-z]")


@dataclass(frozen=True)
class Host:
    """A managed host as hosts.yml describes it; its values are not checked yet."""

    name: str
    groups: tuple[str, ...]
    variables: Mapping[str, Any]
    path: KeyPath
    """Where its variables stand."""

    @property
    def ssh_port(self) -> int:
        """Return the port Ansible reaches the host on."""
        port = self.variables.get("ansible_port", SSH_PORT)
        return port if isinstance(port, int) else SSH_PORT

    @property
    def is_local(self) -> bool:
        """Return whether Ansible runs on this very host."""
        return self.variables.get("ansible_connection") == "local"


@dataclass(frozen=True)
class HostTable:
    """All hosts and groups of an inventory, in the order of the file."""

    hosts: Mapping[str, Host] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def read_hosts(document: Document) -> tuple[HostTable, list[Problem]]:
    """Return the table of hosts and the problems of the file's structure."""
    reader = _HostReader(document)
    problems = list(reader.read())
    hosts = {
        name: Host(name, tuple(reader.groups_of[name]), reader.variables[name], reader.paths[name])
        for name in reader.groups_of
    }
    groups = {group: tuple(names) for group, names in reader.members.items()}
    return HostTable(hosts, groups), problems


class _HostReader:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.members: dict[str, list[str]] = {}
        self.groups_of: dict[str, list[str]] = {}
        self.variables: dict[str, dict[str, Any]] = {}
        self.paths: dict[str, KeyPath] = {}

    def read(self) -> Iterator[Problem]:
        yield from self._only((), ("all",), "let the file hold all: only")
        fix = "let all: hold children: only; variables belong in group_vars"
        yield from self._only(("all",), ("children",), fix)
        children: KeyPath = ("all", "children")
        groups = self.document.value(children)
        if not isinstance(groups, dict):
            fix = "write all.children with the groups " + ", ".join(GROUPS)
            yield self.document.problem(children, "holds no groups", fix)
            return
        for group in groups:
            yield from self._group((*children, group), group)
        for group in REQUIRED_GROUPS:
            if group not in groups:
                fix = f"write the group {group} with its host"
                path: KeyPath = (*children, group)
                yield self.document.problem(path, "missing group", fix, seen=NOTHING)
        if len(self.members.get("bastion", ())) > 1:
            fix = "keep one bastion: it is the only way in and holds the site's CA and store"
            yield self.document.problem((*children, "bastion"), "more than one host", fix)

    def _group(self, path: KeyPath, group: str) -> Iterator[Problem]:
        if group not in GROUPS:
            yield self.document.problem(path, "unknown group", one_of(GROUPS, group), seen=group)
            return
        self.members[group] = []
        yield from self._only(path, ("hosts",), "let a group hold hosts: only")
        hosts = self.document.value((*path, "hosts"))
        if not isinstance(hosts, dict) or not hosts:
            fix = "write a host under hosts:, or remove the group"
            yield self.document.problem(path, "group without a host", fix)
            return
        for name, variables in hosts.items():
            yield from self._host((*path, "hosts", name), group, name, variables)

    def _host(self, path: KeyPath, group: str, name: str, variables: object) -> Iterator[Problem]:
        document = self.document
        if not _HOST_NAME.fullmatch(name):
            fix = "write a lower-case name of letters, digits and dashes"
            yield document.problem(path, "is no host name", fix, seen=name)
        if name in (*GROUPS, "site", "fabric", "all", "localhost"):
            fix = f"write another name, such as {name}1"
            yield document.problem(path, "a host may not bear the name of a group", fix, seen=name)
        self.members[group].append(name)
        self.groups_of.setdefault(name, []).append(group)
        first = self.paths.setdefault(name, path)
        self.variables.setdefault(name, {})
        if variables is None:
            return
        if not isinstance(variables, dict):
            yield document.problem(path, "is no mapping of variables", "write tresor_ipv4: ...")
            return
        if self.variables[name]:
            fix = f"keep the variables at line {document.line(first)} and leave this entry empty"
            yield document.problem(path, "variables of a host stand in two groups", fix)
            return
        self.variables[name], self.paths[name] = variables, path
        for key in variables:
            if key not in HOST_VARIABLES and not key.startswith("ansible_"):
                fix = f"{one_of(HOST_VARIABLES, key)}; role variables belong in group_vars"
                yield document.problem((*path, key), "unknown host variable", fix, seen=key)

    def _only(self, path: KeyPath, allowed: tuple[str, ...], fix: str) -> Iterator[Problem]:
        value = self.document.value(path) if path else self.document.data
        for key in value if isinstance(value, dict) else ():
            if key not in allowed:
                yield self.document.problem((*path, key), "does not belong here", fix)
