"""The string formats our JSON Schemas use beyond the standard ones."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from jsonschema import FormatChecker

FORMATS = FormatChecker(formats=())
"""Only our own formats: the standard ones depend on optional packages and would pass silently."""


@FORMATS.checks("tresor-ipv4", raises=ValueError)
def _ipv4(value: object) -> bool:
    return not isinstance(value, str) or bool(ipaddress.IPv4Address(value))


@FORMATS.checks("tresor-ipv6", raises=ValueError)
def _ipv6(value: object) -> bool:
    return not isinstance(value, str) or ipaddress.IPv6Address(value).scope_id is None


@FORMATS.checks("tresor-ipv4-network", raises=ValueError)
def _ipv4_network(value: object) -> bool:
    return not isinstance(value, str) or ("/" in value and bool(ipaddress.IPv4Network(value)))


@FORMATS.checks("tresor-ipv6-network", raises=ValueError)
def _ipv6_network(value: object) -> bool:
    return not isinstance(value, str) or ("/" in value and bool(ipaddress.IPv6Network(value)))


@FORMATS.checks("tresor-https", raises=ValueError)
def _https(value: object) -> bool:
    if not isinstance(value, str):
        return True
    parts = urlsplit(value)
    bare = parts.username is None and not parts.query and not parts.fragment
    _ = parts.port  # raises ValueError for a port that is none
    return parts.scheme == "https" and bool(parts.hostname) and bare
