"""A host asks when a certificate is due, and installs only what fits its key."""

from __future__ import annotations

import datetime as dt
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tresor.pki import authority, openssl, request
from tresor.pki.errors import InstallError, ToolError
from tresor.pki.names import identity
from tresor.pki.place import Place
from tresor.pki.request import Wanted

Make = Callable[..., Wanted]
NOW = dt.datetime.now(dt.UTC)


def sign(ca: authority.Authority, wanted: Wanted, days: int = 90) -> str:
    asked = authority.Request(wanted.name, request.request(wanted), wanted.identity)
    return ca.sign("gpu1", [asked], dt.timedelta(days=days))[0].certificate


@pytest.fixture
def installed(ca: authority.Authority, place: Place, wanted: Make) -> Wanted:
    entry = wanted()
    request.install(entry, sign(ca, entry), place.certificate)
    return entry


def reason(wanted: Wanted, place: Place, now: dt.datetime = NOW) -> str | None:
    return request.look(wanted, place.certificate, now).reason


def test_missing_certificate_is_due(ca: authority.Authority, place: Place, wanted: Make) -> None:
    assert reason(wanted(), place) == "no key or no certificate yet"


def test_installed_certificate_is_not_due(installed: Wanted, place: Place) -> None:
    assert reason(installed, place) is None
    assert stat.S_IMODE(installed.key.stat().st_mode) == 0o400
    assert not installed.pending_key.exists()


def test_due_within_the_renewal_window(installed: Wanted, place: Place) -> None:
    assert reason(installed, place, NOW + dt.timedelta(days=59)) is None
    assert "expires" in (reason(installed, place, NOW + dt.timedelta(days=61)) or "")


def test_changed_names_are_due(installed: Wanted, place: Place, wanted: Make) -> None:
    other = identity(["gpu1.site.example", "gpu1"], ["198.51.100.99"], ["server", "client"])
    assert "names or usage changed" in (reason(wanted(other), place) or "")


def test_addresses_compare_in_every_notation(
    ca: authority.Authority, place: Place, wanted: Make
) -> None:
    entry = wanted(identity(["gpu1.site.example"], ["2001:db8:51:0::31"], ["client"]))
    request.install(entry, sign(ca, entry), place.certificate)
    same = identity(["GPU1.site.example"], ["2001:DB8:51::31"], ["client"])
    assert reason(wanted(same), place) is None


def test_foreign_key_is_due(installed: Wanted, place: Place) -> None:
    installed.key.unlink()
    installed.key.write_text(openssl.generate_key())
    assert "another key" in (reason(installed, place) or "")


def test_other_authority_is_due(installed: Wanted, tmp_path: Path) -> None:
    other = Place(tmp_path / "other", tmp_path / "other" / "passphrase")
    authority.create(other, "Test CA", "P-256", dt.timedelta(days=365))
    assert "another issuer" in (reason(installed, other) or "")


def test_damaged_certificate_is_due(installed: Wanted, place: Place) -> None:
    installed.certificate.write_text("nonsense")
    assert "unreadable" in (reason(installed, place) or "")


def test_request_repeated_keeps_the_waiting_key(wanted: Make) -> None:
    entry = wanted()
    request.request(entry)
    key = entry.pending_key.read_bytes()
    request.request(entry)
    assert entry.pending_key.read_bytes() == key


def test_damaged_waiting_key_does_not_stop_the_next_run(wanted: Make) -> None:
    entry = wanted()
    entry.pending_key.write_text("half a ke")
    with pytest.raises(ToolError):
        request.request(entry)
    assert "REQUEST" in request.request(entry)


def test_renewal_leaves_the_pair_in_use_alone_until_signed(
    installed: Wanted, ca: authority.Authority, place: Place
) -> None:
    before = installed.key.read_bytes()
    pem = sign(ca, installed)
    assert installed.key.read_bytes() == before
    assert reason(installed, place) is None
    request.install(installed, pem, place.certificate)
    assert installed.key.read_bytes() != before
    assert reason(installed, place) is None


def test_certificate_of_another_key_is_not_installed(
    ca: authority.Authority, place: Place, wanted: Make
) -> None:
    entry, other = wanted(), wanted(name="other")
    pem = sign(ca, other)
    request.request(entry)
    with pytest.raises(InstallError, match="another key"):
        request.install(entry, pem, place.certificate)
    assert not entry.certificate.exists()


def test_certificate_of_another_authority_is_not_installed(
    ca: authority.Authority, place: Place, wanted: Make, tmp_path: Path
) -> None:
    other = Place(tmp_path / "other", tmp_path / "other" / "passphrase")
    authority.create(other, "Test CA", "P-256", dt.timedelta(days=365))
    entry = wanted()
    pem = sign(authority.open_authority(other), entry)
    with pytest.raises(InstallError, match="not issued by"):
        request.install(entry, pem, place.certificate)


def test_without_openssl_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ToolError, match="openssl is not installed"):
        openssl.generate_key()
