"""The authority keeps its key to itself and signs nothing that the plan does not grant."""

from __future__ import annotations

import datetime as dt
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tresor.pki import authority, ledger, request
from tresor.pki.errors import AuthorityError, PkiError, RequestRefusedError
from tresor.pki.names import identity
from tresor.pki.place import Place
from tresor.pki.request import Wanted

from .conftest import GRANTED

Make = Callable[..., Wanted]
QUARTER = dt.timedelta(days=90)


def csr(
    common_name: str = "gpu1.site.example",
    sans: tuple[x509.GeneralName, ...] = (x509.DNSName("gpu1"),),
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    )
    builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    signed = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def sign(ca: authority.Authority, pem: str) -> x509.Certificate:
    (signed,) = ca.sign("gpu1", [authority.Request("host", pem, GRANTED)], QUARTER)
    return x509.load_pem_x509_certificate(signed.certificate.encode())


def test_key_is_encrypted_and_private(ca: authority.Authority, place: Place) -> None:
    assert "ENCRYPTED" in place.key.read_text()
    for path in (place.key, place.passphrase_file):
        assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert stat.S_IMODE(place.directory.stat().st_mode) == 0o700


def test_supplied_passphrase_is_used(place: Place) -> None:
    place.directory.mkdir(mode=0o700)
    place.passphrase_file.write_text("a passphrase from the safe\n")
    place.passphrase_file.chmod(0o400)
    authority.create(place, "CA", "P-384", QUARTER)
    assert place.passphrase_file.read_text() == "a passphrase from the safe\n"
    assert authority.open_authority(place).fingerprint


def test_an_existing_authority_is_never_overwritten(ca: authority.Authority, place: Place) -> None:
    before = place.key.read_bytes()
    with pytest.raises(AuthorityError, match="already holds"):
        authority.create(place, "CA", "P-256", QUARTER)
    assert place.key.read_bytes() == before


@pytest.mark.parametrize("lost", ["key", "certificate", "passphrase_file"])
def test_a_missing_part_is_named(ca: authority.Authority, place: Place, lost: str) -> None:
    path: Path = getattr(place, lost)
    path.unlink()
    with pytest.raises(AuthorityError, match=path.name):
        authority.open_authority(place)


def test_wrong_passphrase_is_refused(ca: authority.Authority, place: Place) -> None:
    place.passphrase_file.unlink()
    place.passphrase_file.write_text("another passphrase, long enough")
    place.passphrase_file.chmod(0o400)
    with pytest.raises(AuthorityError, match="does not open"):
        authority.open_authority(place)


def test_world_readable_key_is_refused(ca: authority.Authority, place: Place) -> None:
    place.key.chmod(0o444)
    with pytest.raises(AuthorityError, match="chmod 0400"):
        authority.open_authority(place)


def test_certificate_has_the_granted_content_only(ca: authority.Authority) -> None:
    sans = (x509.DNSName("gpu1"), x509.DNSName("GPU1.site.example"))
    certificate = sign(ca, csr(sans=sans))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["gpu1", "gpu1.site.example"]
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usages) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert constraints.ca is False
    assert certificate.not_valid_after_utc - dt.datetime.now(dt.UTC) < QUARTER


@pytest.mark.parametrize(
    ("pem", "reason"),
    [
        (csr(sans=(x509.DNSName("gateway1.site.example"),)), "gateway1.site.example"),
        (csr(common_name="idp.company.example"), "idp.company.example"),
        (csr(sans=(x509.DNSName("*.site.example"),)), "no host name"),
        (csr(sans=(x509.RFC822Name("root@site.example"),)), "RFC822Name"),
        (csr(key=rsa.generate_private_key(65537, 2048)), "P-256 or P-384"),
        (csr(key=ec.generate_private_key(ec.SECP521R1())), "P-256 or P-384"),
        ("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "read"),
        ("x" * 20_000, "longer than"),
    ],
)
def test_request_beyond_the_plan_is_refused(
    ca: authority.Authority, place: Place, pem: str, reason: str
) -> None:
    with pytest.raises(RequestRefusedError, match=reason):
        sign(ca, pem)
    assert ledger.entries(place.book) == []


def test_one_bad_request_stops_the_hosts_other_ones(ca: authority.Authority, place: Place) -> None:
    requests = [
        authority.Request("good", csr(), GRANTED),
        authority.Request("bad", csr(common_name="other"), GRANTED),
    ]
    with pytest.raises(RequestRefusedError, match="'bad' of host 'gpu1'"):
        ca.sign("gpu1", requests, QUARTER)
    assert ledger.entries(place.book) == []


def test_every_certificate_is_in_the_book(ca: authority.Authority, place: Place) -> None:
    serials = {f"{sign(ca, csr()).serial_number:x}" for _ in range(3)}
    assert {entry.serial for entry in ledger.entries(place.book)} == serials
    assert {path.stem for path in place.issued.iterdir()} == serials


def test_certificate_never_outlives_the_authority(ca: authority.Authority) -> None:
    with pytest.raises(AuthorityError, match="Renew the authority"):
        ca.sign("gpu1", [authority.Request("host", csr(), GRANTED)], dt.timedelta(days=400))


def test_request_of_the_host_side_is_accepted(ca: authority.Authority, wanted: Make) -> None:
    assert sign(ca, request.request(wanted())).subject.rfc4514_string() == "CN=gpu1.site.example"


@pytest.mark.parametrize("usages", [[], ["server", "signing"]])
def test_unknown_usage_is_refused(usages: list[str]) -> None:
    with pytest.raises(PkiError, match="usages"):
        identity(["a"], [], usages)
