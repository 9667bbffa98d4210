"""Cross-checks of networks, addresses and names."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from .document import KeyPath
from .problems import NOTHING, Problem, one_of
from .sources import Sources, mapping, text, texts

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
FAMILIES: Final = ("ipv4", "ipv6")
WIDEST_PREFIX: Final = {"ipv4": 8, "ipv6": 16}
"""A network wider than this would open a flow to most of the world."""


def network(value: object) -> Network | None:
    """Return a network, or None for what is none."""
    try:
        return ipaddress.ip_network(value) if isinstance(value, str) else None
    except ValueError:
        return None


def address(value: object) -> Address | None:
    """Return an address, or None for what is none."""
    try:
        return ipaddress.ip_address(value) if isinstance(value, str) else None
    except ValueError:
        return None


def check(sources: Sources) -> Iterator[Problem]:
    """Yield what does not fit together among networks, addresses and names."""
    site = mapping(sources.value("site"))
    yield from _subnets(sources, mapping(site.get("subnets")))
    yield from _hosts(sources, mapping(mapping(site.get("subnets")).get("site")))
    if site:
        yield from _addresses_twice(sources, site)
        yield from _names(sources, site)
        yield from _references(sources, site)
        yield from _api_address(sources, site)


def _subnets(sources: Sources, subnets: Mapping[str, Any]) -> Iterator[Problem]:
    for family in FAMILIES:
        known: list[tuple[str, Network]] = []
        for name, subnet in subnets.items():
            path: KeyPath = ("subnets", name, family)
            found = network(mapping(subnet).get(family))
            if found is None:
                continue
            if found.prefixlen < WIDEST_PREFIX[family]:
                fix = f"write a network of /{WIDEST_PREFIX[family]} or longer"
                yield sources.problem("site", path, "is too wide", fix)
            for other, before in known:
                if found.version == before.version and found.overlaps(before):
                    wrong = f"overlaps {other} ({before})"
                    fix = "write networks that share no address"
                    yield sources.problem("site", path, wrong, fix)
            known.append((name, found))


def _hosts(sources: Sources, subnet: Mapping[str, Any]) -> Iterator[Problem]:
    document = sources.hosts_document
    if document is None:
        return
    for host in sources.hosts.hosts.values():
        for family in FAMILIES:
            key = f"tresor_{family}"
            path: KeyPath = (*host.path, key)
            value, home = host.variables.get(key), network(subnet.get(family))
            found = address(value)
            example = f"an address of the site's network {home}" if home else "an address"
            if value is None:
                if home is not None:
                    fix = f"write {key}: {example}"
                    yield document.problem(path, "missing address", fix, seen=NOTHING)
                continue
            if found is None or f"ipv{found.version}" != family:
                yield document.problem(path, f"is no {family} address", f"write {example}")
            elif home is None:
                if family == "ipv6" and subnet:
                    fix = "remove it, or write tresor_site.subnets.site.ipv6"
                    yield document.problem(path, "the site has no ipv6 network", fix)
            elif found not in home:
                wrong = f"lies outside the site's network {home}"
                yield document.problem(path, wrong, f"write {example}")
            elif found in (home.network_address, home.broadcast_address):
                fix = f"write another {example.removeprefix('an ')}"
                yield document.problem(path, "is the network's own address", fix)
        yield from _ansible_host(sources, host.name)


def _ansible_host(sources: Sources, name: str) -> Iterator[Problem]:
    host, document = sources.hosts.hosts[name], sources.hosts_document
    domain = text(mapping(sources.value("site")).get("domain"))
    target = host.variables.get("ansible_host")
    own = [host.variables.get(f"tresor_{family}") for family in FAMILIES]
    allowed = [value for value in (*own, f"{name}.{domain}") if isinstance(value, str)]
    if document and target is not None and not host.is_local and target not in allowed:
        wrong = "is not an address of this host, so the firewall would not open to Ansible"
        path: KeyPath = (*host.path, "ansible_host")
        yield document.problem(path, wrong, one_of(allowed))


def _addresses_twice(sources: Sources, site: Mapping[str, Any]) -> Iterator[Problem]:
    owners: dict[Address, str] = {}
    document = sources.hosts_document
    for host in sources.hosts.hosts.values():
        for family in FAMILIES:
            found = address(host.variables.get(f"tresor_{family}"))
            if found is None or document is None:
                continue
            if found in owners:
                wrong = f"is also the address of {owners[found]}"
                path: KeyPath = (*host.path, f"tresor_{family}")
                yield document.problem(path, wrong, "write an address that is used once")
            owners.setdefault(found, host.name)
    for name, external in mapping(site.get("externals")).items():
        for family in FAMILIES:
            found = address(mapping(external).get(family))
            if found is not None and found in owners:
                wrong = f"is the address of the managed host {owners[found]}"
                fix = "write the address of a server outside the site"
                yield sources.problem("site", ("externals", name, family), wrong, fix)


def _names(sources: Sources, site: Mapping[str, Any]) -> Iterator[Problem]:
    domain = text(site.get("domain"))
    owners = {f"{name}.{domain}": f"the host {name}" for name in sources.hosts.hosts}
    api_name = text(site.get("api_name"))
    if api_name in owners:
        fix = f"write a name of its own, such as llm.{domain}"
        yield sources.problem("site", ("api_name",), f"is the name of {owners[api_name]}", fix)
    owners.setdefault(api_name, "the API")
    for name, external in mapping(site.get("externals")).items():
        full = text(mapping(external).get("name"))
        if full in owners:
            wrong = f"is also the name of {owners[full]}"
            yield sources.problem("site", ("externals", name, "name"), wrong, "write another name")
        owners.setdefault(full, f"the external {name}")


def _references(sources: Sources, site: Mapping[str, Any]) -> Iterator[Problem]:
    externals = mapping(site.get("externals"))
    for index, name in texts(mapping(site.get("time")).get("servers")):
        if name not in externals:
            fix = one_of(externals, name)
            yield sources.problem("site", ("time", "servers", index), "unknown external", fix)
    yield from _collector(sources, site)
    known = [text(mapping(external).get("name")) for external in externals.values()]
    identity = mapping(site.get("identity"))
    urls: list[tuple[KeyPath, Any]] = [
        (("identity", "issuer"), identity.get("issuer")),
        (("identity", "jwks_uri"), identity.get("jwks_uri")),
        (("verify", "token_uri"), mapping(site.get("verify")).get("token_uri")),
    ]
    for path, value in urls:
        try:
            host = urlsplit(text(value)).hostname
        except ValueError:
            continue
        if host and host not in known:
            wrong = "its host is no external, so no address and no flow can belong to it"
            fix = f"use the name of an external ({', '.join(sorted(known))}) or add one"
            yield sources.problem("site", path, wrong, fix)
    refresh, age = identity.get("jwks_refresh_seconds"), identity.get("jwks_max_age_seconds")
    if isinstance(refresh, int) and isinstance(age, int) and age < refresh:
        wrong = f"is shorter than jwks_refresh_seconds ({refresh})"
        fix = f"write {refresh} or more"
        yield sources.problem("site", ("identity", "jwks_max_age_seconds"), wrong, fix)


def _api_address(sources: Sources, site: Mapping[str, Any]) -> Iterator[Problem]:
    shared = mapping(site.get("api_address"))
    gateways = sources.hosts.groups.get("gateway", ())
    if not shared and len(gateways) > 1:
        wrong = f"missing key: {len(gateways)} gateways need one shared address"
        fix = "write api_address: with ipv4 (and ipv6) of the virtual address"
        yield sources.problem("site", ("api_address",), wrong, fix, seen=NOTHING)
    for family in FAMILIES:
        home = network(mapping(mapping(site.get("subnets")).get("site")).get(family))
        found = address(shared.get(family))
        if found is not None and home is not None and found not in home:
            wrong = f"lies outside the site's network {home}"
            fix = "write an address of the site's network"
            yield sources.problem("site", ("api_address", family), wrong, fix)


def _collector(sources: Sources, site: Mapping[str, Any]) -> Iterator[Problem]:
    """Check that the log collector is an external with a port that a flow of its user reaches."""
    externals = mapping(site.get("externals"))
    path = ("siem", "external")
    name = text(mapping(site.get("siem")).get("external"))
    if name not in externals:
        if name:
            fix = one_of(externals, name)
            yield sources.problem("site", path, "unknown external", fix)
        return
    port = mapping(externals[name]).get("port")
    if not isinstance(port, int):
        wrong, fix = "has no port, so nothing can be sent there", "write its port, such as 2514"
        yield sources.problem("site", ("externals", name), wrong, fix)
        return
    flows = sources.value("flows")
    for flow in map(mapping, flows if isinstance(flows, list) else []):
        targets = [value for _, value in texts(flow.get("to"))]
        first, _, last = text(flow.get("ports")).partition(":")
        if f"external:{name}" not in targets or flow.get("proto") != "tcp":
            continue
        if flow.get("user") != "tresor-siem" or not (first + last).isdigit():
            continue
        if int(first) <= port <= int(last or first):
            return
    wrong = f"no flow of the user tresor-siem leads to external:{name}, tcp {port}"
    fix = "add it to flows.yml: from [site], user tresor-siem"
    yield sources.problem("site", path, wrong, fix)
