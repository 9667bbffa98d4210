"""Signatures with the site's listed algorithms, Edwards curves under both of their names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwk

from services.policy_gateway.tests.conftest import MakeSite
from services.policy_gateway.tests.support import Issuer, settings
from tresor_gateway import config
from tresor_gateway.errors import ConfigError
from tresor_gateway.identity.jwks import parse

# The library would like the new name; providers still use the old one too.
pytestmark = [pytest.mark.asyncio, pytest.mark.filterwarnings("ignore:EdDSA is deprecated")]


def key(curve: str, algorithm: str | None) -> Any:
    values = {"kid": "ed", "use": "sig"} | ({"alg": algorithm} if algorithm else {})
    return jwk.generate_key("OKP", curve, values)


@pytest.mark.parametrize("named", [None, "EdDSA", "Ed25519"])
@pytest.mark.parametrize("algorithm", ["EdDSA", "Ed25519"])
async def test_edwards_signature_is_accepted_under_either_name(
    make_site: MakeSite, tmp_path: Path, issuer: Issuer, algorithm: str, named: str | None
) -> None:
    signing = key("Ed25519", named)
    (tmp_path / "jwks.json").write_bytes(issuer.jwks(signing))
    site = await make_site(identity={"algorithms": [algorithm]})
    # As the library's check compares names, a foreign provider signs without the key's own.
    plain = jwk.import_key({**signing.as_dict(private=True), "alg": algorithm})
    token = issuer.token(key=plain, header={"alg": algorithm, "kid": "ed"})
    assert (await site.ask("/v1/models", token=token)).status == 200


async def test_only_the_listed_name_is_accepted(
    make_site: MakeSite, tmp_path: Path, issuer: Issuer
) -> None:
    signing = key("Ed25519", None)
    (tmp_path / "jwks.json").write_bytes(issuer.jwks(signing))
    site = await make_site(identity={"algorithms": ["Ed25519"]})
    for algorithm, status in (("Ed25519", 200), ("EdDSA", 401)):
        token = issuer.token(key=signing, header={"alg": algorithm, "kid": "ed"})
        assert (await site.ask("/v1/models", token=token)).status == status, algorithm
    await site.stop()
    assert [record["reason"] for record in site.decisions()] == ["ok", "token_algorithm"]


async def test_another_curve_is_not_that_algorithm(
    make_site: MakeSite, tmp_path: Path, issuer: Issuer
) -> None:
    signing = key("Ed448", "EdDSA")
    (tmp_path / "jwks.json").write_bytes(issuer.jwks(signing))
    site = await make_site(identity={"algorithms": ["EdDSA", "Ed25519"]})
    good = issuer.token(key=signing, header={"alg": "EdDSA", "kid": "ed"})
    assert (await site.ask("/v1/models", token=good)).status == 200
    # The library itself would not sign this, so the name is exchanged behind the signature.
    bad = issuer.token(key=key("Ed25519", None), header={"alg": "Ed25519", "kid": "ed"})
    assert (await site.ask("/v1/models", token=bad)).status == 401
    await site.stop()
    assert site.decisions()[-1]["reason"] == "token_key_unknown"


@pytest.mark.parametrize(
    ("kind", "curve", "named", "fits"),
    [
        ("OKP", "Ed25519", "EdDSA", {"EdDSA", "Ed25519"}),
        ("OKP", "Ed25519", "Ed25519", {"EdDSA", "Ed25519"}),
        ("OKP", "Ed25519", None, {"EdDSA", "Ed25519"}),
        ("OKP", "Ed448", "EdDSA", {"EdDSA"}),
        ("OKP", "Ed448", "Ed448", set()),
        ("EC", "P-256", None, {"ES256"}),
        ("EC", "P-256", "Ed25519", set()),
    ],
)
async def test_key_serves_only_what_it_was_made_for(
    kind: str, curve: str, named: str | None, fits: set[str]
) -> None:
    made = jwk.generate_key(kind, curve, {"kid": "k"})  # type: ignore[arg-type]
    public = made.as_dict(private=False) | ({"alg": named} if named else {})
    [found] = parse(json.dumps({"keys": [public]}).encode()).keys
    known = ("RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
    assert {name for name in known if found.fits(name)} == fits


@pytest.mark.parametrize("name", ["none", "HS256", "ED25519", "Ed448"])
async def test_algorithm_that_is_not_on_the_list_is_no_configuration(
    tmp_path: Path, name: str
) -> None:
    values = settings(tmp_path, ["http://127.0.0.1:9"])
    values["identity"]["algorithms"] = [name]
    with pytest.raises(ConfigError, match=rf"algorithms.*{name}"):
        config.parse(json.dumps(values), "test")
