"""Judge the certificates of the site's hosts against the site's CA. Needs ``cryptography``."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Mapping, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from .check import Check, not_run

_WHAT = "the host's certificate is the site CA's, for this host, and not about to end"


def judge_certificate(
    host: str,
    pem: bytes | None,
    ca_pem: bytes,
    *,
    names: Sequence[str],
    addresses: Sequence[str],
    renew_days: int,
    now: datetime.datetime,
) -> Check:
    """Return the check of one host's certificate.

    Args:
        pem: the certificate as read on the host, None if there was none.
        names: DNS names it must hold.
        addresses: IP addresses it must hold.
        renew_days: within so many days of its end the host should have renewed it.
        now: with time zone.
    """
    check_id = f"certificate.{host}"
    if pem is None:
        return not_run(check_id, _WHAT, "the certificate was not read", source=host)
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        authorities = x509.load_pem_x509_certificates(ca_pem)
    except ValueError as error:
        return not_run(check_id, _WHAT, f"unreadable certificate: {error}", source=host)
    problems = _problems(certificate, names, addresses, renew_days, now)
    if not any(_issued_by(certificate, authority) for authority in authorities):
        problems.append(f"not issued by the site CA but by {certificate.issuer.rfc4514_string()}")
    days = (certificate.not_valid_after_utc - now).days
    seen = f"serial {certificate.serial_number:x}, ends in {days} days"
    return Check(
        id=check_id,
        what=_WHAT,
        source=host,
        target=certificate.subject.rfc4514_string() or host,
        expected=f"issued by the site CA, all names of the plan, more than {renew_days} days left",
        observed="; ".join([seen, *problems]),
        ok=not problems,
    )


def _problems(
    certificate: x509.Certificate,
    names: Sequence[str],
    addresses: Sequence[str],
    renew_days: int,
    now: datetime.datetime,
) -> list[str]:
    problems: list[str] = []
    if certificate.not_valid_before_utc > now:
        problems.append(f"not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M}")
    if certificate.not_valid_after_utc - now <= datetime.timedelta(days=renew_days):
        problems.append("should have been renewed: converge the site")
    held_names, held_addresses = _subject_names(certificate)
    missing = [name for name in names if name not in held_names]
    missing += [
        address for address in addresses if ipaddress.ip_address(address) not in held_addresses
    ]
    if missing:
        problems.append(f"lacks the names {', '.join(missing)}")
    return problems


def _issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _subject_names(
    certificate: x509.Certificate,
) -> tuple[set[str], set[ipaddress.IPv4Address | ipaddress.IPv6Address]]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return set(), set()
    addresses: set[ipaddress.IPv4Address | ipaddress.IPv6Address] = set()
    for value in extension.value.get_values_for_type(x509.IPAddress):
        if isinstance(value, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
            addresses.add(value)
    return set(extension.value.get_values_for_type(x509.DNSName)), addresses


def planned_addresses(host: Mapping[str, object]) -> list[str]:
    """Return the addresses of a host of the plan that its certificate must hold."""
    return [str(host[family]) for family in ("ipv4", "ipv6") if host.get(family)]
