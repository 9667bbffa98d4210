"""Keys come, go and grow old; tokens are remembered for a minute at most."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from services.policy_gateway.tests.conftest import MakeSite
from services.policy_gateway.tests.support import (
    AUDIENCE,
    ISSUER,
    QUESTION,
    Issuer,
    Site,
    replaces_methods,
)
from tresor_gateway import config_schema as schema
from tresor_gateway.access import AccessTable
from tresor_gateway.api.errors import ApiError
from tresor_gateway.errors import KeysError
from tresor_gateway.identity.authenticator import Authenticator, KeysNeededError
from tresor_gateway.identity.jwks import MAX_JWKS_BYTES, parse
from tresor_gateway.identity.keystore import KeyStore
from tresor_gateway.identity.tokens import TokenPolicy
from tresor_gateway.keys import SiteKeys

pytestmark = pytest.mark.asyncio

POLICY = TokenPolicy(
    ISSUER, AUDIENCE, frozenset({"RS256"}), frozenset({"at+jwt"}), "groups", None, 30.0
)


class Provider:
    """A provider whose answer and clocks belong to the test."""

    def __init__(self, data: bytes) -> None:
        self.data: bytes | None = data
        self.failure: Exception = KeysError("provider is down")
        self.fetches = 0
        self.monotonic = 1000.0
        self.wall = 0.0

    def fetch(self) -> bytes:
        self.fetches += 1
        if self.data is None:
            raise self.failure
        return self.data

    def store(self, **changes: Any) -> KeyStore:
        values: dict[str, Any] = {
            "refresh_seconds": 300,
            "max_age_seconds": 3600,
            "cooldown_seconds": 30,
            **changes,
        }
        return KeyStore(self, clock=lambda: self.monotonic, wall=lambda: self.wall, **values)


def authenticator(provider: Provider, store: KeyStore) -> Authenticator:
    rule = schema.AccessRule(group="llm-users", models=["m"], endpoints=["chat.completions"])
    return Authenticator(
        store,
        POLICY,
        AccessTable([rule], {"m": "chat"}),
        SiteKeys(b"p" * 32, b"s" * 32),
        cache_seconds=60,
        cache_entries=2,
        clock=lambda: provider.monotonic,
        wall=lambda: provider.wall,
    )


def provider_of(issuer: Issuer, *keys: Any) -> Provider:
    provider = Provider(issuer.jwks(*(keys or (issuer.key,))))
    provider.wall = float(issuer.claims()["iat"])
    return provider


def bearer(token: str) -> bytes:
    return b"Bearer " + token.encode()


async def test_outage_is_bridged_until_the_maximum_age_then_closed(issuer: Issuer) -> None:
    provider = provider_of(issuer)
    store = provider.store()
    await store.start()
    check = authenticator(provider, store)
    header = bearer(issuer.token(exp=int(provider.wall) + 100_000))
    provider.data = None
    provider.monotonic += 3600
    await store.refresh()
    assert check.authenticate(header).client == "cli"
    provider.monotonic += 1
    with pytest.raises(KeysNeededError):
        provider.monotonic += 30
        check.authenticate(header)
    await check.refresh()
    with pytest.raises(ApiError) as caught:
        check.authenticate(header, may_refetch=False)
    assert (caught.value.status, caught.value.reason) == (503, "identity_unavailable")


async def test_unknown_key_is_fetched_once_within_the_cooldown(issuer: Issuer) -> None:
    provider = provider_of(issuer)
    store = provider.store()
    await store.start()
    check = authenticator(provider, store)
    header = bearer(issuer.token(key=issuer.next))
    with pytest.raises(ApiError) as caught:
        check.authenticate(header)
    assert caught.value.reason == "token_key_unknown"
    provider.monotonic += 31
    with pytest.raises(KeysNeededError):
        check.authenticate(header)
    provider.data = issuer.jwks(issuer.key, issuer.next)
    await check.refresh()
    assert check.authenticate(header).client == "cli"
    assert provider.fetches == 2


async def test_rotation_drops_remembered_tokens(issuer: Issuer) -> None:
    provider = provider_of(issuer)
    store = provider.store()
    await store.start()
    check = authenticator(provider, store)
    header = bearer(issuer.token())
    first = check.authenticate(header)
    assert check.authenticate(header) is first
    provider.data = issuer.jwks(issuer.next)
    await store.refresh()
    with pytest.raises(ApiError) as caught:
        check.authenticate(header, may_refetch=False)
    assert caught.value.reason == "token_key_unknown"


async def test_remembered_token_ends_with_its_expiry(issuer: Issuer) -> None:
    provider = provider_of(issuer)
    store = provider.store()
    await store.start()
    check = authenticator(provider, store)
    header = bearer(issuer.token(exp=int(provider.wall) + 20))
    check.authenticate(header)
    provider.wall += 51
    with pytest.raises(ApiError) as caught:
        check.authenticate(header)
    assert caught.value.reason == "token_expired"


async def test_token_memory_is_bounded(issuer: Issuer) -> None:
    provider = provider_of(issuer)
    store = provider.store()
    await store.start()
    check = authenticator(provider, store)
    for number in range(5):
        check.authenticate(bearer(issuer.token(jti=str(number))))
    assert len(check._cache) == 2


async def test_clock_step_does_not_prolong_the_keys(issuer: Issuer) -> None:
    provider = provider_of(issuer)
    store = provider.store()
    await store.start()
    provider.monotonic += 3601
    provider.wall -= 100_000
    assert store.current() is None


async def test_cache_on_disk_serves_a_restart_without_the_provider(
    issuer: Issuer, tmp_path: Path
) -> None:
    provider = provider_of(issuer)
    cache = tmp_path / "jwks.cache"
    await provider.store(cache_file=cache).start()
    provider.data = None
    provider.wall += 3000
    later = provider.store(cache_file=cache)
    await later.start()
    assert later.current() is not None
    provider.monotonic += 601
    assert later.current() is None


@pytest.mark.parametrize("step", [3601, -10])
async def test_cache_of_the_wrong_age_is_not_used(
    issuer: Issuer, tmp_path: Path, step: int
) -> None:
    provider = provider_of(issuer)
    cache = tmp_path / "jwks.cache"
    await provider.store(cache_file=cache).start()
    provider.data = None
    provider.wall += step
    later = provider.store(cache_file=cache)
    await later.start()
    assert later.current() is None


@pytest.mark.parametrize("content", [b"", b"{}", b'{"fetched":0,"document":"!"}', b"\xff"])
async def test_damaged_cache_is_ignored(issuer: Issuer, tmp_path: Path, content: bytes) -> None:
    cache = tmp_path / "jwks.cache"
    cache.write_bytes(content)
    provider = provider_of(issuer)
    store = provider.store(cache_file=cache)
    await store.start()
    assert store.current() is not None


async def test_bad_answer_of_the_provider_keeps_the_old_keys(issuer: Issuer) -> None:
    provider = provider_of(issuer)
    store = provider.store()
    await store.start()
    provider.data = b"<html>"
    assert not await store.refresh()
    assert store.current() is not None


async def test_unexpected_failure_is_a_failed_fetch(issuer: Issuer) -> None:
    provider = provider_of(issuer)
    store = provider.store(refresh_seconds=0.001)
    await store.start()
    good, provider.data, provider.failure = provider.data, None, RuntimeError("no threads left")
    assert not await store.refresh()
    assert store.failures == 1
    assert store.current() is not None
    running = asyncio.create_task(store.run())
    async with asyncio.timeout(10):
        while store.failures < 3:
            await asyncio.sleep(0)
        provider.data = good
        while store.failures:
            await asyncio.sleep(0)
    running.cancel()


async def test_long_outage_is_a_line_a_minute_at_most_and_its_end_is_told(
    issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    provider = provider_of(issuer)
    store = provider.store()
    await store.start()
    began, good = provider.monotonic, provider.data
    provider.data = None
    told: list[float] = []
    with caplog.at_level(logging.INFO, "tresor_gateway.identity.keystore"):
        for _ in range(2 * 720):
            caplog.clear()
            await store.refresh()
            told += [provider.monotonic - began for _ in caplog.records]
            provider.monotonic += 5
        provider.data = good
        caplog.clear()
        await store.refresh()
        await store.refresh()
    pauses = [later - earlier for earlier, later in itertools.pairwise(told)]
    assert told[0] == 0
    assert pauses == sorted(pauses)
    assert pauses[0] == 60
    assert pauses[-1] > pauses[0]
    assert len(told) < 20
    [recovery] = caplog.messages
    assert "1440 failed attempts" in recovery
    provider.data = None
    caplog.clear()
    await store.refresh()
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys":[]}',
        b'{"keys":{}}',
        b'{"keys":[{"kty":"oct","k":"AAAA","kid":"k1"}]}',
        b'{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}',
        b'{"keys":[7]}',
        b'{"keys":[' + b'{"kty":"RSA"},' * 64 + b'{"kty":"RSA"}]}',
        b" " * (MAX_JWKS_BYTES + 1),
        b"[" * 100_000,
    ],
)
async def test_unusable_key_set_is_refused(data: bytes) -> None:
    with pytest.raises(KeysError):
        parse(data)


async def test_encryption_key_is_never_used_for_signatures(issuer: Issuer) -> None:
    public = issuer.key.as_dict(private=False) | {"use": "enc"}
    document = json.dumps({"keys": [public, issuer.next.as_dict(private=False)]})
    assert [key.kid for key in parse(document.encode()).keys] == ["k2"]


async def test_new_key_is_accepted_at_the_first_request(make_site: MakeSite) -> None:
    site: Site = await make_site()
    token = site.issuer.token(key=site.issuer.next)
    assert (await site.ask(body=QUESTION, token=token)).status == 401
    (site.folder / "jwks.json").write_bytes(site.issuer.jwks(site.issuer.key, site.issuer.next))
    assert (await site.ask(body=QUESTION, token=token)).status == 200


async def test_gateway_without_keys_refuses_with_503(make_site: MakeSite, tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_bytes(b"{}")
    site: Site = await make_site()
    response = await site.ask(body=QUESTION)
    assert response.status == 503
    assert response.error["code"] == "identity_unavailable"


@replaces_methods
async def test_refresh_that_fails_unexpectedly_is_answered_and_recorded(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site: Site = await make_site()

    async def refresh(self: Authenticator) -> None:
        raise RuntimeError("no threads left")

    monkeypatch.setattr(Authenticator, "refresh", refresh)
    response = await site.ask(body=QUESTION, token=site.issuer.token(key=site.issuer.next))
    assert response.status == 500
    await site.stop()
    [record] = site.decisions()
    assert (record["decision"], record["reason"]) == ("error", "internal_error")
