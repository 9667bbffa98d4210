"""What was revoked is on the list, the list is renewed in time, and other programs read it."""

from __future__ import annotations

import datetime as dt
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from python_plugins.tests.module_call import call
from python_plugins.tests.pki.conftest import GRANTED
from python_plugins.tests.pki.test_authority import csr
from tresor.pki import authority, ledger, openssl
from tresor.pki.errors import RevocationError
from tresor.pki.place import Place

MONTH = dt.timedelta(days=30)


def issue(ca: authority.Authority, host: str = "gpu1", days: float = 90) -> authority.Signed:
    request = authority.Request("host", csr(), GRANTED)
    return ca.sign(host, [request], dt.timedelta(days=days))[0]


def refused_by_openssl(certificate: str, place: Place, tmp_path: Path) -> bool:
    leaf = tmp_path / "leaf.pem"
    leaf.write_text(certificate)
    done = subprocess.run(
        [
            "openssl",
            "verify",
            "-CAfile",
            place.certificate,
            "-CRLfile",
            place.crl,
            "-crl_check",
            leaf,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 or "certificate revoked" in done.stderr, done.stderr
    return done.returncode != 0


def test_revoked_certificate_is_refused_by_openssl_and_others_are_not(
    ca: authority.Authority, place: Place, tmp_path: Path
) -> None:
    lost, kept = issue(ca, "gpu1"), issue(ca, "gpu2")
    ca.write_crl(MONTH)
    assert not refused_by_openssl(lost.certificate, place, tmp_path)
    assert ca.would_revoke(["gpu1"], []) == [lost.serial]
    assert ca.revoke(["gpu1"], [], "lost", MONTH) == [lost.serial]
    assert refused_by_openssl(lost.certificate, place, tmp_path)
    assert not refused_by_openssl(kept.certificate, place, tmp_path)
    assert openssl.revoked_serials(place.crl.read_text()) == {lost.serial}
    assert ca.revoke(["gpu1"], [], "again", MONTH) == []
    assert ca.revoke([], [kept.serial.upper()], "too", MONTH) == [kept.serial]
    assert [entry.reason for entry in ledger.revocations(place.revocations)] == ["lost", "too"]


def test_unknown_host_or_serial_revokes_nothing(ca: authority.Authority, place: Place) -> None:
    issue(ca)
    for hosts, serials in ((["gpu9", "gpu1"], []), ([], ["abc"])):
        with pytest.raises(RevocationError, match="never issued"):
            ca.revoke(hosts, serials, "x", MONTH)
    assert ledger.revocations(place.revocations) == []


def test_list_is_due_when_half_of_its_time_is_over(ca: authority.Authority, place: Place) -> None:
    assert "none yet" in (ca.crl_due(MONTH) or "")
    ca.write_crl(MONTH)
    assert ca.crl_due(MONTH) is None
    ca.write_crl(dt.timedelta(days=14))
    assert "it ends" in (ca.crl_due(MONTH) or "")


def test_number_rises_and_damage_is_repaired(ca: authority.Authority, place: Place) -> None:
    numbers = []
    for _ in range(2):
        ca.write_crl(MONTH)
        crl = x509.load_pem_x509_crl(place.crl.read_bytes())
        numbers.append(crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
    assert numbers == [1, 2]
    place.crl.write_text("nonsense")
    assert "cannot be read" in (ca.crl_due(MONTH) or "")


def test_list_of_another_authority_is_due(
    ca: authority.Authority, place: Place, tmp_path: Path
) -> None:
    other = Place(tmp_path / "other", tmp_path / "other" / "passphrase")
    authority.create(other, "Test CA", "P-256", dt.timedelta(days=365))
    authority.open_authority(other).write_crl(MONTH)
    place.crl.write_bytes(other.crl.read_bytes())
    assert "another authority" in (ca.crl_due(MONTH) or "")


def test_list_without_a_revoked_certificate_is_due(ca: authority.Authority, place: Place) -> None:
    ca.write_crl(MONTH)
    before = place.crl.read_bytes()
    ca.revoke([], [issue(ca).serial], "lost", MONTH)
    place.crl.write_bytes(before)
    assert "lacks" in (ca.crl_due(MONTH) or "")


def test_ended_certificates_leave_the_list(ca: authority.Authority, place: Place) -> None:
    serial = issue(ca).serial
    ended = (dt.datetime.now(dt.UTC) - dt.timedelta(days=2)).isoformat()
    ledger.append(place.revocations, ledger.Revoked(serial, ended, ended, "old"))
    ca.write_crl(MONTH)
    assert openssl.revoked_serials(place.crl.read_text()) == set()
    assert ca.crl_due(MONTH) is None


def test_module_revokes_and_a_host_renews_what_was_revoked(tmp_path: Path, me: Any) -> None:
    options = {
        "directory": str(tmp_path / "ca"),
        "passphrase_file": str(tmp_path / "ca" / "passphrase"),
        "common_name": "Test CA",
    }
    made = call("tresor_ca", **options)
    (tmp_path / "pki").mkdir()
    host = {
        "ca_certificate": made["ca_certificate"],
        "ca_path": str(tmp_path / "pki" / "ca.crt"),
        "crl_path": str(tmp_path / "pki" / "ca.crl"),
        "certificates": [
            {
                "name": "host",
                "key": str(tmp_path / "pki" / "host.key"),
                "certificate": str(tmp_path / "pki" / "host.crt"),
                "common_name": "gpu1.site.example",
                "names": ["gpu1.site.example"],
                "usages": ["client"],
                **me,
            }
        ],
    }
    asked = call("tresor_certificate_request", crl=made["crl"], **host)
    signed = call(
        "tresor_ca",
        **{**options, "state": "signed", "host": "gpu1", "requests": asked["requests"]},
        names=["gpu1.site.example"],
    )
    call("tresor_certificate_request", crl=made["crl"], signed=signed["certificates"], **host)
    assert not call("tresor_certificate_request", crl=made["crl"], **host)["changed"]
    revoke = {**options, "state": "revoked", "revoke_hosts": ["gpu1"]}
    results = [call("tresor_ca", check=check, **revoke) for check in (True, False) * 2]
    assert [result["changed"] for result in results] == [True, True, False, False]
    assert results[0]["revoked"] == results[1]["revoked"] == [signed["certificates"][0]["serial"]]
    again = call("tresor_certificate_request", crl=results[1]["crl"], **host)
    assert "is revoked" in again["requests"][0]["reason"]
    assert (tmp_path / "pki" / "ca.crl").read_text() == results[1]["crl"]
    damaged = call("tresor_certificate_request", crl="nonsense", **host)
    assert damaged["failed"]
    assert (tmp_path / "pki" / "ca.crl").read_text() == results[1]["crl"]


def test_certificates_of_minutes_are_renewed_in_their_window(tmp_path: Path, me: Any) -> None:
    options = {
        "directory": str(tmp_path / "ca"),
        "passphrase_file": str(tmp_path / "ca" / "passphrase"),
        "common_name": "Test CA",
    }
    pem = call("tresor_ca", **options)["ca_certificate"]
    (tmp_path / "pki").mkdir()
    host = {
        "ca_certificate": pem,
        "ca_path": str(tmp_path / "pki" / "ca.crt"),
        "certificates": [
            {
                "name": "host",
                "key": str(tmp_path / "pki" / "host.key"),
                "certificate": str(tmp_path / "pki" / "host.crt"),
                "common_name": "gpu1.site.example",
                "names": ["gpu1.site.example"],
                "usages": ["client"],
                **me,
            }
        ],
    }
    asked = call("tresor_certificate_request", renew_before_seconds=60, **host)
    signed = call(
        "tresor_ca",
        **{**options, "state": "signed", "host": "gpu1", "requests": asked["requests"]},
        names=["gpu1.site.example"],
        certificate_validity_seconds=180,
    )
    done = call(
        "tresor_certificate_request",
        renew_before_seconds=60,
        signed=signed["certificates"],
        **host,
    )
    assert not done["needs_signing"]
    assert call("tresor_certificate_request", renew_before_seconds=300, **host)["needs_signing"]
