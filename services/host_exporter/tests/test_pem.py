"""Certificates and revocation lists tell when they end."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from services.host_exporter.tests.support import failing_scrape, scrape
from tresor_exporter.collectors import pem
from tresor_exporter.collectors.pem import CertificateCollector, CrlCollector
from tresor_exporter.schema import PemFiles

END = dt.datetime(2027, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
KEY = ec.generate_private_key(ec.SECP256R1())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(name: str, end: dt.datetime = END) -> bytes:
    builder = x509.CertificateBuilder(_name("CA"), _name(name), KEY.public_key(), 7)
    builder = builder.not_valid_before(end - dt.timedelta(days=9)).not_valid_after(end)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM)


def revocations(end: dt.datetime = END) -> bytes:
    builder = x509.CertificateRevocationListBuilder(_name("CA"), end - dt.timedelta(days=9), end)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM)


def test_each_certificate_of_a_chain_is_told_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "host.crt"
    later = END + dt.timedelta(days=5)
    path.write_bytes(certificate("gpu1.site.example", later) + certificate("Vermittler Größe"))
    name = "tresor_certificate_not_after_timestamp_seconds"
    assert scrape(CertificateCollector(PemFiles((path,)))) == {
        f'{name}{{name="gpu1.site.example",path="{path}"}}': later.timestamp(),
        f'{name}{{name="Vermittler Größe",path="{path}"}}': END.timestamp(),
    }


def test_of_two_certificates_with_one_name_the_first_end_counts(tmp_path: Path) -> None:
    path = tmp_path / "ca.crt"
    path.write_bytes(certificate("CA", END + dt.timedelta(days=5)) + certificate("CA"))
    assert list(scrape(CertificateCollector(PemFiles((path,)))).values()) == [END.timestamp()]


def test_a_renewed_certificate_is_seen_and_an_unchanged_one_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Path] = []
    real: Callable[[Path], list[pem.End]] = pem.certificates

    def counting(path: Path) -> list[pem.End]:
        calls.append(path)
        return real(path)

    monkeypatch.setattr(pem, "certificates", counting)
    path = tmp_path / "host.crt"
    path.write_bytes(certificate("a"))
    collector = CertificateCollector(PemFiles((path,)))
    assert scrape(collector) == scrape(collector)
    assert len(calls) == 1
    renewed = tmp_path / "new"
    renewed.write_bytes(certificate("a", END + dt.timedelta(days=30)))
    renewed.replace(path)
    assert list(scrape(collector).values()) == [(END + dt.timedelta(days=30)).timestamp()]


@pytest.mark.parametrize(
    "content", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_an_unusable_file_does_not_hide_the_others(tmp_path: Path, content: bytes) -> None:
    bad, good = tmp_path / "bad.crt", tmp_path / "good.crt"
    bad.write_bytes(content)
    good.write_bytes(certificate("a"))
    missing = tmp_path / "missing.crt"
    found, problem = failing_scrape(CertificateCollector(PemFiles((bad, missing, good))))
    assert list(found.values()) == [END.timestamp()]
    assert "bad.crt" in problem
    assert "missing.crt: No such file" in problem


def test_a_revocation_list_tells_when_it_must_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "company.crl"
    path.write_bytes(revocations())
    assert scrape(CrlCollector(PemFiles((path,)))) == {
        f'tresor_crl_next_update_timestamp_seconds{{path="{path}"}}': END.timestamp()
    }


def test_a_certificate_is_no_revocation_list(tmp_path: Path) -> None:
    path = tmp_path / "company.crl"
    path.write_bytes(certificate("a"))
    _, problem = failing_scrape(CrlCollector(PemFiles((path,))))
    assert "holds 0 PEM blocks X509 CRL" in problem
