"""The whole suite against a fake site: a good one passes, each hole is found."""

from __future__ import annotations

import itertools
import json
import ssl
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tresor.api_check import tls, tokens
from tresor.api_check.client import Endpoint, Request, RequestFailed, Response
from tresor.api_check.identity import IdentityError
from tresor.api_check.recorder import Recorder
from tresor.api_check.suite import Settings, Suite
from tresor.api_check.tls import Handshake

from .conftest import Issuer

API = {
    ("GET", "/v1/models"): "models",
    ("POST", "/v1/chat/completions"): "chat.completions",
    ("POST", "/v1/completions"): "completions",
    ("POST", "/v1/embeddings"): "embeddings",
}


class Site:
    """A gateway in a few lines; ``holes`` names what is wrong with it."""

    def __init__(self, issuer: Issuer, holes: set[str]) -> None:
        self.issuer = issuer
        self.holes = holes
        self.now = 1000.0
        self.count = itertools.count()
        self.good: dict[str, dict[str, Any]] = {}

    def fetch(self, client: str, _extra: Mapping[str, str]) -> str:
        if f"idp-{client}" in self.holes:
            raise IdentityError(f"token of {client}: HTTP 500")
        groups = ["guests"] if client == "no_access" else ["llm-users"]
        claims: dict[str, Any] = {"groups": groups, "exp": self.now + 600, "jti": client}
        if client == "expired":
            claims["exp"] = self.now + 1
        if client == "wrong_audience":
            claims["aud"] = "urn:other:api"
        token = self.issuer.token(**claims)
        self.good[token] = tokens.claims(token)
        return token

    def send(
        self, endpoint: Endpoint, request: Request, _context: ssl.SSLContext, _timeout: float
    ) -> Response:
        if "ipv6-down" in self.holes and ":" in endpoint.address:
            raise RequestFailed("no route")
        status, body, events = self.answer(request)
        headers = {} if "no-ids" in self.holes else {"x-request-id": f"r{next(self.count)}"}
        return Response(status, headers, json.dumps(body).encode(), 0.1, events)

    def answer(self, request: Request) -> tuple[int, Any, Any]:
        endpoint = API.get((request.method, request.path))
        if endpoint is None:
            return self.unlisted(request.path)
        claims = self.claims(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if claims is None:
            return error(401)
        member = "llm-users" in claims["groups"]
        if endpoint == "models":
            names = ["smol"] if member else []
            if "lists-all" in self.holes:
                names = ["smol", "mini"]
            return 200, {"data": [{"id": name} for name in names]}, ()
        return error(403) if endpoint == "embeddings" else self.generate(request, member)

    def generate(self, request: Request, member: bool) -> tuple[int, Any, Any]:
        body = json.loads(request.body or b"{}")
        if (not member and "no-rbac" not in self.holes) or body["model"] != "smol":
            return error(404)
        if request.stream:
            gap = 0.0 if "buffered" in self.holes else 0.1
            chunk = json.dumps({"choices": [{"delta": {"content": "x"}}]})
            return 200, {}, ((0.1, chunk), (0.1 + gap, chunk), (0.3, "[DONE]"))
        return 200, {"choices": [{"message": {"content": "Red."}, "text": "blue"}]}, ()

    def unlisted(self, path: str) -> tuple[int, Any, Any]:
        if "engine-404" in self.holes:
            return 404, {"detail": "Not Found"}, ()
        if "metrics-open" in self.holes and path == "/metrics":
            return 200, {}, ()
        return error(404)

    def claims(self, token: str) -> dict[str, Any] | None:
        claims = self.good.get(token)
        if claims is None and "no-signature-check" in self.holes and token.count(".") == 2:
            claims = tokens.claims(token)
        if claims is None:
            return None
        if claims["aud"] != "urn:tresor:gateway" and "any-audience" not in self.holes:
            return None
        if self.now > claims["exp"] + 30 and "no-expiry" not in self.holes:
            return None
        return claims


def error(status: int) -> tuple[int, Any, Any]:
    return status, {"error": {"message": "no", "type": "invalid_request_error"}}, ()


Run = Callable[..., dict[str, bool]]


@pytest.fixture
def run(issuer: Issuer, plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Run:
    def go(*holes: str, max_wait: float = 90.0) -> dict[str, bool]:
        site = Site(issuer, set(holes))

        def shake(
            _endpoint: Endpoint, version: ssl.TLSVersion, _ca: str, _timeout: float
        ) -> Handshake:
            old = version < ssl.TLSVersion.TLSv1_2
            if old and "no-tls-library" in holes:
                return Handshake(None, False, "NO_PROTOCOLS_AVAILABLE", 0.0)
            if old and "old-tls" not in holes:
                return Handshake(None, True, "ALERT", 0.0)
            return Handshake(version.name, False, "agreed", 0.0)

        def sleep(seconds: float) -> None:
            site.now += seconds

        monkeypatch.setattr(tls, "handshake", shake)
        recorder = Recorder("bastion1", ssl.create_default_context(), 5, site.send)
        Suite(
            plan,
            Settings("ca", max_wait),
            recorder,
            site.fetch,
            issuer.jwk,
            now=lambda: site.now,
            sleep=sleep,
        ).run()
        found = {check.id: check.ok for check in recorder.checks}
        assert len(found) == len(recorder.checks), "ids are unique"
        return found

    return go


def failed(found: dict[str, bool]) -> set[str]:
    return {name for name, ok in found.items() if not ok}


def test_a_good_site_passes_everything(run: Run) -> None:
    found = run()
    assert failed(found) == set()
    for name in (
        "api.models.ipv6",
        "api.stream.smol",
        "api.parallel.smol.4",
        "api.refused.confused.post",
        "api.refused.model.mini",
        "api.refused.group.smol",
        "api.expiry.before",
        "api.refused.expired.get",
        "api.path.GET./metrics",
        "api.tls.TLSv1.1",
    ):
        assert name in found


@pytest.mark.parametrize(
    ("hole", "expected"),
    [
        (
            "no-signature-check",
            {
                f"api.refused.{kind}.{method}"
                for kind in ("resigned", "unsigned", "tampered", "confused")
                for method in ("get", "post")
            },
        ),
        ("any-audience", {"api.refused.audience.get", "api.refused.audience.post"}),
        ("no-expiry", {"api.refused.expired.get", "api.refused.expired.post"}),
        ("no-rbac", {"api.refused.group.smol"}),
        ("lists-all", {"api.models.ipv4", "api.models.ipv6", "api.refused.group.models"}),
        ("buffered", {"api.stream.smol"}),
        ("metrics-open", {"api.path.GET./metrics"}),
        ("old-tls", {"api.tls.TLSv1", "api.tls.TLSv1.1"}),
        ("no-tls-library", {"api.tls.TLSv1", "api.tls.TLSv1.1"}),
        ("no-ids", {"api.request_ids"}),
        ("ipv6-down", {"api.models.ipv6"}),
        ("idp-wrong_audience", {"api.token.wrong_audience"}),
        ("idp-allowed", {"api.token.allowed", "api.allowed", "api.paths"}),
    ],
)
def test_each_hole_is_found_and_nothing_else(run: Run, hole: str, expected: set[str]) -> None:
    assert failed(run(hole)) == expected


def test_answers_of_the_engine_itself_fail_all_hidden_paths(run: Run) -> None:
    found = run("engine-404")
    assert failed(found) == {name for name in found if name.startswith("api.path.")}


def test_an_expiry_too_far_away_fails_instead_of_waiting(run: Run) -> None:
    assert failed(run(max_wait=5.0)) == {"api.refused.expired"}
