"""A site CA and host certificates."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

NOW = datetime.datetime(2026, 11, 23, 12, 0, tzinfo=datetime.UTC)
PEM = serialization.Encoding.PEM


class Ca:
    """Issues certificates that end a given number of days after NOW."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name.from_rfc4514_string("CN=Site CA")
        own = self.build(self.name, self.key, 3650).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.pem = own.sign(self.key, hashes.SHA256()).public_bytes(PEM)

    def build(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - datetime.timedelta(days=1))
            .not_valid_after(NOW + datetime.timedelta(days=days))
        )

    def issue(self, days: int = 90) -> bytes:
        key = ec.generate_private_key(ec.SECP256R1())
        names = [
            x509.DNSName("gpu1.site.example"),
            x509.DNSName("gpu1"),
            x509.IPAddress(ipaddress.ip_address("198.51.100.31")),
            x509.IPAddress(ipaddress.ip_address("2001:db8:51::31")),
        ]
        subject = x509.Name.from_rfc4514_string("CN=gpu1.site.example")
        builder = self.build(subject, key, days)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(PEM)


@pytest.fixture(scope="session")
def ca() -> Ca:
    return Ca()


@pytest.fixture(scope="session")
def new_ca() -> Callable[[], Ca]:
    return Ca
