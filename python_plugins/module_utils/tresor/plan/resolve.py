"""Resolve a valid inventory into the plan that every later stage reads.

Pure and deterministic: the same inventory gives the same plan, byte for byte.
"""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final

from ..flows.fabric import fabric_host, forbidden_in_fabric
from ..flows.matrix import Flow, Peer, expand, external_peer, host_peer
from ..flows.probes import DROPPED_BY, forbidden_probes
from ..flows.rules import host_rules
from ..inventory.loader import Inventory
from ..inventory.schema_check import load_schema, violations
from .gpus import planned_gpus
from .instances import resolve_instances
from .models import model_names, resolve_models, resolve_routes
from .sizing import resolve_sizing

SCHEMA: Final = "plan/v1"
_HOLDER: Final = ("group", "service_account", "client_id", "subject", "certificate")


class PlanError(Exception):
    """The resolved plan does not fit its own schema: a mistake of Tresor, not of the inventory."""


def resolve(inventory: Inventory) -> dict[str, Any]:
    """Return the plan of a valid inventory."""
    concerns = inventory.concerns
    flows = expand(inventory)
    instances = resolve_instances(inventory)
    site = _site(inventory)
    hosts = {
        name: (host_peer(inventory, name), host.groups)
        for name, host in inventory.hosts.hosts.items()
    }
    return {
        "tresor_plan": {
            "schema": SCHEMA,
            "site": site,
            "inventory_sha256": inventory.sha256,
            "names": _names(inventory, site),
            "hosts": {
                name: _host(inventory, name, flows, instances, site["api_name"])
                for name in inventory.hosts.hosts
            },
            "instances": instances,
            "models": resolve_models(inventory, instances),
            "routes": resolve_routes(inventory),
            "access": _access(inventory),
            "guardrails": _guardrails(inventory),
            "limits": concerns["guardrails"]["limits"],
            "flows": [_flow(flow) for flow in flows],
            "probes": {
                "forbidden": [
                    *forbidden_probes(flows, hosts, external_peer(inventory, "canary")),
                    *({**probe, "chain": DROPPED_BY} for probe in forbidden_in_fabric(inventory)),
                ],
            },
            "retention": _retention(inventory),
            "slo": concerns["slo"],
            "sizing": resolve_sizing(inventory.capacity),
        }
    }


def check_plan(plan: dict[str, Any], schema_dir: Path) -> None:
    """Check a plan with its schema; raises PlanError."""
    found = violations(plan, load_schema(schema_dir, "plan"))
    if found:
        raise PlanError("The resolved plan does not fit plan.schema.json: " + "; ".join(found))


def plan_text(plan: dict[str, Any]) -> str:
    """Return the plan as the text of its file: JSON with sorted keys and a final line end."""
    return json.dumps(plan, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _address(value: str | None) -> str | None:
    return str(ip_address(value)) if value is not None else None


def _network(value: str | None) -> str | None:
    return str(ip_network(value)) if value is not None else None


def _site(inventory: Inventory) -> dict[str, Any]:
    """Return the site with every key present and every address in its usual form."""
    site = inventory.concerns["site"]
    first = host_peer(inventory, inventory.hosts.groups["gateway"][0])
    shared = site.get("api_address", {"ipv4": first.ipv4, "ipv6": first.ipv6})
    return {
        **site,
        "user_certificate": {"source": "site", "ca_file": None, **site.get("user_certificate", {})},
        "api_address": {
            "ipv4": _address(shared["ipv4"]),
            "ipv6": _address(shared.get("ipv6")),
        },
        "vector": {"form": "lite", "minimum_free_mb": 2048, **site.get("vector", {})},
        "subnets": {
            name: {"ipv4": _network(subnet["ipv4"]), "ipv6": _network(subnet.get("ipv6"))}
            for name, subnet in site["subnets"].items()
        },
        "externals": {
            name: {
                "name": external["name"],
                "ipv4": _address(external["ipv4"]),
                "ipv6": _address(external.get("ipv6")),
                "port": external.get("port"),
            }
            for name, external in site["externals"].items()
        },
    }


def _names(inventory: Inventory, site: dict[str, Any]) -> list[dict[str, Any]]:
    names = [
        _name(f"{host}.{site['domain']}", [host], host_peer(inventory, host))
        for host in inventory.hosts.hosts
    ]
    names.append({"name": site["api_name"], "aliases": [], **site["api_address"]})
    names += [
        _name(external["name"], [], external_peer(inventory, name))
        for name, external in site["externals"].items()
    ]
    return sorted(names, key=lambda entry: str(entry["name"]))


def _name(name: str, aliases: list[str], peer: Peer) -> dict[str, Any]:
    return {"name": name, "aliases": aliases, "ipv4": peer.ipv4, "ipv6": peer.ipv6}


def _host(
    inventory: Inventory,
    name: str,
    flows: tuple[Flow, ...],
    instances: list[dict[str, Any]],
    api_name: str,
) -> dict[str, Any]:
    host, peer = inventory.hosts.hosts[name], host_peer(inventory, name)
    fqdn = f"{name}.{inventory.concerns['site']['domain']}"
    end = fabric_host(inventory, name)
    part_of = [i["id"] for i in instances if name in i.get("nodes", {}).get("hosts", ())[1:]]
    return {
        "groups": list(host.groups),
        "fqdn": fqdn,
        "ipv4": peer.ipv4,
        "ipv6": peer.ipv6,
        "tls_names": [fqdn, name, *([api_name] if "gateway" in host.groups else [])],
        "instances": [instance["id"] for instance in instances if instance["host"] == name],
        "gpus": planned_gpus(inventory.capacity, name),
        "firewall": {
            family: [rule.as_dict() for rule in host_rules(name, flows, family)]
            for family in ("ipv4", "ipv6")
        },
        **({"followers": part_of} if part_of else {}),
        **({"fabric": end.as_dict()} if end is not None else {}),
    }


def _retention(inventory: Inventory) -> dict[str, Any]:
    """Return the section with the models of its content rules by their names."""
    names = model_names(inventory)
    retention = dict(inventory.concerns["retention"])
    if "content" in retention:
        retention["content"] = [
            {**rule, "models": list(dict.fromkeys(names[model] for model in rule["models"]))}
            if "models" in rule
            else rule
            for rule in retention["content"]
        ]
    return retention


def _guardrails(inventory: Inventory) -> dict[str, Any]:
    """Return the section without its limits, its classifiers by the names of their models."""
    names = model_names(inventory)
    guardrails = {
        key: value for key, value in inventory.concerns["guardrails"].items() if key != "limits"
    }
    if "classifiers" in guardrails:
        guardrails["classifiers"] = [
            _classifier(inventory, names, classifier) for classifier in guardrails["classifiers"]
        ]
    return guardrails


def _classifier(
    inventory: Inventory, names: dict[str, str], classifier: dict[str, Any]
) -> dict[str, Any]:
    """Return a classifier with its model's name, or with the address of its server outside."""
    if "external" not in classifier:
        return {**classifier, "model": names[classifier["model"]]}
    server = inventory.concerns["site"]["externals"][classifier["external"]]
    rest = {key: value for key, value in classifier.items() if key != "external"}
    return {**rest, "url": f"https://{server['name']}:{server['port']}"}


def _access(inventory: Inventory) -> list[dict[str, Any]]:
    """Return the rules with each alias replaced by the name of its model, each model once."""
    names = model_names(inventory)
    return [
        {
            **{key: rule[key] for key in _HOLDER if key in rule},
            "models": list(dict.fromkeys(names[model] for model in rule["models"])),
            "endpoints": rule["endpoints"],
            **{key: rule[key] for key in ("limits", "strict") if key in rule},
        }
        for rule in inventory.concerns["access"]
    ]


def _flow(flow: Flow) -> dict[str, Any]:
    def peers(ends: tuple[Peer, ...]) -> list[dict[str, str | None]]:
        return [{"name": peer.name, "ipv4": peer.ipv4, "ipv6": peer.ipv6} for peer in ends]

    return {
        "name": flow.name,
        "description": flow.description,
        "proto": flow.proto,
        "ports": flow.ports,
        "user": flow.user,
        "from": peers(flow.sources),
        "to": peers(flow.targets),
    }
