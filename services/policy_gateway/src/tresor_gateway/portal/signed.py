"""What the provider signs for this client: ID tokens and logout tokens. Pure, no clock of its own.

OpenID Connect Core 1.0, 3.1.3.7, and Back-Channel Logout 1.0, 2.6.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from tresor_gateway.identity.jwks import KeySet
from tresor_gateway.identity.tokens import (
    TokenRefusedError,
    algorithm_of,
    signed_claims,
    time_claim,
)

LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
LOGOUT_SECONDS: Final = 300.0
_REMEMBERED: Final = 10_000
_ID_TYPES: Final[frozenset[str | None]] = frozenset({None, "jwt", "id+jwt"})
_LOGOUT_TYPES: Final[frozenset[str | None]] = frozenset({None, "jwt", "logout+jwt"})
_HASHES: Final = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}


@dataclass(frozen=True)
class ClientPolicy:
    """What a token for this client must say."""

    issuer: str
    client_id: str
    algorithms: frozenset[str]
    skew_seconds: float


@dataclass(frozen=True)
class Person:
    """What an ID token says. ``issued`` is Unix seconds."""

    subject: str
    session: str | None
    issued: float
    claims: dict[str, Any]


@dataclass(frozen=True)
class Logout:
    """Whom the provider has logged out: one session of its own, or all of a subject's."""

    subject: str | None
    session: str | None
    issued: float
    token_id: str


def id_token(
    token: str, keys: KeySet, policy: ClientPolicy, *, nonce: str, access_token: str, now: float
) -> Person:
    """Check an ID token that came with ``access_token``; ``now`` is Unix seconds.

    Raises:
        TokenRefusedError: it must not be accepted; UnknownKeyError when its key may be new.
    """
    raw = _ascii(token)
    claims = signed_claims(raw, keys, policy.algorithms, _ID_TYPES)
    _check_addressee(claims, policy)
    expires = time_claim(claims, "exp")
    if expires is None or expires + policy.skew_seconds <= now:
        raise TokenRefusedError("id_token_expired", "The ID token has expired.")
    issued = _issued(claims, policy, now)
    given = claims.get("nonce")
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(), nonce.encode()):
        raise TokenRefusedError("id_token_nonce", "The ID token is for another login.")
    if LOGOUT_EVENT in _object(claims.get("events")):
        raise TokenRefusedError("token_type", "The token is not an ID token.")
    _check_access_token(claims, raw, access_token)
    subject, session = claims.get("sub"), claims.get("sid")
    if not isinstance(subject, str) or not 0 < len(subject) <= 255:
        raise TokenRefusedError("token_subject", "The ID token names no subject.")
    return Person(subject, session if isinstance(session, str) else None, issued, claims)


def logout_token(token: str, keys: KeySet, policy: ClientPolicy, now: float) -> Logout:
    """Check a logout token; ``now`` is Unix seconds. That it is new is the caller's question.

    Raises:
        TokenRefusedError: it must not be accepted; UnknownKeyError when its key may be new.
    """
    claims = signed_claims(_ascii(token), keys, policy.algorithms, _LOGOUT_TYPES)
    _check_addressee(claims, policy)
    issued = _issued(claims, policy, now)
    expires = time_claim(claims, "exp")
    late = expires is not None and expires + policy.skew_seconds <= now
    if late or issued + LOGOUT_SECONDS + policy.skew_seconds <= now:
        raise TokenRefusedError("logout_token_expired", "The logout token has expired.")
    events = _object(claims.get("events"))
    if not isinstance(events.get(LOGOUT_EVENT), dict):
        raise TokenRefusedError("logout_token_event", "The token tells of no logout.")
    if "nonce" in claims:
        raise TokenRefusedError("logout_token_nonce", "A logout token has no nonce.")
    subject, session, token_id = claims.get("sub"), claims.get("sid"), claims.get("jti")
    for value in (subject, session):
        if value is not None and (not isinstance(value, str) or not value):
            raise TokenRefusedError("token_malformed", "The logout token is malformed.")
    if subject is None and session is None:
        raise TokenRefusedError("token_subject", "The logout token names nobody.")
    if not isinstance(token_id, str) or not token_id:
        raise TokenRefusedError("token_malformed", "The logout token has no jti.")
    return Logout(subject, session, issued, token_id)


class Seen:
    """Logout tokens that were taken; each is good once, for as long as it could be shown again."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()

    def first(self, logout: Logout, now: float, skew: float) -> bool:
        """Whether this token is new (and is known from now on). No room counts as no."""
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)
        if logout.token_id in self._until or len(self._until) >= _REMEMBERED:
            return False
        self._until[logout.token_id] = now + LOGOUT_SECONDS + 2 * skew
        return True

    def forget(self, logout: Logout) -> None:
        """Take a token once more."""
        self._until.pop(logout.token_id, None)


def _ascii(token: str) -> bytes:
    try:
        return token.encode("ascii")
    except UnicodeEncodeError as error:
        raise TokenRefusedError("token_malformed", "The token is malformed.") from error


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _check_addressee(claims: dict[str, Any], policy: ClientPolicy) -> None:
    if claims.get("iss") != policy.issuer:
        raise TokenRefusedError("token_issuer", "The token has a different issuer.")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    authorized = claims.get("azp", policy.client_id if len(audiences) == 1 else None)
    if policy.client_id not in audiences or authorized != policy.client_id:
        raise TokenRefusedError("token_audience", "The token is for a different client.")


def _issued(claims: dict[str, Any], policy: ClientPolicy, now: float) -> float:
    issued = time_claim(claims, "iat")
    if issued is None or issued - policy.skew_seconds > now:
        raise TokenRefusedError("token_not_yet_valid", "The token does not say when it was made.")
    return issued


def _check_access_token(claims: dict[str, Any], token: bytes, access_token: str) -> None:
    """``at_hash``, where the provider gives it, ties the access token to this ID token."""
    given = claims.get("at_hash")
    if given is None:
        return
    # EdDSA and Ed25519 have no size in their names; their own hash is SHA-512.
    make = _HASHES.get(algorithm_of(token)[-3:], hashlib.sha512)
    digest = make(access_token.encode()).digest()
    expected = base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(), expected.encode()):
        raise TokenRefusedError("id_token_access", "The access token is not the ID token's.")
