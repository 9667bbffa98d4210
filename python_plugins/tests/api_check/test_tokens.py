"""Forged tokens differ from the real one in exactly what makes them forged."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from tresor.api_check import tokens

from .conftest import Issuer


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    head, body, signature = (
        base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split(".")
    )
    return json.loads(head), json.loads(body), signature


def verifies(issuer: Issuer, token: str) -> bool:
    signed, _, _ = token.rpartition(".")
    try:
        issuer.key.public_key().verify(
            parts(token)[2], signed.encode(), padding.PKCS1v15(), hashes.SHA256()
        )
    except InvalidSignature:
        return False
    return True


def test_the_real_token_verifies(issuer: Issuer) -> None:
    assert verifies(issuer, issuer.token())


def test_resigned_keeps_header_and_claims_but_not_the_key(issuer: Issuer) -> None:
    token = issuer.token(groups=["llm-users"])
    forged = tokens.resigned(token)
    assert parts(forged)[:2] == parts(token)[:2]
    assert len(parts(forged)[2]) == 256
    assert not verifies(issuer, forged)


@pytest.mark.parametrize(("algorithm", "size"), [("ES256", 64), ("PS256", 256)])
def test_resigned_uses_the_algorithm_of_the_header(algorithm: str, size: int) -> None:
    head = base64.urlsafe_b64encode(json.dumps({"alg": algorithm}).encode()).rstrip(b"=").decode()
    assert len(parts(tokens.resigned(f"{head}.e30.AAAA"))[2]) == size


def test_unsigned_says_none_and_has_no_signature(issuer: Issuer) -> None:
    token = issuer.token()
    forged = tokens.unsigned(token)
    assert parts(forged) == ({**parts(token)[0], "alg": "none"}, parts(token)[1], b"")
    assert forged.endswith(".")


def test_tampered_changes_claims_under_the_old_signature(issuer: Issuer) -> None:
    token = issuer.token(groups=["guests"])
    forged = tokens.tampered(token, {"groups": ["llm-users"]})
    assert parts(forged)[1] == {**parts(token)[1], "groups": ["llm-users"]}
    assert parts(forged)[2] == parts(token)[2]
    assert not verifies(issuer, forged)


def test_confused_is_hs256_over_the_public_key(issuer: Issuer) -> None:
    forged = tokens.signed_with_public_key(issuer.token(), issuer.jwk())
    pem = issuer.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    signed, _, _ = forged.rpartition(".")
    assert parts(forged)[0]["alg"] == "HS256"
    assert parts(forged)[2] == hmac.new(pem, signed.encode(), hashlib.sha256).digest()


def test_a_key_that_is_not_rsa_is_named(issuer: Issuer) -> None:
    with pytest.raises(tokens.TokenError, match="only RSA keys fit"):
        tokens.signed_with_public_key(issuer.token(), {"kty": "EC"})


@pytest.mark.parametrize("text", ["", "a.b", "opaque", "a.b.c.d", "e30.!.x", "e30.WzFd.x"])
def test_what_is_no_jwt_is_refused(text: str) -> None:
    with pytest.raises(tokens.TokenError):
        tokens.claims(text)
