"""What the resolved plan promises to whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .client import Endpoint

HTTPS = 443


class PlanError(ValueError):
    """The plan lacks something the checks need."""


@dataclass(frozen=True)
class Rights:
    """What a set of groups may use."""

    models: frozenset[str]
    endpoints: frozenset[str]


@dataclass(frozen=True)
class Replicas:
    """A model and the instances that must share its requests."""

    model: str
    instances: tuple[str, ...]


def rights(plan: Mapping[str, Any], groups: Iterable[str]) -> Rights:
    """Return the union of what the access rules give to the groups."""
    held = set(groups)
    models: set[str] = set()
    endpoints: set[str] = set()
    for rule in plan["access"]:
        if rule.get("group") in held:
            models.update(rule["models"])
            endpoints.update(rule["endpoints"])
    return Rights(frozenset(models), frozenset(endpoints))


def aliases(plan: Mapping[str, Any], models: Iterable[str]) -> frozenset[str]:
    """Return the other names of the models."""
    wanted = set(models)
    return frozenset(
        alias
        for model in plan["models"]
        if model["name"] in wanted
        for alias in model.get("aliases") or []
    )


def choosers(routes: Iterable[Mapping[str, Any]], models: Iterable[str]) -> frozenset[str]:
    """Return the names that stand for a choice in which at least one of the models is."""
    wanted = set(models)
    return frozenset(
        route["name"]
        for route in routes
        if wanted & {route["default"], *(rule["model"] for rule in route.get("rules") or [])}
    )


def usable(plan: Mapping[str, Any], held: Rights, task: str) -> list[Replicas]:
    """Return the held models of a task with their instances, in the plan's order."""
    return [
        Replicas(model["name"], tuple(model["instances"]))
        for model in plan["models"]
        if model["task"] == task and model["name"] in held.models
    ]


def withheld(plan: Mapping[str, Any], held: Rights) -> list[str]:
    """Return the models of the site that these rights do not cover."""
    return [model["name"] for model in plan["models"] if model["name"] not in held.models]


def endpoints_of(plan: Mapping[str, Any], name: str, port: int = HTTPS) -> list[Endpoint]:
    """Return where the plan says a name lives, IPv4 first.

    Raises:
        PlanError: the plan knows no address for the name.
    """
    for entry in plan["names"]:
        if name == entry["name"] or name in (entry.get("aliases") or []):
            found = [
                Endpoint(name, entry[family], port)
                for family in ("ipv4", "ipv6")
                if entry.get(family)
            ]
            if found:
                return found
    raise PlanError(f"tresor_plan.names has no address for {name}: run plan.yml again")


def locate(plan: Mapping[str, Any], uri: str) -> tuple[Endpoint, str]:
    """Return the server and the path of an https URI.

    Raises:
        PlanError: the URI is no https URI, or its host is unknown to the plan.
    """
    parts = urlsplit(uri)
    if parts.scheme != "https" or not parts.hostname:
        raise PlanError(f"{uri!r} is no https URI")
    path = parts.path or "/"
    if parts.query:
        path += f"?{parts.query}"
    return endpoints_of(plan, parts.hostname, parts.port or HTTPS)[0], path
