"""People in a browser: only who really signed in here sees or does anything."""

from __future__ import annotations

import asyncio
import copy
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.policy_gateway.tests.browser import (
    CLIENT_ID,
    ORIGIN,
    Browser,
    Front,
    Provider,
    beside,
    portal_settings,
    secret_file,
)
from services.policy_gateway.tests.conftest import MakeSite
from services.policy_gateway.tests.support import (
    QUESTION,
    Client,
    Engine,
    EngineRequest,
    Issuer,
    chunk,
    event,
    stream_head,
    stream_two,
)
from tresor_gateway import config
from tresor_gateway.errors import ConfigError
from tresor_gateway.portal import logins, sessions, texts
from tresor_gateway.portal.chat import Workers
from tresor_gateway.portal.cookies import LOGIN, SESSION
from tresor_gateway.portal.sessions import FullError, Session, Sessions

pytestmark = pytest.mark.asyncio
MakeFront = Callable[..., Awaitable[Front]]
LIMITED = [
    {
        "group": "llm-users",
        "models": ["smollm"],
        "endpoints": ["models", "chat.completions", "completions"],
        "limits": {"daily_tokens": 1000, "requests_per_minute": 50},
    }
]


@pytest_asyncio.fixture
async def make_front(make_site: MakeSite, issuer: Issuer) -> AsyncIterator[MakeFront]:
    fronts: list[Front] = []

    async def make(portal: dict[str, Any] | None = None, **changes: Any) -> Front:
        provider = await Provider(issuer).start()
        settings = portal_settings(provider, **(portal or {}))
        site = await make_site(portal=settings, access=LIMITED, **changes)
        front = await beside(site, provider)
        fronts.append(front)
        return front

    yield make
    for front in fronts:
        await front.portal.stop()
        await front.provider.stop()


@pytest_asyncio.fixture
async def front(make_front: MakeFront) -> Front:
    return await make_front()


async def chat(front: Front, browser: Browser, **changes: str) -> dict[str, str]:
    form = {"csrf": await front.csrf(browser), "model": "smollm", "message": "Where is Lima?"}
    return form | changes


# --- the way in -----------------------------------------------------------------------------------


async def test_person_signs_in_sees_rights_asks_and_signs_out(front: Front) -> None:
    browser = await front.signed_in()
    page = await browser.get("/")
    text = page.body.decode()
    assert page.status == 200
    assert "Alice &lt;b&gt;Liddell&lt;/b&gt;" in text
    assert "<td>smollm</td><td>chat.completions, completions</td>" in text
    assert "minilm" not in text
    assert '<td id="used-daily_tokens">0</td>' in text
    answer = await browser.post("/chat", await chat(front, browser))
    assert answer.status == 200
    assert "In Peru." in answer.body.decode()
    assert '<td id="used-daily_tokens">10</td>' in answer.body.decode()
    out = await browser.post("/logout", {"csrf": await front.csrf(browser)})
    assert out.status == 303
    assert out.headers["location"].startswith(f"http://127.0.0.1:{front.provider.port}/end?")
    assert SESSION not in browser.cookies
    assert (await browser.get("/")).status == 401
    await front.stop()
    assert [(r["endpoint"], r["decision"], r["status"]) for r in front.decisions()] == [
        ("portal.login", "allow", 303),
        ("portal.callback", "allow", 303),
        ("portal.page", "allow", 200),
        ("portal.page", "allow", 200),
        ("portal.page", "allow", 200),
        ("portal.logout", "allow", 303),
        ("portal.page", "deny", 401),
    ]
    [asked] = [r for r in front.site.decisions() if r["endpoint"] == "chat.completions"]
    signed = next(r for r in front.decisions() if r["endpoint"] == "portal.callback")
    assert asked["subject"] == signed["subject"]
    assert (asked["client"], signed["auth"]) == (CLIENT_ID, "code")
    assert "alice" not in json.dumps(front.site.decisions()).lower()


async def test_page_is_closed_to_everything_but_itself(front: Front) -> None:
    browser = await front.signed_in()
    page = await browser.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    for text in ("<script>", "style=", "onclick", "http:", "javascript:"):
        outside = page.body.decode().replace(ORIGIN, "")
        assert text not in outside, text
    assert page.headers["cache-control"] == "no-store"
    for name in ("/static/portal.css", "/static/portal.js"):
        assert name in page.body.decode()
        assert (await browser.get(name)).status == 200
    assert (await browser.get("/static/../application.py")).status == 404
    assert (await browser.get("/favicon.ico")).status == 404
    assert (await browser.post("/", {})).status == 404


async def test_confidential_client_proves_itself(make_front: MakeFront, tmp_path: Path) -> None:
    secret = "s3:cr%et +"
    front = await make_front({"client_secret_file": secret_file(tmp_path, secret + "\n")})
    front.provider.secret = "s3%3Acr%25et%20%2B"
    await front.signed_in()
    front.provider.secret = "another"
    browser = front.browser()
    response = await front.callback(browser, await front.login(browser))
    assert response.status == 503
    assert SESSION not in browser.cookies


async def test_login_is_only_finished_where_it_was_begun(front: Front) -> None:
    victim, attacker = front.browser(), front.browser()
    stolen = await front.login(attacker, "mallory")
    await front.login(victim)
    for browser in (victim, front.browser()):
        response = await front.callback(browser, stolen)
        assert response.status == 400
        assert SESSION not in browser.cookies
    forged = attacker.cookies[LOGIN][:-1] + ("A" if attacker.cookies[LOGIN][-1] != "A" else "B")
    attacker.cookies[LOGIN] = forged
    assert (await front.callback(attacker, stolen)).status == 400
    assert not front.provider.asked


async def test_callback_works_once(front: Front) -> None:
    browser = front.browser()
    parameters = await front.login(browser)
    login = browser.cookies[LOGIN]
    assert (await front.callback(browser, parameters)).status == 303
    assert LOGIN not in browser.cookies
    browser.cookies = {LOGIN: login}
    replayed = await front.callback(browser, parameters)
    assert replayed.status == 400
    assert len(front.provider.asked) == 1
    # A used code in a login of its own.
    parameters = {**await front.login(browser), "code": parameters["code"]}
    assert (await front.callback(browser, parameters)).status == 400
    assert SESSION not in browser.cookies


async def test_login_that_took_too_long_is_refused() -> None:
    now = [1000.0]
    known = logins.Logins(clock=lambda: now[0])
    login = known.begin()
    now[0] += logins.SECONDS + 2
    assert known.finish(login.cookie, login.state) is None
    assert logins.Logins().finish(login.cookie, login.state) is None


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"state": "x"}, 400, "login_unknown"),
        ({"state": ""}, 400, "login_unknown"),
        ({"iss": "https://other.example.com"}, 400, "login_issuer"),
        ({"error": "access_denied"}, 403, "login_denied"),
        ({"code": ""}, 400, "bad_request"),
        ({"code": "guessed"}, 400, "login_code"),
    ],
)
async def test_answer_that_does_not_fit_is_refused(
    front: Front, change: dict[str, str], status: int, reason: str
) -> None:
    browser = front.browser()
    response = await front.callback(browser, {**await front.login(browser), **change})
    assert response.status == status
    assert not browser.cookies
    await front.stop()
    assert front.decisions()[-1]["reason"] == reason


async def test_doubled_parameters_are_refused(front: Front) -> None:
    browser = front.browser()
    sent = await front.login(browser)
    response = await browser.get(f"/callback?state={sent['state']}&code=a&code={sent['code']}")
    assert response.status == 400


@pytest.mark.parametrize(
    ("claims", "header", "reason"),
    [
        ({"nonce": "other"}, {}, "id_token_nonce"),
        ({"nonce": None}, {}, "id_token_nonce"),
        ({"exp": 1}, {}, "id_token_expired"),
        ({"exp": None}, {}, "id_token_expired"),
        ({"iat": None}, {}, "token_not_yet_valid"),
        ({"iss": "https://other.example.com"}, {}, "token_issuer"),
        ({"aud": "other"}, {}, "token_audience"),
        ({"aud": [CLIENT_ID, "other"]}, {}, "token_audience"),
        ({"aud": [CLIENT_ID, "other"], "azp": "other"}, {}, "token_audience"),
        ({"azp": "other"}, {}, "token_audience"),
        ({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}, {}, "id_token_access"),
        ({"sub": None}, {}, "token_subject"),
        ({"sub": "bob"}, {}, "login_subject"),
        ({}, {"typ": "at+jwt"}, "token_type"),
        ({}, {"kid": "other"}, "token_key_unknown"),
    ],
)
async def test_id_token_that_does_not_fit_signs_nobody_in(
    front: Front, claims: dict[str, Any], header: dict[str, Any], reason: str
) -> None:
    front.provider.id_changes, front.provider.id_header = claims, header
    browser = front.browser()
    response = await front.callback(browser, await front.login(browser))
    assert response.status == 403
    assert SESSION not in browser.cookies
    await front.stop()
    assert front.decisions()[-1]["reason"] == reason


@pytest.mark.parametrize("case", ["none", "hmac", "other-key", "garbage", "not-ascii"])
async def test_forged_id_token_signs_nobody_in(front: Front, case: str) -> None:
    browser = front.browser()
    parameters = await front.login(browser)
    tokens = front.provider.tokens(front.provider.codes[parameters["code"]])
    head, body, signature = tokens["id_token"].split(".")
    forged = {
        "none": f"eyJhbGciOiJub25lIn0.{body}.",
        "hmac": f"eyJhbGciOiJIUzI1NiJ9.{body}.{signature}",
        "other-key": front.site.issuer.token(key=front.site.issuer.other, header={"typ": "JWT"}),
        "garbage": "x",
        "not-ascii": f"{head}.ü.{signature}",
    }[case]
    front.provider.answer = json.dumps(tokens | {"id_token": forged}).encode()
    assert (await front.callback(browser, parameters)).status == 403
    assert SESSION not in browser.cookies


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "other"},
        {"exp": int(time.time()) - 100},
        {"cnf": {"x5t#S256": "x"}},
        {"exp": int(time.time()) + 200_000},
    ],
)
async def test_access_token_that_is_not_good_here_signs_nobody_in(
    front: Front, changes: dict[str, Any]
) -> None:
    front.provider.access_changes = changes
    browser = front.browser()
    front.provider.id_changes = {"at_hash": None}
    assert (await front.callback(browser, await front.login(browser))).status == 403
    assert SESSION not in browser.cookies


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, b"<html>"),
        (200, b"{}"),
        (200, b'{"access_token":"a","id_token":"b","token_type":"DPoP"}'),
        (200, b"[" * 200_000),
        (200, b" " * 300_000),
        (302, b""),
        (500, b""),
        (400, b'{"error":"unauthorized_client"}'),
    ],
)
async def test_provider_that_answers_nonsense_signs_nobody_in(
    front: Front, status: int, answer: bytes
) -> None:
    front.provider.status, front.provider.answer = status, answer
    browser = front.browser()
    response = await front.callback(browser, await front.login(browser))
    assert response.status == 503
    assert b"identity provider cannot be reached" in response.body
    assert SESSION not in browser.cookies


# --- while the provider is away -------------------------------------------------------------------


async def test_provider_that_is_away_is_told_and_sessions_live_on(front: Front) -> None:
    signed_in, late = await front.signed_in(), front.browser()
    parameters = await front.login(late)
    await front.provider.stop()
    (front.site.folder / "jwks.json").write_bytes(b"{}")
    for response in (await front.callback(late, parameters), await front.browser().get("/login")):
        assert response.status == 503
        assert b"identity provider cannot be reached" in response.body
    assert (await signed_in.get("/")).status == 200
    assert (await signed_in.post("/chat", await chat(front, signed_in))).status == 200


# --- sessions ---------------------------------------------------------------------------------


async def test_session_id_is_new_with_every_login_and_the_old_one_dead(front: Front) -> None:
    browser = front.browser()
    planted = "A" * 43
    browser.cookies[SESSION] = planted
    assert (await browser.get("/")).status == 401
    await front.callback(browser, await front.login(browser))
    first = browser.cookies[SESSION]
    assert first != planted
    await front.callback(browser, await front.login(browser))
    assert browser.cookies[SESSION] != first
    browser.cookies[SESSION] = first
    assert (await browser.get("/")).status == 401
    browser.cookies[SESSION] = planted
    assert (await browser.get("/")).status == 401


async def test_doubled_or_malformed_cookie_is_no_session(front: Front) -> None:
    browser = await front.signed_in()
    good = browser.cookies[SESSION]
    for bad in (f"{good}; {SESSION}={good}", f'"{good}"', good + "!", "", good[:-1], "x" * 5000):
        browser.cookies[SESSION] = bad
        assert (await browser.get("/")).status == 401, bad


def session(subject: str, **changes: Any) -> Session:
    values = {
        "provider_session": f"sid-{subject}",
        "name": subject,
        "access_token": "a",
        "id_token": "i",
        "issued": 100.0,
        "expires": 5000.0,
    }
    return Session(subject=subject, **(values | changes))


def store(now: list[float], **changes: Any) -> Sessions:
    bounds = {"session_seconds": 1000, "idle_seconds": 100, "max_sessions": 3} | changes
    return Sessions(clock=lambda: now[0], wall=lambda: now[0], **bounds)


async def test_session_ends_idle_old_or_with_its_token() -> None:
    now = [0.0]
    kept = store(now)
    cookie = kept.add(session("a"))
    for _ in range(10):
        now[0] += 99
        assert kept.find(cookie) is not None
    now[0] += 11
    assert kept.find(cookie) is None, "older than session_seconds"
    cookie = kept.add(session("a"))
    now[0] += 101
    assert kept.find(cookie) is None, "idle"
    cookie = kept.add(session("a", expires=now[0] + 50))
    now[0] += 50
    assert kept.find(cookie) is None, "token"
    assert len(kept) == 0


async def test_sessions_are_bounded_and_no_stranger_ends_another() -> None:
    now = [0.0]
    kept = store(now)
    cookies = [kept.add(session(name)) for name in "abc"]
    with pytest.raises(FullError):
        kept.add(session("d"))
    assert all(kept.find(cookie) for cookie in cookies)
    now[0] += 101
    assert kept.add(session("d"))
    assert len(kept) == 1


async def test_own_oldest_session_makes_room_for_a_new_one() -> None:
    kept = store([0.0], max_sessions=100)
    cookies = [kept.add(session("a")) for _ in range(sessions.PER_SUBJECT + 2)]
    assert [kept.find(cookie) is not None for cookie in cookies] == [False] * 2 + [
        True
    ] * sessions.PER_SUBJECT


# --- forms -----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/chat", "/logout"])
@pytest.mark.parametrize(
    ("change", "headers"),
    [
        ({"csrf": ""}, {}),
        ({"csrf": "x" * 43}, {}),
        ({}, {"Origin": "https://evil.example"}),
        ({}, {"Origin": "null"}),
        ({}, {"Sec-Fetch-Site": "cross-site"}),
        ({}, {"Sec-Fetch-Site": "same-site"}),
    ],
)
async def test_form_of_another_site_does_nothing(
    front: Front,
    engines: list[Engine],
    target: str,
    change: dict[str, str],
    headers: dict[str, str],
) -> None:
    browser = await front.signed_in()
    form = await chat(front, browser) | change
    response = await browser.post(target, form, headers=headers)
    assert response.status == 403
    assert not any(engine.requests for engine in engines)
    assert (await browser.get("/")).status == 200
    form = await chat(front, browser)
    fitting = {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"}
    assert (await browser.post(target, form, headers=fitting)).status in (200, 303)


async def test_form_token_of_another_session_does_not_fit(front: Front) -> None:
    alice, bob = await front.signed_in(), await front.signed_in("bob")
    form = await chat(front, bob)
    assert (await alice.post("/chat", form)).status == 403


@pytest.mark.parametrize(
    "changes",
    [
        "message=",
        "model=",
        "message=" + "x" * 16_001,
        "message=%FF",
        "message=a&message=b",
        "message",
        "message=\u00fc",
    ],
)
async def test_malformed_question_is_refused(
    front: Front, engines: list[Engine], changes: str
) -> None:
    browser = await front.signed_in()
    fields = {
        "csrf": f"csrf={await front.csrf(browser)}",
        "model": "model=m",
        "message": "message=x",
    }
    body = "&".join([*(fields | {changes.partition("=")[0]: changes}).values()]).encode()
    client = await Client.open(front.portal.address)
    headers = {
        "Cookie": f"{SESSION}={browser.cookies[SESSION]}",
        "Content-Type": "application/x-www-form-urlencoded",
        "Content-Length": str(len(body)),
    }
    client.request("POST", "/chat", headers=headers)
    client.send(body)
    response = await client.response()
    await client.close()
    assert response.status == 400
    assert not any(engine.requests for engine in engines)


async def test_question_that_is_no_form_is_refused(front: Front) -> None:
    browser = await front.signed_in()
    headers = {"Cookie": f"{SESSION}={browser.cookies[SESSION]}"}
    client = await Client.open(front.portal.address)
    client.request("POST", "/chat", body=await chat(front, browser), headers=headers)
    assert (await client.response()).status == 400
    await client.close()


async def test_question_without_session_is_refused(front: Front, engines: list[Engine]) -> None:
    response = await front.browser().post("/chat", {"csrf": "", "model": "smollm", "message": "x"})
    assert response.status == 401
    assert not any(engine.requests for engine in engines)


# --- the chat box -------------------------------------------------------------------------------


async def test_answer_comes_while_it_is_made(front: Front, engines: list[Engine]) -> None:
    for engine in engines:
        engine.script = stream_two
    browser = await front.signed_in()
    response = await browser.post(
        "/chat", await chat(front, browser), headers={"Accept": "text/event-stream"}
    )
    assert response.headers["content-type"].startswith("text/event-stream")
    assert event("In") in response.body
    assert response.body.endswith(b"data: [DONE]\n\n")


async def test_browser_that_leaves_ends_the_engines_work(
    front: Front, engines: list[Engine]
) -> None:
    async def endless(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        stream_head(writer)
        while True:
            chunk(writer, event("x"))
            await writer.drain()
            await asyncio.sleep(0.01)

    for engine in engines:
        engine.script = endless
    browser = await front.signed_in()
    form = await chat(front, browser)
    client = await Client.open(front.portal.address)
    await browser.send(client, "POST", "/chat", form, {"Accept": "text/event-stream"})
    await client.head()
    await client.chunk()
    client.abort()
    async with asyncio.timeout(10):
        while not any(engine.closed.is_set() for engine in engines):
            await asyncio.sleep(0.01)


async def test_models_and_limits_are_the_workers_decision(front: Front) -> None:
    browser = await front.signed_in()
    for model in ("big", "none"):
        response = await browser.post("/chat", await chat(front, browser, model=model))
        assert response.status == 404
        assert b"does not exist or you do not have access" in response.body
    page = await browser.post(
        "/chat", await chat(front, browser, message="</textarea><script>alert(1)</script>")
    )
    assert b"<script>alert" not in page.body
    await front.stop()
    assert [r["reason"] for r in front.site.decisions() if r["endpoint"] == "chat.completions"] == [
        "model_not_found",
        "model_not_found",
        "ok",
    ]


async def test_worker_that_is_away_is_told(front: Front) -> None:
    browser = await front.signed_in()
    form = await chat(front, browser)
    workers: Workers = front.portal.application._is.workers
    workers._addresses = ("127.0.0.1:9", str(front.site.folder / "none.sock"))
    response = await browser.post("/chat", form)
    assert response.status == 503
    await front.stop()
    assert front.decisions()[-1]["reason"] == "upstream_unavailable"


# --- logout ------------------------------------------------------------------------------------


async def test_token_of_a_session_that_was_ended_is_dead_everywhere(front: Front) -> None:
    browser = await front.signed_in()
    token = stolen(front)
    assert (await front.site.ask(body=QUESTION, token=token)).status == 200
    await browser.post("/logout", {"csrf": await front.csrf(browser)})
    assert (await front.site.ask(body=QUESTION, token=token)).status == 401


def stolen(front: Front) -> str:
    """The access token of the newest session."""
    kept: Sessions = front.portal.application._is.sessions
    return next(reversed(kept._sessions.values())).access_token


@pytest.mark.parametrize("names", [{}, {"sub": "alice"}, {"sid": None, "sub": "alice"}])
async def test_logout_at_the_provider_ends_sessions_and_tokens(
    front: Front, names: dict[str, Any]
) -> None:
    alice, bob = await front.signed_in(), await front.signed_in("bob")
    await front.signed_in()
    token, sid_token = stolen(front), front.site.issuer.token(sid="sid-alice", jti="cli")
    for good in (token, sid_token):
        assert (await front.site.ask(body=QUESTION, token=good)).status == 200
    response = await front.told(front.provider.logout_token(**names))
    assert (response.status, response.body) == (200, b"")
    assert response.headers["cache-control"] == "no-store"
    assert (await alice.get("/")).status == 401
    assert (await bob.get("/")).status == 200
    for dead in (token, sid_token):
        assert (await front.site.ask(body=QUESTION, token=dead)).status == 401
    await front.stop()
    [record] = [r for r in front.decisions() if r["endpoint"] == "portal.backchannel-logout"]
    assert (record["decision"], record["auth"]) == ("allow", "logout_token")


async def test_sessions_of_a_provider_that_names_none_end_with_the_subject(front: Front) -> None:
    front.provider.id_changes = {"sid": None}
    browser, other = await front.signed_in(), await front.signed_in("bob")
    await front.told(front.provider.logout_token(sid="unknown", sub="alice"))
    assert (await browser.get("/")).status == 401
    assert (await other.get("/")).status == 200


async def test_logout_token_is_good_once(front: Front) -> None:
    token = front.provider.logout_token()
    assert (await front.told(token)).status == 200
    front.provider.access_changes = {"iat": int(time.time()) + 5}
    front.provider.id_changes = {"iat": int(time.time()) + 5}
    browser = await front.signed_in()
    replayed = await front.told(token)
    assert replayed.status == 400
    assert replayed.error["code"] == "logout_token_replayed"
    assert (await browser.get("/")).status == 200


@pytest.mark.parametrize(
    ("header", "claims", "reason"),
    [
        ({}, {"nonce": "n"}, "logout_token_nonce"),
        ({}, {"events": None}, "logout_token_event"),
        ({}, {"events": {}}, "logout_token_event"),
        ({}, {"events": [1]}, "logout_token_event"),
        ({}, {"aud": "other"}, "token_audience"),
        ({}, {"iss": "https://other.example.com"}, "token_issuer"),
        ({}, {"iat": int(time.time()) - 400, "exp": None}, "logout_token_expired"),
        ({}, {"exp": int(time.time()) - 100}, "logout_token_expired"),
        ({}, {"iat": int(time.time()) + 400}, "token_not_yet_valid"),
        ({}, {"iat": None}, "token_not_yet_valid"),
        ({}, {"jti": None}, "token_malformed"),
        ({}, {"sid": None}, "token_subject"),
        ({}, {"sid": 7}, "token_malformed"),
        ({"typ": "at+jwt"}, {}, "token_type"),
    ],
)
async def test_logout_token_that_does_not_fit_ends_nothing(
    front: Front, header: dict[str, Any], claims: dict[str, Any], reason: str
) -> None:
    browser = await front.signed_in()
    response = await front.told(front.provider.logout_token(header, **claims))
    assert response.status == 400
    assert response.error["code"] == reason
    assert (await browser.get("/")).status == 200


async def test_forged_or_foreign_logout_token_ends_nothing(front: Front) -> None:
    browser = await front.signed_in()
    head, body, _ = front.provider.logout_token().split(".")
    kept: Sessions = front.portal.application._is.sessions
    [held] = kept._sessions.values()
    for token in (
        "",
        f"eyJhbGciOiJub25lIn0.{body}.",
        f"{head}.{body}.AAAA",
        held.id_token,
        held.access_token,
    ):
        assert (await front.told(token)).status == 400
    assert (await browser.get("/")).status == 200


async def test_logout_that_cannot_be_kept_may_be_told_again(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = await front.signed_in()
    token = front.provider.logout_token()
    revocations = front.site.worker.revocations
    assert revocations is not None
    with monkeypatch.context() as broken:
        broken.setattr(revocations, "revoke", lambda *_, **__: 1 / 0)
        assert (await front.told(token)).status == 500
    assert (await front.told(token)).status == 200
    assert (await browser.get("/")).status == 401


# --- the rest ---------------------------------------------------------------------------------


async def test_nothing_is_decided_without_a_record(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = await front.signed_in()
    audit = front.portal.application._is.audit
    monkeypatch.setattr(type(audit), "healthy", property(lambda _: False))
    for target in ("/", "/login"):
        assert (await browser.get(target)).status == 503


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "en"),
        (b"de", "de"),
        (b"de-AT,de;q=0.9,en;q=0.5", "de"),
        (b"en-GB, de;q=0.9", "en"),
        (b"fr, de;q=0.3, en;q=0.2", "de"),
        (b"fr", "en"),
        (b"de;q=0", "en"),
        (b"de;q=x, \xff", "en"),
        (b"," * 5000, "en"),
    ],
)
async def test_page_speaks_the_readers_language(header: bytes | None, language: str) -> None:
    assert texts.choose(header) == language


async def test_both_languages_say_everything(front: Front) -> None:
    assert texts.TEXTS["de"].keys() == texts.TEXTS["en"].keys()
    page = await front.browser().get("/", headers={"Accept-Language": "de"})
    assert page.status == 401
    assert '<html lang="de">' in page.body.decode()
    assert "Anmelden" in page.body.decode()
    source = "".join(path.read_text() for path in Path(sessions.__file__ or "").parent.glob("*.py"))
    used = set(re.findall(r'ProblemError\([^)]*?, "\w+", "(\w+)"', source))
    assert used
    for name in used | {"provider"}:
        assert f"problem_{name}" in texts.TEXTS["en"], name


async def test_reload_shows_other_rights_and_keeps_sessions(front: Front) -> None:
    browser = await front.signed_in()
    values = copy.deepcopy(front.site.settings)
    values["access"][0]["models"] = ["big"]
    front.portal.reload(config.parse(json.dumps(values), "test"))
    page = await browser.get("/")
    assert "<td>big</td>" in page.body.decode()
    assert "<td>smollm</td>" not in page.body.decode()
    values["portal"]["client_id"] = "other"
    with pytest.raises(ConfigError, match="restart instead"):
        front.portal.reload(config.parse(json.dumps(values), "test"))


async def test_floods_of_begun_logins_cost_no_memory(front: Front) -> None:
    known: logins.Logins = front.portal.application._is.sign_in._logins
    for _ in range(50):
        assert (await front.browser().get("/login")).status == 303
    assert not known._used


async def test_protocol_errors_are_refused_and_recorded(front: Front) -> None:
    client = await Client.open(front.portal.address)
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: x\r\n\r\n")
    assert (await client.response()).status == 400
    await client.close()
    client = await Client.open(front.portal.address)
    size = 200_000
    client.request("POST", "/chat", body=secrets.token_bytes(size))
    assert (await client.response()).status == 413
    await client.close()
    await front.stop()
    assert [r["reason"] for r in front.decisions()] == ["malformed_http", "body_too_large"]
