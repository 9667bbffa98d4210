"""A browser without JavaScript, and an identity provider that a test can make lie."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt

from services.policy_gateway.tests.support import ISSUER, Client, Issuer, Response, Site
from tresor_gateway import config
from tresor_gateway.process import portal as process
from tresor_gateway.process.portal import Portal

CLIENT_ID = "tresor-portal"
ORIGIN = "http://127.0.0.1:8082"
EVENT = "http://schemas.openid.net/event/backchannel-logout"


@dataclass
class Grant:
    """What a code stands for."""

    challenge: str
    nonce: str
    subject: str


@dataclass
class Provider:
    """The token endpoint; the test plays the page where people sign in."""

    issuer: Issuer
    secret: str | None = None
    port: int = 0
    codes: dict[str, Grant] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)
    id_changes: dict[str, Any] = field(default_factory=dict)
    id_header: dict[str, Any] = field(default_factory=dict)
    access_changes: dict[str, Any] = field(default_factory=dict)
    answer: bytes | None = None
    status: int = 200
    _server: asyncio.Server | None = None

    async def start(self) -> Provider:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    def sign_in(self, url: str, subject: str = "alice") -> dict[str, str]:
        """What the provider sends back with the browser that came to ``url``."""
        parts = urlsplit(url)
        assert parts.path == "/auth"
        asked = {name: value for name, [value] in parse_qs(parts.query).items()}
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert asked["redirect_uri"] == f"{ORIGIN}/callback"
        code = f"code-{secrets.token_hex(8)}"
        self.codes[code] = Grant(asked["code_challenge"], asked["nonce"], subject)
        return {"code": code, "state": asked["state"], "iss": ISSUER}

    def tokens(self, grant: Grant) -> dict[str, Any]:
        access = self.issuer.token(
            **{"sub": grant.subject, "azp": CLIENT_ID, "jti": grant.nonce} | self.access_changes
        )
        digest = hashlib.sha256(access.encode()).digest()[:16]
        claims = {
            "aud": CLIENT_ID,
            "azp": None,
            "groups": None,
            "sub": grant.subject,
            "nonce": grant.nonce,
            "sid": f"sid-{grant.subject}",
            "name": "Alice <b>Liddell</b>",
            "at_hash": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        }
        header = {"typ": "JWT"} | self.id_header
        return {
            "access_token": access,
            "id_token": self.issuer.token(header=header, **claims | self.id_changes),
            "token_type": "Bearer",
        }

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = int(re.search(r"(?i)content-length: (\d+)", head).group(1))  # type: ignore[union-attr]
            form = parse_qs((await reader.readexactly(length)).decode())
            asked = {name: value for name, [value] in form.items()}
            self.asked.append(asked)
            status, answer = self._answer(head, asked)
            writer.write(
                f"HTTP/1.1 {status} X\r\nContent-Length: {len(answer)}\r\n\r\n".encode() + answer
            )
            await writer.drain()
        finally:
            writer.close()

    def _answer(self, head: str, asked: dict[str, str]) -> tuple[int, bytes]:
        if self.answer is not None:
            return self.status, self.answer
        if self.secret is not None:
            pair = base64.b64encode(f"{CLIENT_ID}:{self.secret}".encode()).decode()
            if f"Basic {pair}" not in head:
                return 401, b'{"error":"invalid_client"}'
        elif asked.get("client_id") != CLIENT_ID:
            return 401, b'{"error":"invalid_client"}'
        grant = self.codes.pop(asked["code"], None)
        digest = hashlib.sha256(asked["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if grant is None or grant.challenge != challenge:
            return 400, b'{"error":"invalid_grant"}'
        return 200, json.dumps(self.tokens(grant)).encode()

    def logout_token(self, header: dict[str, Any] | None = None, **changes: Any) -> str:
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 120,
            "jti": f"l-{time.monotonic_ns()}",
            "sid": "sid-alice",
            "events": {EVENT: {}},
        } | changes
        claims = {name: value for name, value in claims.items() if value is not None}
        head = {"alg": "RS256", "typ": "logout+jwt", "kid": "k1"} | (header or {})
        key = self.issuer.key
        return jwt.encode(head, claims, key, algorithms=[head["alg"]])


class Browser:
    """Keeps cookies, follows nothing by itself, speaks to the portal's own port."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.cookies: dict[str, str] = {}
        self.seen: list[str] = []

    async def ask(
        self,
        method: str,
        target: str,
        form: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Response:
        client = await Client.open(self._address)
        try:
            await self.send(client, method, target, form, headers)
            response = await client.response()
        finally:
            await client.close()
        return response

    async def send(
        self,
        client: Client,
        method: str,
        target: str,
        form: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        lines = [f"{method} {target} HTTP/1.1", "Host: llm.example.com"]
        if self.cookies:
            pairs = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            lines.append(f"Cookie: {pairs}")
        body = b"" if form is None else urlencode(form).encode()
        if form is not None:
            lines.append("Content-Type: application/x-www-form-urlencoded")
            lines.append(f"Content-Length: {len(body)}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        client.send("\r\n".join([*lines, "", ""]).encode() + body)

    async def get(self, target: str, **parts: Any) -> Response:
        return self.keep(await self.ask("GET", target, **parts))

    async def post(self, target: str, form: dict[str, str], **parts: Any) -> Response:
        return self.keep(await self.ask("POST", target, form, **parts))

    def keep(self, response: Response) -> Response:
        for cookie in response.cookies:
            self.seen.append(cookie)
            pair, *attributes = cookie.split("; ")
            name, _, value = pair.partition("=")
            assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} <= set(attributes)
            if "Max-Age=0" in attributes:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return response


@dataclass
class Front:
    """A stand-alone gateway with its portal and its provider."""

    site: Site
    portal: Portal
    provider: Provider

    def browser(self) -> Browser:
        return Browser(self.portal.address)

    async def signed_in(self, subject: str = "alice") -> Browser:
        """A browser that went the whole way."""
        browser = self.browser()
        response = await self.callback(browser, await self.login(browser, subject))
        assert (response.status, response.headers["location"]) == (303, "/")
        return browser

    async def login(self, browser: Browser, subject: str = "alice") -> dict[str, str]:
        response = await browser.get("/login")
        assert response.status == 303
        return self.provider.sign_in(response.headers["location"], subject)

    async def callback(self, browser: Browser, parameters: dict[str, str]) -> Response:
        return await browser.get(f"/callback?{urlencode(parameters)}")

    async def csrf(self, browser: Browser) -> str:
        page = await browser.get("/")
        assert page.status == 200
        found = re.search(rb'name="csrf" value="([^"]+)"', page.body)
        assert found is not None
        return found.group(1).decode()

    async def told(self, token: str) -> Response:
        """The provider tells of a logout."""
        return await Browser(self.portal.address).ask(
            "POST", "/backchannel-logout", {"logout_token": token}
        )

    async def stop(self) -> None:
        await self.portal.stop()
        await self.site.stop()
        await self.provider.stop()

    def decisions(self) -> list[dict[str, Any]]:
        return [r for r in self.site.decisions() if r["writer"] == "gw1-portal"]


def portal_settings(provider: Provider, **changes: Any) -> dict[str, Any]:
    base = f"http://127.0.0.1:{provider.port}"
    return {
        "url": ORIGIN,
        "tcp": "127.0.0.1:0",
        "client_id": CLIENT_ID,
        "authorization_endpoint": f"{base}/auth",
        "token_endpoint": f"{base}/token",
        "end_session_endpoint": f"{base}/end",
        **changes,
    }


async def beside(site: Site, provider: Provider) -> Front:
    """Start the portal of a stand-alone gateway that runs already."""
    settings = config.parse(json.dumps(site.settings), "test")
    portal = await process.beside(settings, site.worker)
    assert portal is not None
    return Front(site, portal, provider)


def secret_file(folder: Path, text: str) -> str:
    path = folder / "client-secret"
    path.write_text(text)
    return str(path)
