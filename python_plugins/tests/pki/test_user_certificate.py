"""Only a certificate that fits is ever shown to users, and a wrong one changes nothing."""

from __future__ import annotations

import datetime as dt
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from python_plugins.tests.module_call import call
from tresor.pki import openssl, user_certificate
from tresor.pki.errors import UserCertificateError
from tresor.pki.user_certificate import Place

NAME = "llm.site.example"
NOW = dt.datetime.now(dt.UTC)
WEEK = dt.timedelta(days=7)


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


@dataclass
class Company:
    """A root and an issuing authority below it."""

    root: x509.Certificate
    issuing: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def ca(self) -> str:
        return pem(self.root)

    def sign(self, csr: str, **more: Any) -> str:
        return pem(self.leaf(csr, **more)) + pem(self.issuing)

    def leaf(self, csr: str, **more: Any) -> x509.Certificate:
        asked = x509.load_pem_x509_csr(csr.encode())
        builder = (
            x509.CertificateBuilder()
            .subject_name(asked.subject)
            .issuer_name(self.issuing.subject)
            .public_key(more.get("public_key", asked.public_key()))
            .serial_number(x509.random_serial_number())
            .not_valid_before(more.get("begin", NOW - dt.timedelta(hours=1)))
            .not_valid_after(more.get("end", NOW + dt.timedelta(days=90)))
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName(more.get("name", NAME))]), critical=False
            )
            .add_extension(
                x509.BasicConstraints(ca=more.get("ca", False), path_length=None), critical=True
            )
            .add_extension(
                x509.ExtendedKeyUsage([more.get("usage", ExtendedKeyUsageOID.SERVER_AUTH)]),
                critical=False,
            )
            .add_extension(key_usage(more.get("digital_signature", True)), critical=True)
        )
        return builder.sign(self.key, hashes.SHA256())


def key_usage(digital_signature: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=not digital_signature,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def make_company() -> Company:
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))

    def authority(name: str, of: str, public: Any, signer: Any) -> x509.Certificate:
        def subject(value: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, value)])

        return (
            x509.CertificateBuilder()
            .subject_name(subject(name))
            .issuer_name(subject(of))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - dt.timedelta(days=1))
            .not_valid_after(NOW + dt.timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(signer, hashes.SHA256())
        )

    return Company(
        authority("Root", "Root", root_key.public_key(), root_key),
        authority("Issuing", "Root", key.public_key(), root_key),
        key,
    )


@pytest.fixture(scope="module")
def company() -> Company:
    return make_company()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "user_certificate")


@pytest.fixture
def csr(place: Place) -> str:
    return user_certificate.request(place, [NAME], anew=False)[0]


Install = Callable[[str], user_certificate.Judged]


@pytest.fixture
def install(place: Place, company: Company) -> Install:
    def run(chain: str) -> user_certificate.Judged:
        judged = user_certificate.judge(
            place, chain, company.ca, NAME, now=dt.datetime.now(dt.UTC), min_validity=WEEK
        )
        user_certificate.install(place, judged)
        return judged

    return run


def test_request_waits_and_its_key_stays(place: Place, csr: str) -> None:
    assert openssl.request_names(csr) == {NAME}
    assert stat.S_IMODE(place.pending_key.stat().st_mode) == 0o400
    assert user_certificate.request(place, [NAME], anew=False) == (csr, False)
    key = place.pending_key.read_text()
    other, made = user_certificate.request(place, [NAME], anew=True)
    assert made and other != csr and place.pending_key.read_text() != key
    assert user_certificate.request(place, [NAME, "x.site.example"], anew=False)[1]


def test_good_chain_is_swapped_in_and_the_former_one_kept(
    place: Place, csr: str, company: Company, install: Install
) -> None:
    first = company.sign(csr)
    install(first)
    assert (place.current / "tls.crt").read_text() == first
    assert stat.S_IMODE((place.current / "tls.key").stat().st_mode) == 0o400
    assert not place.pending_key.exists()
    second = company.sign(user_certificate.request(place, [NAME], anew=False)[0])
    install(second)
    assert (place.current / "tls.crt").read_text() == second
    assert (place.previous / "tls.crt").read_text() == first
    user_certificate.roll_back(place)
    assert (place.current / "tls.crt").read_text() == first
    assert (place.previous / "tls.crt").read_text() == second
    public = openssl.public_key_of(place.current / "tls.key")
    assert public == openssl.describe(openssl.certificates(first)[0]).public_key


def test_only_two_pairs_are_kept(place: Place, company: Company, install: Install) -> None:
    for _ in range(4):
        install(company.sign(user_certificate.request(place, [NAME], anew=False)[0]))
    assert len([p for p in place.folder.iterdir() if p.is_dir() and not p.is_symlink()]) == 2


def test_company_may_sign_the_same_key_again(
    place: Place, csr: str, company: Company, install: Install
) -> None:
    install(company.sign(csr))
    again = company.sign(csr)
    install(again)
    assert (place.current / "tls.crt").read_text() == again


OTHER_KEY = ec.generate_private_key(ec.SECP256R1()).public_key()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"public_key": OTHER_KEY}, "another key"),
        ({"name": "llm.other.example"}, f"not for the name {NAME}"),
        ({"end": NOW - dt.timedelta(minutes=5)}, "it ended on"),
        ({"end": NOW + dt.timedelta(days=2)}, "within 7 days"),
        ({"begin": NOW + dt.timedelta(days=1)}, "not valid before"),
        ({"usage": ExtendedKeyUsageOID.CLIENT_AUTH}, "serverAuth"),
        ({"digital_signature": False}, "digitalSignature"),
        ({"ca": True}, "an authority's"),
    ],
)
def test_unfit_certificate_is_refused_and_nothing_changes(
    place: Place, company: Company, install: Install, more: Any, reason: str
) -> None:
    csr = user_certificate.request(place, [NAME], anew=False)[0]
    with pytest.raises(UserCertificateError, match=reason):
        install(company.sign(csr, **more))
    assert not place.current.exists()
    assert place.pending_key.is_file()


def test_unfit_chain_is_refused(place: Place, csr: str, company: Company, install: Install) -> None:
    leaf = pem(company.leaf(csr))
    stranger = make_company()
    for chain, reason in (
        (leaf, "issuers in between missing"),
        (pem(stranger.leaf(csr)) + pem(stranger.issuing), "does not lead to the given root"),
        (pem(company.issuing) + leaf, "another key"),
        (leaf + pem(company.issuing) * 8, "9 certificates"),
        ("nothing", "0 certificates"),
        (leaf + place.pending_key.read_text(), "private key"),
        (leaf.replace("MII", "AAA", 1), "cannot be read"),
    ):
        with pytest.raises(UserCertificateError, match=reason):
            install(chain)
    assert not place.current.exists()


def test_roll_back_without_a_former_one_says_so(place: Place) -> None:
    with pytest.raises(UserCertificateError, match="no earlier certificate"):
        user_certificate.roll_back(place)


def test_module_check_do_check_do(tmp_path: Path, company: Company) -> None:
    options = {"directory": str(tmp_path / "u"), "names": [NAME]}
    dry = call("tresor_user_certificate", check=True, state="requested", **options)
    assert (dry["changed"], dry["csr"], dry["in_use"]) == (True, "", False)
    csr = call("tresor_user_certificate", state="requested", **options)["csr"]
    given = {**options, "chain": company.sign(csr), "ca": company.ca}
    assert not call("tresor_user_certificate", state="checked", **given)["changed"]
    changes = [
        call("tresor_user_certificate", check=check, state="installed", **given)["changed"]
        for check in (True, False) * 2
    ]
    assert changes == [True, True, False, False]
    refused = call("tresor_user_certificate", state="installed", **{**given, "chain": "x"})
    assert refused["failed"]
    assert "nothing changed" in refused["msg"]
