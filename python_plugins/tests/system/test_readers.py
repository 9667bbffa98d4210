"""Who reads the certificate is found in the units and their configuration."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest

from python_plugins.tests.module_call import call, load
from tresor.system import readers

PKI = Path("/etc/tresor/pki")
FILES = [PKI / "host.crt", PKI / "host.key", PKI / "ca.crl"]


def systemctl(units: dict[str, str]) -> mock.Mock:
    def answer(verb: str, *arguments: str, tolerate: bool = False) -> str:
        if verb == "list-units":
            return "".join(f"{name} loaded active running x\n" for name in units)
        return units[arguments[-1]]

    return mock.Mock(side_effect=answer)


def test_credentials_and_configuration_are_both_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "nginx.conf"
    config.write_text(
        "ssl_certificate /etc/tresor/pki/host.crt;\n# ssl_crl /etc/tresor/pki/ca.crl;\n"
    )
    units = {
        "tresor-a.service": "LoadCredential=host.key:/etc/tresor/pki/host.key\n",
        "tresor-b.service": f"ExecStart=/usr/sbin/nginx -c {config}\n",
        "tresor-c.service": "ExecStart=/bin/true\n",
    }
    monkeypatch.setattr(readers, "systemctl", systemctl(units))
    assert readers.readers("tresor-*", FILES, tmp_path) == [
        readers.Reader("tresor-a.service", (PKI / "host.key",)),
        readers.Reader("tresor-b.service", (PKI / "host.crt",)),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "/etc/tresor/pki/host.crt.old",
        "/srv/etc/tresor/pki/host.crt",
        "# /etc/tresor/pki/host.crt",
        "/etc/tresor/pki/host.crt/x",
    ],
)
def test_another_path_is_not_taken_for_it(text: str) -> None:
    assert readers.used_in([text], FILES) == ()


@pytest.mark.parametrize("text", ["a:/etc/tresor/pki/host.crt", "x /etc/tresor/pki/host.crt;"])
def test_the_path_is_found_between_other_signs(text: str) -> None:
    assert readers.used_in([text], FILES) == (PKI / "host.crt",)


def test_module_hands_over_what_tresor_units_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    unit = {"tresor-a.service": "LoadCredential=host.key:/etc/tresor/pki/host.key\n"}
    # Ansible's copy of our module_utils is another module object than tresor's.
    monkeypatch.setattr(load("tresor_certificate_readers").readers, "systemctl", systemctl(unit))
    result = call("tresor_certificate_readers", files=[str(path) for path in FILES])
    assert result["units"] == [{"name": "tresor-a.service", "watch": ["/etc/tresor/pki/host.key"]}]
    assert not result["changed"]
