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
from tresor_gateway.identity import certificate as certificates
from tresor_gateway.identity.certificate import CertificateError, ClientCertificate
from tresor_gateway.identity.jwks import KeySet
from tresor_gateway.identity.keystore import KeyStore
from tresor_gateway.identity.revocations import Revocations
from tresor_gateway.identity.tokens import (
    Claims,
    TokenPolicy,
    TokenRefusedError,
    UnknownKeyError,
    verify,
)
from tresor_gateway.keys import SiteKeys

# Never an issuer's name: those are https URLs.
_ACCOUNTS: Final = "tresor:service-accounts"
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
    auth: str = "bearer"
    account: str = ""
    # The certificate that must come with the token.
    thumbprint: str | None = None
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
        revocations: Revocations | None = None,
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
        self._revocations = revocations
        self._revoked = b""
        self._cache: dict[bytes, tuple[Identity, float]] = {}
        store.on_change(self._cache.clear)

    def adopt(self, access: AccessTable) -> None:
        """Decide by other access rules from now on."""
        self._access = access
        self._cache.clear()

    async def refresh(self) -> None:
        """Fetch the keys once, for a token with an unknown key."""
        await self._store.refresh()

    def authenticate(
        self, header: bytes | None, certificate: bytes | None = None, *, may_refetch: bool = True
    ) -> Identity:
        """The identity behind an Authorization header.

        ``certificate`` is the client's, verified and escaped by NGINX. A token may be bound to
        it, and without a token a service account may be known by it.

        Raises:
            ApiError: 401 for a token that is not accepted, 503 without usable keys.
            KeysNeededError: call ``refresh`` and try again with ``may_refetch=False``.
        """
        if not header:
            if certificate:
                return self._by_certificate(certificate)
            raise errors.unauthorized("token_missing", "An access token is required.")
        keys = self._store.current()
        if keys is None:
            if may_refetch and self._store.may_refetch():
                raise KeysNeededError
            raise errors.unavailable(
                "identity_unavailable", "Access tokens cannot be verified at the moment.", 30
            )
        if self._revocations is not None and self._revocations.version() != self._revoked:
            self._revoked = self._revocations.version()
            self._cache.clear()
        # Of the whole header: one that was accepted before is known to be well formed.
        place = hashlib.sha256(header).digest()
        known = self._cache.get(place)
        now = self._wall()
        if known is not None:
            identity, until = known
            if self._clock() < until and now < identity.expires + self._policy.skew_seconds:
                if identity.thumbprint is not None:
                    _check_binding(identity.thumbprint, certificate)
                return identity
            del self._cache[place]
        match = _BEARER.fullmatch(header)
        if match is None:
            raise errors.unauthorized("token_malformed", "The Authorization header is malformed.")
        token = match.group(1)
        digest = hashlib.sha256(token).digest()
        claims = self._claims(token, keys, now, may_refetch=may_refetch)
        self._check_revoked(claims, digest)
        if claims.thumbprint is not None:
            _check_binding(claims.thumbprint, certificate)
        identity = self._identity(claims, digest)
        self._remember(place, identity, now)
        return identity

    def _claims(self, token: bytes, keys: KeySet, now: float, *, may_refetch: bool) -> Claims:
        try:
            return verify(token, keys, self._policy, now)
        except UnknownKeyError as unknown:
            if may_refetch and self._store.may_refetch():
                raise KeysNeededError from unknown
            raise errors.unauthorized(unknown.reason, unknown.message) from unknown
        except TokenRefusedError as error:
            raise errors.unauthorized(error.reason, error.message) from error

    def _identity(self, claims: Claims, digest: bytes) -> Identity:
        account = self._access.account_of_client(claims.client, claims.subject)
        token_id = claims.token_id.encode() if claims.token_id else digest
        token = hashlib.sha256(token_id).hexdigest()[:32]
        auth = "bearer" if claims.thumbprint is None else "bearer+certificate"
        if account:
            return self._account(
                account,
                claims.groups,
                client=claims.client,
                token=token,
                expires=claims.expires,
                auth=auth,
                thumbprint=claims.thumbprint,
            )
        issuer = self._policy.issuer
        # Without a tenant each subject is one of its own: too narrow is safe, too wide is not.
        tenant = f"tenant:{claims.tenant}" if claims.tenant else f"subject:{claims.subject}"
        grant = self._access.grant(claims.groups)
        return Identity(
            subject=self._site_keys.pseudonym("subject", issuer, claims.subject),
            tenant=self._site_keys.pseudonym("tenant", issuer, tenant),
            client=claims.client,
            token=token,
            grant=grant,
            cache_salt=self._site_keys.cache_salt(issuer, tenant),
            expires=claims.expires,
            auth=auth,
            thumbprint=claims.thumbprint,
            strict=grant.strict or claims.tenant in self._strict_tenants,
        )

    def _account(
        self,
        account: str,
        groups: frozenset[str],
        *,
        client: str,
        token: str,
        expires: float,
        auth: str,
        thumbprint: str | None,
    ) -> Identity:
        """A service account is the same one however it proves itself, and a tenant of its own."""
        grant = self._access.grant(groups, account)
        return Identity(
            subject=self._site_keys.pseudonym("subject", _ACCOUNTS, account),
            tenant=self._site_keys.pseudonym("tenant", _ACCOUNTS, account),
            client=client,
            token=token,
            grant=grant,
            strict=grant.strict,
            cache_salt=self._site_keys.cache_salt(_ACCOUNTS, account),
            expires=expires,
            auth=auth,
            account=account,
            thumbprint=thumbprint,
        )

    def _by_certificate(self, escaped: bytes) -> Identity:
        certificate = _read(escaped)
        now = self._wall()
        # A connection may outlive the certificate it was opened with.
        if not certificate.begins <= now < certificate.ends:
            raise errors.unauthorized("certificate_expired", "The client certificate has expired.")
        key = certificate.thumbprint.encode()
        known = self._cache.get(key)
        if known is not None and self._clock() < known[1]:
            return known[0]
        account = self._access.account_of_certificate(certificate.names)
        if not account:
            raise errors.unauthorized(
                "certificate_unknown", "The client certificate belongs to no service account."
            )
        identity = self._account(
            account,
            frozenset(),
            client="",
            token="",
            expires=certificate.ends,
            auth="certificate",
            thumbprint=None,
        )
        self._cache.pop(key, None)
        self._remember(key, identity, now)
        return identity

    def _check_revoked(self, claims: Claims, digest: bytes) -> None:
        revocations = self._revocations
        if revocations is None:
            return
        issued = claims.issued
        if issued is None or claims.expires - issued > revocations.keep_seconds:
            # It could outlive its entry on the list.
            raise errors.unauthorized(
                "token_lifetime", "The access token's life is longer than this site allows."
            )
        if revocations.revoked(claims.subject, claims.session, digest, issued):
            raise errors.unauthorized("token_revoked", "The access token was revoked by a logout.")

    def _remember(self, digest: bytes, identity: Identity, now: float) -> None:
        life = min(self._cache_seconds, identity.expires - now)
        if life <= 0:
            return
        if len(self._cache) >= self._cache_entries:
            # The oldest entry is the first one; entries live a minute at most.
            self._cache.pop(next(iter(self._cache)))
        self._cache[digest] = (identity, self._clock() + life)


def _read(escaped: bytes) -> ClientCertificate:
    try:
        return certificates.read(escaped)
    except CertificateError as error:
        raise errors.unauthorized(
            "certificate_malformed", "The client certificate cannot be read."
        ) from error


def _check_binding(thumbprint: str, certificate: bytes | None) -> None:
    if certificate is None or _read(certificate).thumbprint != thumbprint:
        raise errors.unauthorized(
            "token_binding", "The access token is bound to another client certificate."
        )


__all__ = ["ApiError", "Authenticator", "Identity", "KeysNeededError"]
