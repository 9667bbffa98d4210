"""A client certificate as NGINX hands it over: escaped PEM in, thumbprint and names out.

NGINX has verified it against the site's client authority and sends nothing otherwise; here it is
only read. Names look like ``DNS:host``, ``URI:spiffe://...`` or the subject (RFC 4514).
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

MAX_ESCAPED_BYTES: Final = 24 << 10


class CertificateError(ValueError):
    """What came is no certificate."""


@dataclass(frozen=True)
class ClientCertificate:
    """``thumbprint`` is RFC 8705's ``x5t#S256``; ``begins`` and ``ends`` are Unix seconds."""

    thumbprint: str
    names: frozenset[str]
    begins: float
    ends: float


@lru_cache(maxsize=1024)
def read(escaped: bytes) -> ClientCertificate:
    """Read NGINX's ``$ssl_client_escaped_cert``.

    Raises:
        CertificateError: it is too large or no certificate.
    """
    if len(escaped) > MAX_ESCAPED_BYTES:
        raise CertificateError(f"the certificate is larger than {MAX_ESCAPED_BYTES} bytes")
    try:
        certificate = x509.load_pem_x509_certificate(unquote_to_bytes(escaped))
        names = {certificate.subject.rfc4514_string(), *_alternative_names(certificate)}
    except ValueError as error:
        raise CertificateError("the certificate cannot be read") from error
    digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
    return ClientCertificate(
        thumbprint=base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        names=frozenset(names - {""}),
        begins=certificate.not_valid_before_utc.timestamp(),
        ends=certificate.not_valid_after_utc.timestamp(),
    )


def _alternative_names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    names = [f"DNS:{name.lower()}" for name in found.get_values_for_type(x509.DNSName)]
    uris = found.get_values_for_type(x509.UniformResourceIdentifier)
    return names + [f"URI:{uri}" for uri in uris]
