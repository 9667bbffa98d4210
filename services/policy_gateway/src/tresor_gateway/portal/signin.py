"""Signing in and out: the authorization code flow with PKCE, and the provider's word about logouts.

Everything that does not fit ends in a ``ProblemError``; nothing is half signed in.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tresor_gateway.api.errors import ApiError
from tresor_gateway.identity.authenticator import Authenticator, Identity, KeysNeededError
from tresor_gateway.identity.jwks import KeySet
from tresor_gateway.identity.keystore import KeyStore
from tresor_gateway.identity.revocations import Revocations
from tresor_gateway.identity.tokens import TokenRefusedError, UnknownKeyError
from tresor_gateway.keys import SiteKeys
from tresor_gateway.portal import signed
from tresor_gateway.portal.logins import Login, Logins
from tresor_gateway.portal.provider import CodeRefusedError, Provider, ProviderError
from tresor_gateway.portal.sessions import FullError, Session, Sessions
from tresor_gateway.portal.signed import ClientPolicy, Logout, Person, Seen
from tresor_gateway.portal.visit import ProblemError

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Trust:
    """What signing in stands on."""

    policy: ClientPolicy
    store: KeyStore
    authenticator: Authenticator
    revocations: Revocations
    site_keys: SiteKeys
    name_claim: str


class SignIn:
    """Begins, finishes and ends sessions."""

    def __init__(
        self,
        trust: Trust,
        provider: Provider,
        sessions: Sessions,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._trust = trust
        self._provider = provider
        self._sessions = sessions
        self._wall = wall
        self._logins = Logins()
        self._seen = Seen()

    async def begin(self) -> tuple[Login, str]:
        """A new login, and where the browser goes for it.

        Raises:
            ProblemError: the provider cannot be reached.
        """
        store = self._trust.store
        if store.may_refetch():
            # Also a look whether the provider is there at all, before a browser is sent to it.
            await store.refresh()
        if store.failures or store.current() is None:
            raise _provider_away()
        login = self._logins.begin()
        return login, self._provider.login_url(login)

    async def finish(
        self, cookie: str | None, parameters: dict[str, str]
    ) -> tuple[Session, Identity]:
        """What the provider sent back with the browser, as a new session (not yet kept).

        Raises:
            ProblemError: it must not become one.
        """
        login = self._logins.finish(cookie, parameters.get("state", ""))
        if login is None:
            raise ProblemError(400, "login_unknown", "state", sign_in=True)
        issuer = parameters.get("iss")
        if issuer is not None and issuer != self._trust.policy.issuer:
            # Another provider's answer (RFC 9207).
            raise ProblemError(400, "login_issuer", "token", sign_in=True)
        if "error" in parameters:
            raise ProblemError(403, "login_denied", "denied", sign_in=True)
        code = parameters.get("code")
        if not code:
            raise ProblemError(400, "bad_request", "request", sign_in=True)
        try:
            tokens = await self._provider.exchange(code, login)
        except CodeRefusedError as error:
            raise ProblemError(400, "login_code", "state", sign_in=True) from error
        except ProviderError as error:
            log.warning("sign-in: %s", error)
            raise _provider_away() from error
        person = await self._verified(
            lambda keys: signed.id_token(
                tokens.id_token,
                keys,
                self._trust.policy,
                nonce=login.nonce,
                access_token=tokens.access_token,
                now=self._wall(),
            )
        )
        identity = await self.identity(tokens.access_token)
        if not hmac.compare_digest(identity.subject, self.pseudonym(person.subject)):
            raise ProblemError(403, "login_subject", "token", sign_in=True)
        session = Session(
            subject=person.subject,
            provider_session=person.session,
            name=self._name(person),
            access_token=tokens.access_token,
            id_token=tokens.id_token,
            issued=person.issued,
            expires=identity.expires,
        )
        return session, identity

    def keep(self, session: Session, before: str | None) -> str:
        """Keep a new session in place of the browser's earlier one; returns its cookie.

        Raises:
            ProblemError: there is no room.
        """
        self._sessions.end(before)
        try:
            return self._sessions.add(session)
        except FullError as error:
            raise ProblemError(503, "sessions_full", "full") from error

    async def identity(self, access_token: str) -> Identity:
        """Who an access token is for, by the same rules as for every call of the API.

        Raises:
            ProblemError: it is not good for this gateway.
        """
        header = b"Bearer " + access_token.encode("ascii", "replace")
        authenticator = self._trust.authenticator
        try:
            try:
                return authenticator.authenticate(header)
            except KeysNeededError:
                await authenticator.refresh()
                return authenticator.authenticate(header, may_refetch=False)
        except ApiError as error:
            page = "token" if error.denied else "provider"
            status = 403 if error.denied else 503
            raise ProblemError(status, error.reason, page, sign_in=True) from error

    def out(self, cookie: str | None) -> str:
        """End the browser's session and its token; returns where to end the provider's session."""
        session = self._sessions.end(cookie)
        if session is None:
            return "/"
        self._revoke_token(session)
        return self._provider.logout_url(session.id_token)

    async def logged_out(self, token: str) -> Logout:
        """The provider tells that somebody has logged out: it ends everywhere on this host.

        Raises:
            ProblemError: the logout token is not good, or not new.
        """
        logout = await self._verified(
            lambda keys: signed.logout_token(token, keys, self._trust.policy, self._wall())
        )
        now = self._wall()
        if not self._seen.first(logout, now, self._trust.policy.skew_seconds):
            raise ProblemError(400, "logout_token_replayed", "token")
        try:
            self._end(logout)
        except Exception:
            # The provider may try again with the same token.
            self._seen.forget(logout)
            raise
        return logout

    def pseudonym(self, subject: str) -> str:
        """A subject as the audit log names it."""
        return self._trust.site_keys.pseudonym("subject", self._trust.policy.issuer, subject)

    # --- inner ----------------------------------------------------------------------------------

    def _end(self, logout: Logout) -> None:
        revocations = self._trust.revocations
        if logout.session is not None:
            revocations.revoke("session", logout.session)
        elif logout.subject is not None:
            revocations.revoke("subject", logout.subject, until=logout.issued)
        # Access tokens need not say which session they belong to; ours are known.
        for session in self._sessions.end_all(logout.subject, logout.session, logout.issued):
            self._revoke_token(session)

    def _revoke_token(self, session: Session) -> None:
        digest = hashlib.sha256(session.access_token.encode()).hexdigest()
        self._trust.revocations.revoke("token", digest)

    async def _verified(self, check: Callable[[KeySet], T]) -> T:
        """The result of a check with the provider's keys, fetched anew once when one is missing."""
        store = self._trust.store
        for attempt in (1, 2):
            keys = store.current()
            try:
                if keys is not None:
                    return check(keys)
            except UnknownKeyError as error:
                if attempt > 1 or not store.may_refetch():
                    raise ProblemError(403, error.reason, "token", sign_in=True) from error
            except TokenRefusedError as error:
                raise ProblemError(403, error.reason, "token", sign_in=True) from error
            if attempt == 1 and store.may_refetch():
                await store.refresh()
        raise _provider_away()

    def _name(self, person: Person) -> str:
        for claim in (self._trust.name_claim, "preferred_username", "sub"):
            value = person.claims.get(claim)
            if isinstance(value, str) and value:
                return value[:200]
        return person.subject


def _provider_away() -> ProblemError:
    return ProblemError(503, "identity_unavailable", "provider", sign_in=True)
