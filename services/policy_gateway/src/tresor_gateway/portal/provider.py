"""The company's identity provider as this client talks to it: where to sign in, codes, the end."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from tresor_gateway import config_schema as schema
from tresor_gateway.config import secret_path
from tresor_gateway.errors import ConfigError
from tresor_gateway.identity.fetch import FetchError, Server
from tresor_gateway.portal.logins import Login

MAX_ANSWER_BYTES: Final = 256 << 10
_EXCHANGES: Final = 16
_MAX_SECRET_BYTES: Final = 4096
_OK: Final = 200


class CodeRefusedError(Exception):
    """The provider does not take the code (used, too old, or not for this login)."""


class ProviderError(Exception):
    """The provider cannot be asked, or answers nonsense."""


@dataclass(frozen=True)
class Tokens:
    """What a code was exchanged for."""

    access_token: str = field(repr=False)
    id_token: str = field(repr=False)


class _Answer(msgspec.Struct):
    access_token: str
    id_token: str
    token_type: str


class Provider:
    """One client's view of the provider."""

    def __init__(self, portal: schema.Portal, jwks: schema.Jwks) -> None:
        """Read the client's secret; without one it is a public client (PKCE alone).

        Raises:
            ConfigError: the secret cannot be used.
        """
        self._portal = portal
        self._secret = _read_secret(portal.client_secret_file)
        ca_file = portal.ca_file or jwks.ca_file
        crl_file = portal.crl_file or jwks.crl_file
        self._server = Server(
            portal.token_endpoint,
            ca_file=Path(ca_file) if ca_file else None,
            crl_file=Path(crl_file) if crl_file else None,
            timeout=portal.timeout_seconds,
            max_bytes=MAX_ANSWER_BYTES,
        )
        self._exchanges = asyncio.Semaphore(_EXCHANGES)

    @property
    def origins(self) -> tuple[str, ...]:
        """Where a form of the page may lead in the end: the provider's logout."""
        if self._portal.end_session_endpoint is None:
            return ()
        parts = urlsplit(self._portal.end_session_endpoint)
        return (f"{parts.scheme}://{parts.netloc}",)

    def login_url(self, login: Login) -> str:
        """Where the browser signs in."""
        portal = self._portal
        parameters = {
            "response_type": "code",
            "client_id": portal.client_id,
            "redirect_uri": f"{portal.url}/callback",
            "scope": " ".join(portal.scopes),
            "state": login.state,
            "nonce": login.nonce,
            "code_challenge": login.challenge,
            "code_challenge_method": "S256",
        }
        if portal.resource is not None:
            parameters["resource"] = portal.resource
        return _with_query(portal.authorization_endpoint, parameters)

    def logout_url(self, id_token: str) -> str:
        """Where the browser's session at the provider ends; without such a place, our own page."""
        portal = self._portal
        if portal.end_session_endpoint is None:
            return "/"
        parameters = {
            "id_token_hint": id_token,
            "client_id": portal.client_id,
            "post_logout_redirect_uri": f"{portal.url}/",
        }
        return _with_query(portal.end_session_endpoint, parameters)

    async def exchange(self, code: str, login: Login) -> Tokens:
        """Turn a code into tokens.

        Raises:
            CodeRefusedError: the provider refuses it.
            ProviderError: the provider cannot be asked.
        """
        portal = self._portal
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": f"{portal.url}/callback",
            "code_verifier": login.verifier,
        }
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        if portal.resource is not None:
            form["resource"] = portal.resource
        if self._secret is None:
            form["client_id"] = portal.client_id
        else:
            # Each half is form-encoded before (RFC 6749, 2.3.1).
            pair = f"{quote(portal.client_id, safe='')}:{quote(self._secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        body = urlencode(form).encode()
        loop = asyncio.get_running_loop()
        async with self._exchanges:
            try:
                reply = await loop.run_in_executor(
                    None, lambda: self._server.ask("POST", headers, body)
                )
            except FetchError as error:
                raise ProviderError(str(error)) from error
        if reply.status != _OK:
            problem = _problem(reply.body)
            if problem == "invalid_grant":
                raise CodeRefusedError(problem)
            raise ProviderError(f"{self._server.url}: status {reply.status}, error {problem}")
        try:
            answer = msgspec.json.decode(reply.body, type=_Answer)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ProviderError(f"{self._server.url}: answered without tokens") from error
        if answer.token_type.lower() != "bearer":
            raise ProviderError(f"{self._server.url}: answered with tokens that are no bearer's")
        return Tokens(answer.access_token, answer.id_token)


def _read_secret(value: str | None) -> str | None:
    if value is None:
        return None
    path = secret_path(value)
    try:
        with path.open("rb") as stream:
            secret = stream.read(_MAX_SECRET_BYTES).decode().strip()
    except OSError as error:
        raise ConfigError(
            f"portal.client_secret_file: {path}: cannot be read: {error.strerror}"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"portal.client_secret_file: {path}: is not text") from error
    if not secret:
        raise ConfigError(
            f"portal.client_secret_file: {path}: is empty; write the secret there, "
            "or remove the key for a public client"
        )
    return secret


def _problem(body: bytes) -> str:
    """The provider's own word for a refusal, for the log; it may be anything."""
    try:
        error = msgspec.json.decode(body, type=dict[str, object]).get("error")
    except (msgspec.DecodeError, RecursionError):
        return "-"
    return error[:64] if isinstance(error, str) and error.isprintable() else "-"


def _with_query(url: str, parameters: dict[str, str]) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(parameters)}"
