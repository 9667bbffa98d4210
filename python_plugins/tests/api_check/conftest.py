"""A small plan, an issuer's key, and certificates for servers on loopback."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

ISSUER = "https://idp.company.example"
AUDIENCE = "urn:tresor:gateway"


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """Signs tokens with RS256."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def token(self, **claims: Any) -> str:
        body = {"iss": ISSUER, "aud": AUDIENCE, "exp": 4102444800, "sub": "verify", **claims}
        head = encode(json.dumps({"alg": "RS256", "kid": "k1", "typ": "at+jwt"}).encode())
        signed = f"{head}.{encode(json.dumps(body).encode())}"
        signature = self.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{encode(signature)}"

    def jwk(self) -> dict[str, str]:
        numbers = self.key.public_key().public_numbers()
        size = (numbers.n.bit_length() + 7) // 8
        return {
            "kty": "RSA",
            "kid": "k1",
            "n": encode(numbers.n.to_bytes(size, "big")),
            "e": encode(numbers.e.to_bytes(3, "big")),
        }


@pytest.fixture(scope="session")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def plan() -> dict[str, Any]:
    return {
        "site": {
            "name": "lab",
            "api_name": "llm.site.example",
            "identity": {
                "issuer": ISSUER,
                "audience": AUDIENCE,
                "groups_claim": "groups",
                "clock_skew_seconds": 30,
            },
            "verify": {
                "token_uri": f"{ISSUER}/token",
                "clients": {
                    key: {"id": f"verify-{key}", "secret_file": f"/nowhere/{key}"}
                    for key in ("allowed", "no_access", "expired", "wrong_audience")
                },
            },
        },
        "names": [
            {"name": "llm.site.example", "ipv4": "198.51.100.20", "ipv6": "2001:db8:51::20"},
            {"name": "gateway1.site.example", "aliases": ["gateway1"], "ipv4": "198.51.100.20"},
            {"name": "idp.company.example", "ipv4": "198.51.100.130", "ipv6": None},
        ],
        "models": [
            {
                "name": "smol",
                "aliases": ["small"],
                "task": "chat",
                "instances": ["chat-gpu1", "chat-gpu2"],
            },
            {"name": "mini", "aliases": [], "task": "embedding", "instances": ["embed-gpu1"]},
        ],
        "access": [
            {
                "group": "llm-users",
                "models": ["smol"],
                "endpoints": ["models", "chat.completions", "completions"],
            },
            {"group": "llm-embedding", "models": ["mini"], "endpoints": ["models", "embeddings"]},
        ],
    }


class Authority:
    """A CA that writes certificates for 127.0.0.1 as PEM files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name.from_rfc4514_string("CN=Test CA")
        self.ca_file = directory / "ca.crt"
        certificate = self._builder(self.name, self.key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self._write(self.ca_file, certificate.sign(self.key, hashes.SHA256()))

    def issue(self, name: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(x509.Name.from_rfc4514_string(f"CN={name}"), key)
        names = [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate, key_file = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        self._write(certificate, builder.sign(self.key, hashes.SHA256()))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, key_file

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=2))
        )

    @staticmethod
    def _write(path: Path, certificate: x509.Certificate) -> None:
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))
