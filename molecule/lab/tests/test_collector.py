"""company1's log collector: whom it takes records from, and what it says while it cannot run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lab import collector
from lab.errors import LabError, lab_error
from lab.host import LabHost
from lab.seed import File, Link
from lab.topology import SIEM_NAME, SITE_HOSTS


class FakeHost:
    """A host that notes what is run on it; commands with a word of ``refused`` fail."""

    def __init__(self, *, refused: Sequence[str] = (), stdout: str = "") -> None:
        self.ran: list[str] = []
        self.fed: dict[str, str] = {}
        self.refused, self.stdout = list(refused), stdout

    def run(self, argv: Sequence[str]) -> SimpleNamespace:
        line = " ".join(argv)
        self.ran.append(line)
        if any(word in line for word in self.refused):
            raise lab_error("command", f"{line} ended with 1", "Look")
        return SimpleNamespace(stdout=self.stdout)

    def feed(self, argv: Sequence[str], source: Path) -> None:
        self.fed[argv[-1]] = source.read_text(encoding="utf-8")


def host(fake: FakeHost) -> LabHost:
    return cast(LabHost, cast(Any, fake))


def test_only_hosts_of_the_site_are_permitted_each_by_its_name() -> None:
    text = collector.configuration()
    (peers,) = [part for part in text.split("tls.") if part.startswith("permittedPeer")]
    assert peers.count('"') == 2 * len(SITE_HOSTS)
    assert "*" not in peers
    for site_host in SITE_HOSTS:
        assert f'"{site_host.fqdn}"' in peers
    assert 'tls.authMode="name"' in text


def test_keys_are_private_and_the_distributions_rsyslog_stays_off() -> None:
    entries = collector.files("CERTIFICATE", "KEY")
    keys = [entry for entry in entries if isinstance(entry, File) and entry.content == "KEY"]
    assert {entry.path for entry in keys} == {
        "etc/company-siem/own.key",
        "etc/company-siem/server.key",
    }
    assert {entry.mode for entry in keys} == {0o600}
    links = {entry.path: entry.target for entry in entries if isinstance(entry, Link)}
    assert links["etc/systemd/system/rsyslog.service"] == "/dev/null"


def test_trust_hands_the_sites_ca_over_and_starts() -> None:
    company, bastion = FakeHost(), FakeHost(stdout="CA OF THE SITE")
    collector.trust(host(company), host(bastion))
    assert company.fed == {"/etc/company-siem/site-ca.pem": "CA OF THE SITE"}
    assert company.ran[0] == "systemctl restart company-siem.service"
    assert f"/dev/tcp/127.0.0.1/{collector.PORT}" in company.ran[1]


def test_trust_before_the_first_converge_says_what_to_do() -> None:
    company, bastion = FakeHost(), FakeHost(refused=["/etc/tresor/pki/ca.crt"])
    with pytest.raises(LabError, match=r"has no /etc/tresor/pki/ca\.crt.*Converge the site first"):
        collector.trust(host(company), host(bastion))
    assert company.ran == []
    assert company.fed == {}


def test_collector_that_takes_no_connection_is_told() -> None:
    company = FakeHost(refused=["/dev/tcp/"])
    with pytest.raises(LabError, match=r"port 2514 takes no connection after 0 s.*siem trust"):
        collector.start(host(company), seconds=0)


@pytest.mark.parametrize(
    ("identity", "source"),
    [("own", "/etc/company-siem/own"), ("other-name", "/etc/company-idp/tls")],
)
def test_present_shows_a_certificate_that_is_there(identity: str, source: str) -> None:
    company = FakeHost()
    collector.present(host(company), identity)
    assert company.ran[0] == f"cp {source}.pem /etc/company-siem/server.pem"
    assert company.ran[1] == f"cp {source}.key /etc/company-siem/server.key"
    assert company.ran[2] == "systemctl restart company-siem.service"


def test_certificate_of_another_ca_bears_the_right_name() -> None:
    company = FakeHost()
    collector.present(host(company), "other-ca")
    assert f"subjectAltName=DNS:{SIEM_NAME}" in company.ran[0]
    assert "-keyout /etc/company-siem/server.key" in company.ran[0]
