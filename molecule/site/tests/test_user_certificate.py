"""The company signs what users see: request out, chain in, a wrong one refused, and the way back.

Converges the gateways twice, so it takes a minute or two.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from testinfra.host import Host

REPOSITORY = Path(__file__).resolve().parents[3]
LABCTL = REPOSITORY / "molecule" / "lab" / "labctl"
API = "https://llm.site.example/v1/models"
SITE_YML = "/etc/tresor/inventory/group_vars/all/site.yml"
EXCHANGE = "/var/lib/tresor/user_certificate"

Connect = Callable[[str], Host]
Tresor = Callable[[str], tuple[int, str]]


def status_with(host: Host, ca: str) -> str:
    """Return the API's status for a client that trusts ``ca`` alone; 000: no TLS."""
    return host.run(f"curl -s -o /dev/null -w '%{{http_code}}' -m 10 --cacert {ca} {API}").stdout


@pytest.fixture(scope="module")
def site_ca(connect: Connect) -> str:
    """Hand the site's CA to company1; return where it lies there."""
    ca = connect("bastion").check_output("cat /etc/tresor/pki/ca.crt")
    connect("company1").check_output(f"cat > /run/site-ca.crt <<'PEM'\n{ca}\nPEM")
    return "/run/site-ca.crt"


@pytest.fixture
def company_certificate(connect: Connect, tresor: Tresor) -> Iterator[Host]:
    """Give back the bastion; afterwards users see the site's own certificate again."""
    bastion = connect("bastion")
    yield bastion
    bastion.check_output(f"sed -i 's/{{source: company,/{{source: site,/' {SITE_YML}")
    rc, said = tresor("converge -- --limit gateway")
    assert rc == 0, said


def signed_by_the_company(request: str) -> str:
    """Return the company's certificate for a signing request."""
    command = [str(LABCTL), "company-sign"]
    done = subprocess.run(
        command, input=request, capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    return done.stdout


def write(host: Host, path: str, content: str) -> None:
    """Write a small text file."""
    host.check_output(f"cat > {path} <<'END'\n{content}\nEND")


def test_company_signs_what_users_see(
    connect: Connect, tresor: Tresor, company_certificate: Host, site_ca: str
) -> None:
    bastion, gateway, company = company_certificate, connect("gateway1"), connect("company1")
    company_ca = "/etc/company/ca.pem"
    assert (status_with(company, site_ca), status_with(company, company_ca)) == ("401", "000")
    rc, said = tresor("run operate/user_certificate_request.yml")
    assert rc == 0, said
    request = bastion.check_output(f"cat {EXCHANGE}/gateway1.csr")
    listing = "find /etc/tresor/user_certificate -printf '%P %l %i\\n' | sort"
    before = gateway.check_output(listing)

    # Somebody else's certificate for the same name: refused, and nothing changes.
    foreign = gateway.check_output(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout /dev/null"
        " -subj /CN=llm.site.example -addext subjectAltName=DNS:llm.site.example"
    )
    write(bastion, f"{EXCHANGE}/gateway1.pem", foreign)
    rc, said = tresor("run operate/user_certificate_install.yml")
    assert rc != 0
    assert "nothing changed" in said
    assert "another key" in said
    assert gateway.check_output(listing) == before

    write(bastion, f"{EXCHANGE}/gateway1.pem", signed_by_the_company(request))
    rc, said = tresor("run operate/user_certificate_install.yml")
    assert rc == 0, said
    bastion.check_output(f"sed -i 's/{{source: site,/{{source: company,/' {SITE_YML}")
    rc, said = tresor("converge -- --limit gateway")
    assert rc == 0, said
    assert (status_with(company, company_ca), status_with(company, site_ca)) == ("401", "000")
    key = gateway.file("/etc/tresor/user_certificate/current/tls.key")
    assert (key.mode, key.user) == (0o400, "root")
