"""What the authority signs: the decision, free of files and keys of its own.

A signing request comes from a host and proves only that the host has the key. Everything that the
certificate will vouch for is compared with what the plan grants; the request can ask for less,
never for more, and nothing is copied from it but the public key.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .errors import PkiError, RequestRefusedError
from .names import Identity, address, host_name

_CURVES = (ec.SECP256R1, ec.SECP384R1)
_MAX_REQUEST_BYTES = 16_384


@dataclass(frozen=True)
class Approved:
    """What may enter a certificate."""

    key: ec.EllipticCurvePublicKey
    subject: x509.Name
    identity: Identity


def approve(pem: str, granted: Identity) -> Approved:
    """Return the content of a request that asks for nothing beyond ``granted``.

    Raises:
        RequestRefusedError: damaged, oversized, a weak key, or it asks for what is not granted.
    """
    request = _parse(pem)
    key = request.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, _CURVES):
        raise RequestRefusedError("the key is not on curve P-256 or P-384")
    names, addresses = _requested(request)
    common_name = _common_name(request)
    beyond = sorted((names | {common_name}) - granted.names) + sorted(addresses - granted.addresses)
    if beyond:
        raise RequestRefusedError(
            f"it asks for {', '.join(beyond)}; the plan grants {granted.describe()}"
        )
    if not names and not addresses:
        raise RequestRefusedError("it names neither a host nor an address")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    return Approved(key, subject, Identity(names, addresses, granted.usages))


def _parse(pem: str) -> x509.CertificateSigningRequest:
    if len(pem) > _MAX_REQUEST_BYTES:
        raise RequestRefusedError(f"longer than {_MAX_REQUEST_BYTES} bytes")
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        valid = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise RequestRefusedError(f"it cannot be read: {error}") from error
    if not valid:
        raise RequestRefusedError("its signature does not fit its key")
    return request


def _requested(
    request: x509.CertificateSigningRequest,
) -> tuple[frozenset[str], frozenset[str]]:
    try:
        extension = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return frozenset(), frozenset()
    except ValueError as error:
        raise RequestRefusedError(f"its extensions cannot be read: {error}") from error
    names: set[str] = set()
    addresses: set[str] = set()
    for entry in extension.value:
        if isinstance(entry, x509.DNSName):
            names.add(_checked_name(entry.value))
        elif isinstance(entry, x509.IPAddress) and isinstance(
            entry.value, ipaddress.IPv4Address | ipaddress.IPv6Address
        ):
            addresses.add(address(str(entry.value)))
        else:
            raise RequestRefusedError(f"it asks for a {type(entry).__name__}")
    return frozenset(names), frozenset(addresses)


def _common_name(request: x509.CertificateSigningRequest) -> str:
    attributes = list(request.subject)
    if len(attributes) != 1 or attributes[0].oid != NameOID.COMMON_NAME:
        raise RequestRefusedError("its subject must be one common name and nothing else")
    return _checked_name(str(attributes[0].value))


def _checked_name(value: str) -> str:
    try:
        return host_name(value)
    except PkiError as error:
        raise RequestRefusedError(str(error)) from error
