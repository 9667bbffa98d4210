"""Names and addresses of certificates in one comparable form."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from .errors import PkiError

USAGES = ("server", "client")

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")


@dataclass(frozen=True)
class Identity:
    """What a certificate vouches for: host names, addresses and how the key may be used."""

    names: frozenset[str]
    addresses: frozenset[str]
    usages: frozenset[str]

    def describe(self) -> str:
        """Return the identity for a message."""
        return ", ".join([*sorted(self.names), *sorted(self.addresses), *sorted(self.usages)])


def identity(names: Iterable[str], addresses: Iterable[str], usages: Iterable[str]) -> Identity:
    """Return the normalised identity.

    Raises:
        PkiError: a name is no host name, an address is none, or a usage is unknown.
    """
    wanted = frozenset(usages)
    if not wanted or wanted - set(USAGES):
        raise PkiError(f"usages {sorted(wanted)}: write one or more of {list(USAGES)}")
    return Identity(
        names=frozenset(host_name(name) for name in names),
        addresses=frozenset(address(value) for value in addresses),
        usages=wanted,
    )


def host_name(value: str) -> str:
    """Return ``value`` in lower case. Wildcards are refused: no host of a site needs one.

    Raises:
        PkiError: not a host name.
    """
    lowered = value.lower()
    if len(lowered) > 253 or not _NAME.fullmatch(lowered):
        raise PkiError(f"'{value}' is no host name for a certificate (no wildcards, no addresses)")
    return lowered


def address(value: str) -> str:
    """Return the IPv4 or IPv6 address in its canonical text form.

    Raises:
        PkiError: not an address.
    """
    try:
        return str(ipaddress.ip_address(value))
    except ValueError as error:
        raise PkiError(f"'{value}' is no IP address for a certificate") from error
