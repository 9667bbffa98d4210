"""Machines of the company: a service account by certificate, and tokens bound to it."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

import pytest
from testinfra.host import Host

Connect = Callable[[str], Host]
PAIR = "/etc/company/reporter.pem"
URL = "https://llm.site.example/v1/models"


@pytest.fixture(scope="module")
def ask(connect: Connect) -> Callable[..., tuple[int, str]]:
    """Return a function that asks for the models from company1: status and body."""
    company, bastion = connect("company1"), connect("bastion")
    ca = bastion.check_output("cat /etc/tresor/pki/ca.crt")
    company.run_test(f"cat > /tmp/site-ca.crt <<'PEM'\n{ca}\nPEM")

    def call(*options: str) -> tuple[int, str]:
        command = "curl -sS --max-time 30 --cacert /tmp/site-ca.crt -w '\\n%{http_code}'"
        output = company.check_output(" ".join([command, *options, URL]))
        text, _, status = output.rpartition("\n")
        return int(status), text

    return call


def test_service_account_needs_no_token_but_its_certificate(
    ask: Callable[..., tuple[int, str]],
) -> None:
    status, body = ask(f"--cert {PAIR}")
    assert status == 200
    assert "smollm2-135m-instruct" in body
    assert ask()[0] == 401


def test_certificate_in_a_header_is_not_believed(
    ask: Callable[..., tuple[int, str]], connect: Connect
) -> None:
    text = connect("company1").check_output(f"openssl x509 -in {PAIR}")
    for name in ("X-Tresor-Client-Certificate", "x_tresor_client_certificate"):
        assert ask(f"-H '{name}: {quote(text + chr(10), safe='')}'")[0] == 401


def test_certificate_of_nobody_we_know_is_refused(
    ask: Callable[..., tuple[int, str]], connect: Connect
) -> None:
    connect("company1").check_output(
        "cd /tmp && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc "
        "-keyout own.key -out own.crt -days 1 -subj /CN=reporter.company.example "
        "-addext subjectAltName=DNS:reporter.company.example 2>/dev/null "
        "&& cat own.crt own.key > own.pem"
    )
    status, body = ask("--cert /tmp/own.pem")
    assert status == 401
    assert "certificate_refused" in body


def test_bound_token_works_with_its_certificate_only(
    ask: Callable[..., tuple[int, str]], token: Callable[[str], str]
) -> None:
    header = f"-H 'Authorization: Bearer {token('reporter')}'"
    assert ask(header, f"--cert {PAIR}")[0] == 200
    assert ask(header)[0] == 401
    assert ask(f"-H 'Authorization: Bearer {token('batch')}'", f"--cert {PAIR}")[0] == 200
