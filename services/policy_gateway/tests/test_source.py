"""Keys are fetched from a provider whose certificate is good, and from no other."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tresor_gateway.errors import KeysError
from tresor_gateway.identity.source import UrlSource

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


class Provider:
    """A small PKI with one server certificate, and the server that shows it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Company CA")])
        self.ca = self._certificate(self.name, self.key.public_key(), ca=True)
        leaf_key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "idp")])
        self.leaf = self._certificate(subject, leaf_key.public_key(), ca=False)
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(self.ca.public_bytes(serialization.Encoding.PEM))
        pair = folder / "pair.pem"
        pair.write_bytes(
            self.leaf.public_bytes(serialization.Encoding.PEM)
            + leaf_key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair)
        self.server = HTTPServer(("127.0.0.1", 0), _Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)

    def _certificate(
        self, subject: x509.Name, public: ec.EllipticCurvePublicKey, *, ca: bool
    ) -> x509.Certificate:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(identifier, critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def crl(self, *, revoked: bool, end: dt.datetime = NOW + DAY) -> Path:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(NOW - 2 * DAY)
            .next_update(end)
        )
        if revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(self.leaf.serial_number)
                .revocation_date(NOW - DAY)
                .build()
            )
        path = self.folder / "crl.pem"
        signed = builder.sign(self.key, hashes.SHA256())
        path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        return path

    def source(self, crl_file: Path | None = None) -> UrlSource:
        url = f"https://127.0.0.1:{self.server.server_port}/jwks"
        return UrlSource(url, self.ca_file, 5.0, crl_file=crl_file)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"keys":[]}')

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    made = Provider(tmp_path)
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def test_keys_come_with_and_without_a_list(provider: Provider) -> None:
    assert provider.source().fetch() == b'{"keys":[]}'
    assert provider.source(provider.crl(revoked=False)).fetch() == b'{"keys":[]}'


def test_revoked_provider_is_refused_as_soon_as_the_list_is_there(provider: Provider) -> None:
    source = provider.source(provider.crl(revoked=False))
    assert source.fetch()
    provider.crl(revoked=True)
    with pytest.raises(KeysError, match="revoked"):
        source.fetch()


def test_ended_list_fails_closed(provider: Provider) -> None:
    source = provider.source(provider.crl(revoked=False, end=NOW - DAY))
    with pytest.raises(KeysError, match="CRL has expired"):
        source.fetch()


def test_missing_damaged_and_foreign_lists_fail_closed(provider: Provider, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.pem"
    damaged.write_text("nonsense")
    (tmp_path / "other").mkdir()
    other = Provider(tmp_path / "other")
    foreign = other.crl(revoked=False)
    other.server.server_close()
    for path in (tmp_path / "missing.pem", damaged, foreign):
        with pytest.raises(KeysError):
            provider.source(path).fetch()
