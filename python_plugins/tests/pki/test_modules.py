"""The two modules together: check, do, check, do; and the road from request to installation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from python_plugins.tests.module_call import call


@pytest.fixture
def ca_options(tmp_path: Path) -> dict[str, Any]:
    return {
        "directory": str(tmp_path / "ca"),
        "passphrase_file": str(tmp_path / "ca" / "passphrase"),
        "common_name": "Test CA",
        "curve": "P-256",
    }


@pytest.fixture
def host_options(tmp_path: Path, me: dict[str, str]) -> dict[str, Any]:
    pki = tmp_path / "pki"
    pki.mkdir()
    common = {"common_name": "gpu1.site.example", **me}
    return {
        "ca_path": str(pki / "ca.crt"),
        "certificates": [
            {
                "name": "host",
                "key": str(pki / "host.key"),
                "certificate": str(pki / "host.crt"),
                "names": ["gpu1.site.example", "gpu1"],
                "addresses": ["198.51.100.31", "2001:db8:51::31"],
                "usages": ["server", "client"],
                **common,
            },
            {
                "name": "apt",
                "key": str(pki / "apt.key"),
                "certificate": str(pki / "apt.crt"),
                "names": ["gpu1.site.example"],
                "usages": ["client"],
                **common,
            },
        ],
    }


def sign_options(ca_options: dict[str, Any], requests: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        **ca_options,
        "state": "signed",
        "host": "gpu1",
        "requests": requests,
        "names": ["gpu1.site.example", "gpu1"],
        "addresses": ["198.51.100.31", "2001:db8:51::31"],
    }


def test_authority_check_do_check_do(ca_options: Any) -> None:
    results = [call("tresor_ca", check=check, **ca_options) for check in (True, False) * 2]
    assert [result["changed"] for result in results] == [True, True, False, False]
    assert results[0]["ca_certificate"] == ""
    assert results[1]["ca_fingerprint"] == results[3]["ca_fingerprint"] != ""


def test_from_request_to_installation(ca_options: Any, host_options: Any) -> None:
    pem = call("tresor_ca", **ca_options)["ca_certificate"]
    options = {**host_options, "ca_certificate": pem}
    asked = call("tresor_certificate_request", check=True, **options)
    assert (asked["changed"], asked["needs_signing"], asked["requests"]) == (True, True, [])
    asked = call("tresor_certificate_request", **options)
    assert [entry["name"] for entry in asked["requests"]] == ["host", "apt"]
    dry = call("tresor_ca", check=True, **sign_options(ca_options, asked["requests"]))
    assert (dry["changed"], dry["certificates"]) == (True, [])
    signed = call("tresor_ca", **sign_options(ca_options, asked["requests"]))
    done = call("tresor_certificate_request", signed=signed["certificates"], **options)
    assert (done["changed"], done["needs_signing"]) == (True, False)
    for check in (True, False):
        again = call("tresor_certificate_request", check=check, **options)
        assert (again["changed"], again["needs_signing"], again["requests"]) == (False, False, [])
        assert {entry["name"] for entry in again["certificates"]} == {"host", "apt"}


def test_new_authority_makes_every_certificate_due(
    ca_options: Any,
    host_options: Any,
    tmp_path: Path,
) -> None:
    options = dict(host_options)
    options["ca_certificate"] = call("tresor_ca", **ca_options)["ca_certificate"]
    asked = call("tresor_certificate_request", **options)
    signed = call("tresor_ca", **sign_options(ca_options, asked["requests"]))
    call("tresor_certificate_request", signed=signed["certificates"], **options)
    other = {**ca_options, "directory": str(tmp_path / "b"), "passphrase_file": str(tmp_path / "p")}
    options["ca_certificate"] = call("tresor_ca", **other)["ca_certificate"]
    for check in (True, False):
        asked = call("tresor_certificate_request", check=check, **options)
        assert asked["needs_signing"]
    assert "another issuer" in asked["requests"][0]["reason"]


def test_refused_request_fails_the_module(ca_options: Any, host_options: Any) -> None:
    pem = call("tresor_ca", **ca_options)["ca_certificate"]
    asked = call("tresor_certificate_request", **{**host_options, "ca_certificate": pem})
    options = {**sign_options(ca_options, asked["requests"]), "addresses": []}
    result = call("tresor_ca", **options)
    assert result["failed"]
    assert "198.51.100.31" in result["msg"]


def test_signing_without_an_authority_says_what_is_missing(ca_options: Any) -> None:
    request = {"name": "host", "csr": "x", "usages": ["client"]}
    result = call("tresor_ca", **sign_options(ca_options, [request]))
    assert result["failed"]
    assert "ca.key" in result["msg"]


def test_unknown_owner_is_named(host_options: Any) -> None:
    host_options["certificates"][0]["owner"] = "no-such-user"
    result = call("tresor_certificate_request", **{**host_options, "ca_certificate": "x"})
    assert result["failed"]
    assert "no-such-user" in result["msg"]
