"""Machines: tokens bound to a client certificate, accounts known by token or certificate."""

from __future__ import annotations

import base64
import datetime
import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from services.policy_gateway.tests.conftest import MakeSite
from services.policy_gateway.tests.support import QUESTION, Response, Site, settings
from tresor_gateway.identity.certificate import CertificateError, read
from tresor_gateway.identity.revocations import Revocations

pytestmark = pytest.mark.asyncio
HOUR = datetime.timedelta(hours=1)
RULES: list[dict[str, Any]] = [
    {"group": "llm-users", "models": ["smollm"], "endpoints": ["models", "chat.completions"]},
    {
        "service_account": "nightly",
        "client_id": "batch",
        "certificate": "DNS:batch1.company.example",
        "models": ["smollm"],
        "endpoints": ["models", "chat.completions"],
        "limits": {"requests_per_minute": 2},
    },
    {
        "service_account": "scanner",
        "client_id": "scan",
        "subject": "6b1d",
        "certificate": "CN=scanner,O=Example",
        "models": ["smollm"],
        "endpoints": ["models"],
    },
]


class Machine:
    """A client certificate as NGINX escapes it."""

    def __init__(
        self, *names: x509.GeneralName, common_name: str = "", ends: datetime.timedelta = HOUR
    ) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example")]
        if common_name:
            attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
        subject = x509.Name(attributes)
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * HOUR)
            .not_valid_after(now + ends)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(key, hashes.SHA256())
        self.header = quote(certificate.public_bytes(Encoding.PEM), safe="")
        digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
        self.thumbprint = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


BATCH = Machine(x509.DNSName("batch1.company.example"))
SCANNER = Machine(common_name="scanner")
STRANGER = Machine(x509.DNSName("other.company.example"))


@pytest_asyncio.fixture
async def site(make_site: MakeSite) -> Site:
    """A gateway behind NGINX, which is the test."""
    site = await make_site(access=RULES)
    site.worker._gateway._behind_proxy = True
    return site


async def ask(
    site: Site, machine: Machine | None, token: str | None = None, body: Any = QUESTION
) -> Response:
    headers = {"X-Tresor-Client-Certificate": machine.header} if machine else {}
    target = {} if body else {"target": "/v1/models"}
    return await site.ask(body=body, token=token, headers=headers, **target)


def bound(site: Site, machine: Machine, **changes: Any) -> str:
    return site.issuer.token(cnf={"x5t#S256": machine.thumbprint}, **changes)


async def test_bound_token_is_good_with_its_certificate_only(site: Site) -> None:
    token = bound(site, BATCH)
    assert (await ask(site, BATCH, token)).status == 200
    # Also from the memory of verified tokens.
    for machine in (STRANGER, None):
        response = await ask(site, machine, token)
        assert response.status == 401
        assert "bound to another" in response.error["message"]
    assert (await ask(site, BATCH, token)).status == 200
    for machine in (STRANGER, None):
        assert (await ask(site, machine, bound(site, BATCH, jti="fresh"))).status == 401
    await site.stop()
    records = site.decisions()
    assert [record["reason"] for record in records] == [
        "ok", "token_binding", "token_binding", "ok", "token_binding", "token_binding",
    ]  # fmt: skip
    assert records[0]["auth"] == "bearer+certificate"


@pytest.mark.parametrize(
    "confirmation",
    [
        {"jkt": "x"},
        {"x5t#S256": BATCH.thumbprint, "jkt": "x"},
        {"x5t#S256": 7},
        {"x5t#S256": ""},
        {},
        "x",
        [],
    ],
)
async def test_binding_that_is_not_understood_is_refused(site: Site, confirmation: Any) -> None:
    token = site.issuer.token(cnf=confirmation)
    assert (await ask(site, BATCH, token)).status == 401


async def test_client_cannot_claim_a_certificate_without_nginx(make_site: MakeSite) -> None:
    site = await make_site(access=RULES)
    assert (await ask(site, BATCH)).status == 401
    assert (await ask(site, BATCH, bound(site, BATCH))).status == 401


async def test_unbound_token_does_not_care_about_a_certificate(site: Site) -> None:
    assert (await ask(site, STRANGER, site.issuer.token())).status == 200


async def test_service_account_is_known_by_its_certificate_alone(site: Site) -> None:
    assert (await ask(site, BATCH)).status == 200
    assert (await ask(site, SCANNER, body=None)).status == 200
    assert (await ask(site, SCANNER)).status == 403
    for machine in (STRANGER, None):
        assert (await ask(site, machine)).status == 401
    await site.stop()
    first, second, *refused = site.decisions()
    assert (first["account"], first["auth"]) == ("nightly", "certificate")
    assert second["account"] == "scanner"
    assert "groups" not in first
    assert [record["reason"] for record in refused] == [
        "endpoint_forbidden",
        "certificate_unknown",
        "token_missing",
    ]


async def test_account_is_the_same_by_token_and_by_certificate(site: Site) -> None:
    """Its limit of two requests counts both."""
    own = site.issuer.token(sub="batch", azp="batch", groups=None)
    assert (await ask(site, None, own)).status == 200
    assert (await ask(site, BATCH)).status == 200
    assert (await ask(site, None, own)).status == 429
    assert (await ask(site, BATCH)).status == 429
    await site.stop()
    one, two, *_ = site.decisions()
    assert one["subject"] == two["subject"]
    assert one["tenant"] == two["tenant"]
    assert (one["auth"], two["auth"]) == ("bearer", "certificate")


async def test_person_who_uses_the_accounts_client_is_not_the_account(site: Site) -> None:
    person = site.issuer.token(sub="mallory", azp="batch", groups=None)
    assert (await ask(site, None, person)).status == 403
    person = site.issuer.token(sub="batch", azp="cli", groups=None)
    assert (await ask(site, None, person)).status == 403


async def test_subject_of_an_account_may_be_another_one_than_its_client(site: Site) -> None:
    own = site.issuer.token(sub="6b1d", azp=None, client_id="scan", groups=None)
    assert (await ask(site, None, own, body=None)).status == 200
    other = site.issuer.token(sub="scan", azp="scan", groups=None)
    assert (await ask(site, None, other, body=None)).status == 403


async def test_group_of_the_provider_never_passes_for_an_account(site: Site) -> None:
    token = site.issuer.token(groups=["nightly", "service account 'nightly'"])
    assert (await ask(site, None, token)).status == 403


async def test_certificate_that_means_two_accounts_means_none(site: Site) -> None:
    both = Machine(x509.DNSName("batch1.company.example"), common_name="scanner")
    assert (await ask(site, both)).status == 401


async def test_certificate_that_ended_on_an_open_connection_is_refused(site: Site) -> None:
    over = Machine(x509.DNSName("batch1.company.example"), ends=-HOUR)
    response = await ask(site, over)
    assert response.status == 401
    assert "expired" in response.error["message"]


@pytest.mark.parametrize(
    "header", ["x", "%", "-----BEGIN%20CERTIFICATE-----", "A" * 25_000, BATCH.header[:-60]]
)
async def test_certificate_that_cannot_be_read_is_refused(site: Site, header: str) -> None:
    with pytest.raises(CertificateError):
        read(header.encode())
    client = await site.client()
    client.request("GET", "/v1/models", headers={"X-Tresor-Client-Certificate": header})
    assert (await client.response()).status == 401


async def test_certificate_header_that_is_there_twice_is_refused(site: Site) -> None:
    client = await site.client()
    lines = [f"X-Tresor-Client-Certificate: {m.header}" for m in (BATCH, STRANGER)]
    client.send("\r\n".join(["GET /v1/models HTTP/1.1", "Host: x", *lines, "", ""]).encode())
    assert (await client.response()).status == 400


async def test_logout_ends_remembered_tokens_at_once(make_site: MakeSite, tmp_path: Path) -> None:
    shared = str(tmp_path / "revocations")
    site = await make_site(identity=identity(tmp_path, shared))
    token, other = site.issuer.token(sid="s1"), site.issuer.token(sid="s2")
    for good in (token, other):
        assert (await site.ask(body=QUESTION, token=good)).status == 200
    elsewhere = Revocations(Path(shared), keep_seconds=600)
    elsewhere.revoke("session", "s1")
    response = await site.ask(body=QUESTION, token=token)
    assert response.status == 401
    assert "logout" in response.error["message"]
    assert (await site.ask(body=QUESTION, token=other)).status == 200


async def test_token_that_could_outlive_its_revocation_is_refused(
    make_site: MakeSite, tmp_path: Path
) -> None:
    site = await make_site(identity=identity(tmp_path, str(tmp_path / "revocations")))
    now = site.issuer.claims()["iat"]
    for changes in ({"exp": now + 700}, {"iat": None}):
        response = await site.ask(body=QUESTION, token=site.issuer.token(**changes))
        assert response.status == 401
        assert "longer than this site allows" in response.error["message"]


def identity(folder: Path, shared: str) -> dict[str, Any]:
    return {
        **settings(folder, ["http://127.0.0.1:9"])["identity"],
        "revocations": {"file": shared, "keep_seconds": 600},
    }
