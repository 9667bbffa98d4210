"""Addresses in the configuration: loopback listeners, and whether a host is this machine."""

from __future__ import annotations

import ipaddress


def split_address(value: str) -> tuple[str, int]:
    """``127.0.0.1:8080`` or ``[::1]:8080`` as host and port.

    Raises:
        ValueError: it is neither, or the address is not a loopback one.
    """
    host, _, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not ipaddress.ip_address(host).is_loopback:
        raise ValueError(f"{host} is not a loopback address")
    if not (port.isascii() and port.isdigit()):
        raise ValueError(f"{port!r} is not a port")
    number = int(port)
    if not 0 <= number < 65536:
        raise ValueError(f"{number} is not a port")
    return host, number


def is_loopback_host(host: str) -> bool:
    """Whether a URL's host is this machine for certain."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
