"""From an Authorization header to an identity, with a short memory for verified tokens."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tresor_gateway.access import AccessTable, Grant
from tresor_gateway.api import errors
from tresor_gateway.api.errors import ApiError
from tresor_gateway.identity.keystore import KeyStore
from tresor_gateway.identity.tokens import (
    Claims,
    TokenPolicy,
    TokenRefusedError,
    UnknownKeyError,
    verify,
)
from tresor_gateway.keys import SiteKeys

_BEARER: Final = re.compile(rb"(?i:bearer) +([A-Za-z0-9._~+/=-]+) *")


@dataclass(frozen=True)
class Identity:
    """Who asks, in the only form that leaves this package: without the name."""

    subject: str
    tenant: str
    client: str
    token: str
    grant: Grant
    cache_salt: str
    expires: float
    # The record of an answer is on disk before its last byte leaves.
    strict: bool = False


class KeysNeededError(Exception):
    """The token's key is unknown and a refetch is allowed: refresh, then ask again."""


class Authenticator:
    """Verifies bearer tokens; every way to fail ends in an ``ApiError``."""

    def __init__(
        self,
        store: KeyStore,
        policy: TokenPolicy,
        access: AccessTable,
        site_keys: SiteKeys,
        *,
        cache_seconds: float,
        cache_entries: int,
        strict_tenants: frozenset[str] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._policy = policy
        self._access = access
        self._site_keys = site_keys
        self._cache_seconds = cache_seconds
        self._cache_entries = cache_entries
        self._strict_tenants = strict_tenants
        self._clock = clock
        self._wall = wall
        self._cache: dict[bytes, tuple[Identity, float]] = {}
        store.on_change(self._cache.clear)

    def adopt(self, access: AccessTable) -> None:
        """Decide by other access rules from now on."""
        self._access = access
        self._cache.clear()

    async def refresh(self) -> None:
        """Fetch the keys once, for a token with an unknown key."""
        await self._store.refresh()

    def authenticate(self, header: bytes | None, *, may_refetch: bool = True) -> Identity:
        """The identity behind an Authorization header.

        Raises:
            ApiError: 401 for a token that is not accepted, 503 without usable keys.
            KeysNeededError: call ``refresh`` and try again with ``may_refetch=False``.
        """
        if not header:
            raise errors.unauthorized("token_missing", "An access token is required.")
        match = _BEARER.fullmatch(header)
        if match is None:
            raise errors.unauthorized("token_malformed", "The Authorization header is malformed.")
        token = match.group(1)
        keys = self._store.current()
        if keys is None:
            if may_refetch and self._store.may_refetch():
                raise KeysNeededError
            raise errors.unavailable(
                "identity_unavailable", "Access tokens cannot be verified at the moment.", 30
            )
        digest = hashlib.sha256(token).digest()
        known = self._cache.get(digest)
        now = self._wall()
        if known is not None:
            identity, until = known
            if self._clock() < until and now < identity.expires + self._policy.skew_seconds:
                return identity
            del self._cache[digest]
        try:
            claims = verify(token, keys, self._policy, now)
        except UnknownKeyError as error:
            if may_refetch and self._store.may_refetch():
                raise KeysNeededError from error
            raise errors.unauthorized(error.reason, error.message) from error
        except TokenRefusedError as error:
            raise errors.unauthorized(error.reason, error.message) from error
        identity = self._identity(claims, digest)
        self._remember(digest, identity, now)
        return identity

    def _identity(self, claims: Claims, digest: bytes) -> Identity:
        issuer = self._policy.issuer
        # Without a tenant each subject is one of its own: too narrow is safe, too wide is not.
        tenant = f"tenant:{claims.tenant}" if claims.tenant else f"subject:{claims.subject}"
        token_id = claims.token_id.encode() if claims.token_id else digest
        grant = self._access.grant(claims.groups)
        return Identity(
            subject=self._site_keys.pseudonym("subject", issuer, claims.subject),
            tenant=self._site_keys.pseudonym("tenant", issuer, tenant),
            client=claims.client,
            token=hashlib.sha256(token_id).hexdigest()[:32],
            grant=grant,
            cache_salt=self._site_keys.cache_salt(issuer, tenant),
            expires=claims.expires,
            strict=grant.strict or claims.tenant in self._strict_tenants,
        )

    def _remember(self, digest: bytes, identity: Identity, now: float) -> None:
        life = min(self._cache_seconds, identity.expires - now)
        if life <= 0:
            return
        if len(self._cache) >= self._cache_entries:
            # The oldest entry is the first one; entries live a minute at most.
            self._cache.pop(next(iter(self._cache)))
        self._cache[digest] = (identity, self._clock() + life)


__all__ = ["ApiError", "Authenticator", "Identity", "KeysNeededError"]
