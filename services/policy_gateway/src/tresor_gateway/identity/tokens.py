"""Verify one access token against a set of keys: pure, no clock and no network of its own."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from tresor_gateway.identity.jwks import KeySet

MAX_TOKEN_BYTES: Final = 16 << 10
MAX_GROUPS: Final = 2000


class TokenRefusedError(Exception):
    """The token is not accepted; ``reason`` is the audit word, the text is for the client."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class UnknownKeyError(TokenRefusedError):
    """The token names a key we do not have; it may be a new one."""

    def __init__(self) -> None:
        super().__init__("token_key_unknown", "The access token's signing key is not known.")


@dataclass(frozen=True)
class TokenPolicy:
    """What a token must say."""

    issuer: str
    audience: str
    algorithms: frozenset[str]
    types: frozenset[str | None]
    groups_claim: str
    tenant_claim: str | None
    skew_seconds: float


@dataclass(frozen=True)
class Claims:
    """What a verified token says about its bearer."""

    subject: str
    client: str
    groups: frozenset[str]
    tenant: str | None
    token_id: str | None
    expires: float
    issued: float | None = None
    session: str | None = None
    thumbprint: str | None = None


class _Header(msgspec.Struct):
    alg: str
    typ: str | None = None
    kid: str | None = None
    crit: Any = None
    b64: Any = None


def normalise_type(value: str) -> str:
    """``application/at+JWT`` and ``at+jwt`` are the same type (RFC 7515, 4.1.9)."""
    return value.lower().removeprefix("application/")


def verify(token: bytes, keys: KeySet, policy: TokenPolicy, now: float) -> Claims:
    """Check signature and claims; ``now`` is Unix time in seconds.

    Raises:
        TokenRefusedError: it must not be accepted; UnknownKeyError when its key may be new.
    """
    return _claims(signed_claims(token, keys, policy.algorithms, policy.types), policy, now)


def signed_claims(
    token: bytes, keys: KeySet, algorithms: frozenset[str], types: frozenset[str | None]
) -> dict[str, Any]:
    """Check form, algorithm, type and signature of a token; what it claims is still to be checked.

    ``types`` holds None when a token may come without ``typ``.

    Raises:
        TokenRefusedError: it must not be accepted; UnknownKeyError when its key may be new.
    """
    if len(token) > MAX_TOKEN_BYTES or token.count(b".") != 2:
        raise TokenRefusedError("token_malformed", "The access token is malformed.")
    header = _header(token.split(b".", 1)[0])
    if header.alg not in algorithms:
        raise TokenRefusedError("token_algorithm", "The access token's algorithm is not allowed.")
    if header.crit is not None or header.b64 is not None:
        raise TokenRefusedError("token_malformed", "The access token's header is not supported.")
    if (None if header.typ is None else normalise_type(header.typ)) not in types:
        raise TokenRefusedError("token_type", "The token is not an access token.")
    key = keys.find(header.kid, header.alg)
    if key is None:
        raise UnknownKeyError
    try:
        registry = JWSRegistry(algorithms=[header.alg])
        signed = jws.deserialize_compact(token, key.key, registry=registry)
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise TokenRefusedError(
            "token_signature", "The access token's signature is wrong."
        ) from error
    try:
        claims = msgspec.json.decode(signed.payload)
    except (ValueError, RecursionError) as error:
        raise TokenRefusedError("token_malformed", "The access token is malformed.") from error
    if not isinstance(claims, dict):
        raise TokenRefusedError("token_malformed", "The access token is malformed.")
    return claims


def algorithm_of(token: bytes) -> str:
    """The algorithm in a token's header.

    Raises:
        TokenRefusedError: there is no header.
    """
    return _header(token.split(b".", 1)[0]).alg


def _header(encoded: bytes) -> _Header:
    try:
        raw = base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4))
        return msgspec.json.decode(raw, type=_Header)
    except (binascii.Error, ValueError, RecursionError) as error:
        raise TokenRefusedError("token_malformed", "The access token is malformed.") from error


def _claims(claims: dict[str, Any], policy: TokenPolicy, now: float) -> Claims:
    if claims.get("iss") != policy.issuer:
        raise TokenRefusedError("token_issuer", "The access token has a different issuer.")
    audience = claims.get("aud")
    if policy.audience not in (audience if isinstance(audience, list) else [audience]):
        raise TokenRefusedError("token_audience", "The access token is for a different audience.")
    expires = time_claim(claims, "exp")
    if expires is None or expires + policy.skew_seconds <= now:
        raise TokenRefusedError("token_expired", "The access token has expired.")
    for name in ("nbf", "iat"):
        moment = time_claim(claims, name)
        if moment is not None and moment - policy.skew_seconds > now:
            raise TokenRefusedError("token_not_yet_valid", "The access token is not yet valid.")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise TokenRefusedError("token_subject", "The access token names no subject.")
    client = claims.get("azp", claims.get("client_id"))
    tenant = claims.get(policy.tenant_claim) if policy.tenant_claim else None
    token_id, session = claims.get("jti"), claims.get("sid")
    return Claims(
        subject=subject,
        client=client[:128] if isinstance(client, str) else "",
        groups=_groups(claims.get(policy.groups_claim)),
        tenant=tenant if isinstance(tenant, str) and tenant else None,
        token_id=token_id if isinstance(token_id, str) else None,
        expires=expires,
        issued=time_claim(claims, "iat"),
        session=session if isinstance(session, str) else None,
        thumbprint=_binding(claims.get("cnf")),
    )


def _binding(confirmation: object) -> str | None:
    """The certificate a token is bound to (RFC 8705); any other binding cannot be honoured."""
    if confirmation is None:
        return None
    if isinstance(confirmation, dict) and confirmation.keys() == {"x5t#S256"}:
        thumbprint = confirmation["x5t#S256"]
        if isinstance(thumbprint, str) and thumbprint:
            return thumbprint.rstrip("=")
    raise TokenRefusedError("token_binding", "The access token's binding is not supported.")


def time_claim(claims: dict[str, Any], name: str) -> float | None:
    """A claim that is a moment (Unix seconds); none when it is missing.

    Raises:
        TokenRefusedError: it is something else.
    """
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e12:
        raise TokenRefusedError("token_malformed", f"The claim {name} is not a time.")
    return float(value)


def _groups(value: object) -> frozenset[str]:
    """A list of names; anything else means no groups at all (default deny)."""
    if isinstance(value, str):
        return frozenset((value,))
    if not isinstance(value, list) or len(value) > MAX_GROUPS:
        return frozenset()
    return frozenset(item for item in value if isinstance(item, str))
