# SPDX-License-Identifier: Apache-2.0
"""Ansible filter: what is wrong with the sources of a host's metrics endpoint."""

from __future__ import annotations

DOCUMENTATION = r"""
---
name: tresor_metric_problems
short_description: Mistakes in the sources of a metrics endpoint
description:
  - Returns one sentence for each mistake. A source is good if its path is used once, and it is a
    Unix socket, an address on loopback, or TLS on this host at a port that the flow matrix opens
    to this host. The endpoint's own port must be opened by a flow too.
positional: _input, host, names, flows, port
options:
  _input:
    description: The sources, each with C(path), and C(url) or C(socket).
    type: list
    elements: dict
    required: true
  host:
    description: Inventory name of the host.
    type: str
    required: true
  names:
    description: Names and addresses of the host that a source may have beside loopback.
    type: list
    elements: str
    required: true
  flows:
    description: Flows of the plan, each with C(name), C(proto), C(ports) and C(to).
    type: list
    elements: dict
    required: true
  port:
    description: The endpoint's own port.
    type: int
    required: true
author: Tresor
"""

EXAMPLES = r"""
- name: Refuse sources that would open more than metrics
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems | join(' ') }}"
  vars:
    problems: >-
      {{ [{'path': '/node', 'url': 'http://127.0.0.1:9101/metrics'}]
      | tresor_metric_problems('gpu1', ['gpu1.site.example'], tresor_plan.flows, 9100) }}
"""

RETURN = r"""
_value:
  description: The mistakes; empty if there is none.
  type: list
  elements: str
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

_PATH = re.compile(r"/[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")
_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+/[A-Za-z0-9._/-]*")
_SOCKET = re.compile(r"/[A-Za-z0-9._/-]+")


def tresor_metric_problems(
    sources: Iterable[Mapping[str, Any]],
    host: str,
    names: Iterable[str],
    flows: Iterable[Mapping[str, Any]],
    port: int,
) -> list[str]:
    """Return one sentence for each mistake."""
    own = {name.lower() for name in names}
    opened = [str(flow["ports"]) for flow in flows if _leads_to(flow, host)]
    problems: list[str] = []
    if not any(_covers(ports, int(port)) for ports in opened):
        problems.append(
            f"no flow opens tcp {port} to {host}, so nothing could fetch its metrics: "
            "add a flow 'metrics' to flows.yml."
        )
    seen: dict[str, Mapping[str, Any]] = {}
    for source in sources:
        path = str(source.get("path", ""))
        if path in seen:
            problems.append(
                f"path {path} has two sources, {_place(seen[path])} and {_place(source)}: "
                "give one of them a path of its own."
            )
        seen.setdefault(path, source)
        problems.extend(_problems(path, source, host, own, opened))
    return problems


def _problems(
    path: str, source: Mapping[str, Any], host: str, own: set[str], opened: list[str]
) -> Iterator[str]:
    if not _PATH.fullmatch(path):
        yield f"path '{path}' of {_place(source)}: write one such as /node or /engine/chat-gpu1."
    unknown = sorted(set(source) - {"path", "url", "socket"})
    if unknown or ("url" in source) == ("socket" in source):
        yield f"source of {path} has the keys {sorted(source)}: write path, and url or socket."
    elif "socket" in source:
        if not _SOCKET.fullmatch(str(source["socket"])):
            yield f"socket '{source['socket']}' of {path}: write an absolute path."
    else:
        yield from _url_problems(path, str(source["url"]), host, own, opened)


def _url_problems(
    path: str, url: str, host: str, own: set[str], opened: list[str]
) -> Iterator[str]:
    parts = urlsplit(url) if _URL.fullmatch(url) else None
    try:
        port = parts.port if parts else None
    except ValueError:
        port = None
    if parts is None or port is None or not parts.hostname:
        yield f"url '{url}' of {path}: write http://ADDRESS:PORT/PATH or https://ADDRESS:PORT/PATH."
        return
    if _loopback(parts.hostname):
        return
    if parts.hostname not in own:
        yield (
            f"url '{url}' of {path} is not on this host: {host} shows its own metrics only, "
            f"on loopback or at {', '.join(sorted(own))}."
        )
    elif parts.scheme != "https":
        yield f"url '{url}' of {path} leaves loopback without TLS: write https, or 127.0.0.1."
    elif not any(_covers(ports, port) for ports in opened):
        yield (
            f"url '{url}' of {path}: no flow of the matrix leads to tcp {port} of {host}. Let the "
            "exporter listen on loopback, or name its port in flows.yml."
        )


def _leads_to(flow: Mapping[str, Any], host: str) -> bool:
    return flow["proto"] == "tcp" and any(end["name"] == host for end in flow["to"])


def _covers(ports: str, port: int) -> bool:
    first, _, last = ports.partition(":")
    return int(first) <= port <= int(last or first)


def _loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _place(source: Mapping[str, Any]) -> str:
    return str(source.get("url") or source.get("socket") or "nothing")


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"tresor_metric_problems": tresor_metric_problems}
