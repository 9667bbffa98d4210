"""Tokens, key sets and configuration files that are not what they should be."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.policy_gateway.tests.support import AUDIENCE, FUZZ, ISSUER, Issuer, Site, settings
from tresor_gateway import config
from tresor_gateway.errors import ConfigError, KeysError
from tresor_gateway.identity.jwks import KeySet, parse
from tresor_gateway.identity.tokens import TokenPolicy, TokenRefusedError, verify

POLICY = TokenPolicy(
    ISSUER,
    AUDIENCE,
    frozenset({"RS256", "ES256", "EdDSA"}),
    frozenset({"at+jwt"}),
    "groups",
    "tenant",
    30.0,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def keys(issuer: Issuer) -> KeySet:
    return parse(issuer.jwks(issuer.key))


def encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


# --- key sets ------------------------------------------------------------------------------------

MEMBERS = {"kty", "n", "e", "crv", "x", "y", "kid", "alg", "use", "key_ops", "d", "k", "x5c"}


@pytest.mark.parametrize(
    "change",
    [
        {"key_ops": 5},
        {"key_ops": None},
        {"use": None},
        {"use": ["sig"]},
        {"n": 5},
        {"n": "\u00e9"},
        {"n": "A" * 20_000},
        {"e": "AA"},
        {"kid": 5},
        {"kty": []},
        {"kty": "EC", "crv": [], "x": 1, "y": 2},
        {"kty": "EC", "crv": "P-999", "x": "AA", "y": "AA"},
        {"kty": "OKP", "crv": {}, "x": None},
    ],
)
def test_strange_key_does_not_cost_the_others(issuer: Issuer, change: dict[str, Any]) -> None:
    good = issuer.key.as_dict(private=False)
    data = json.dumps({"keys": [{**good, **change}, good]}).encode()
    assert [key.kid for key in parse(data).keys][-1:] == ["k1"]


@FUZZ
@given(
    keys=st.lists(
        st.dictionaries(
            st.sampled_from(sorted(MEMBERS)),
            JSON | st.sampled_from(["RSA", "EC", "OKP", "P-256", "Ed25519", "sig", "AQAB"]),
        )
        | JSON,
        max_size=4,
    )
)
def test_key_set_is_read_or_refused(keys: list[Any]) -> None:
    try:
        parse(json.dumps({"keys": keys}).encode())
    except KeysError:
        return


@FUZZ
@given(data=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_key_set_is_refused(data: bytes) -> None:
    with pytest.raises(KeysError):
        parse(data)


def test_key_set_of_ten_megabytes_is_refused_before_it_is_read(issuer: Issuer) -> None:
    key = issuer.key.as_dict(private=False)
    data = json.dumps({"keys": [key], "x": "x" * (10 << 20)}).encode()
    began = time.perf_counter()
    with pytest.raises(KeysError, match="larger"):
        parse(data)
    assert time.perf_counter() - began < 0.1


def test_two_keys_with_one_name_are_no_key_for_it(issuer: Issuer) -> None:
    doubled = parse(issuer.jwks(issuer.key, issuer.other))
    with pytest.raises(TokenRefusedError) as caught:
        verify(issuer.token().encode(), doubled, POLICY, time.time())
    assert caught.value.reason == "token_key_unknown"


# --- tokens --------------------------------------------------------------------------------------


@FUZZ
@given(
    header=st.dictionaries(
        st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jwk", "x5c", "jku", "zip", "cty"]),
        JSON | st.sampled_from(["RS256", "none", "HS256", "EdDSA", "at+jwt", "k1"]),
    ),
    data=st.data(),
)
def test_header_of_a_token_never_opens_the_door(
    issuer: Issuer, keys: KeySet, header: dict[str, Any], data: st.DataObject
) -> None:
    good = issuer.token().encode().split(b".")
    base = {"alg": "RS256", "typ": "at+jwt", "kid": "k1"} if data.draw(st.booleans()) else {}
    parts = [encoded(json.dumps({**base, **header}).encode()), *good[1:]]
    if parts[0] == good[0]:
        return
    with pytest.raises(TokenRefusedError):
        verify(b".".join(parts), keys, POLICY, time.time())


@FUZZ
@given(where=st.integers(0, 2), at=st.floats(0, 1), new=st.binary(min_size=1, max_size=4))
def test_changed_byte_of_a_token_never_opens_the_door(
    issuer: Issuer, keys: KeySet, where: int, at: float, new: bytes
) -> None:
    parts = issuer.token().encode().split(b".")
    position = int(at * len(parts[where]))
    old = parts[where]
    parts[where] = old[:position] + new + old[position + len(new) :]
    if parts[where] == old:
        return
    with pytest.raises(TokenRefusedError):
        verify(b".".join(parts), keys, POLICY, time.time())


@pytest.mark.parametrize("depth", [10, 400, 800, 900, 960, 985, 1000, 10_000])
def test_nested_header_is_refused(issuer: Issuer, keys: KeySet, depth: int) -> None:
    _, payload, signature = issuer.token().encode().split(b".")
    header = b'{"alg":"RS256","typ":"at+jwt","kid":"k1","x":' + b"[" * depth + b"]" * depth + b"}"
    with pytest.raises(TokenRefusedError):
        verify(b".".join([encoded(header), payload, signature]), keys, POLICY, time.time())


@FUZZ
@given(
    claims=st.dictionaries(
        st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "groups", "azp", "jti"])
        | st.just("tenant"),
        JSON | st.floats() | st.just(10**400),
    )
)
def test_signed_nonsense_is_refused_or_understood(
    issuer: Issuer, keys: KeySet, claims: dict[str, Any]
) -> None:
    try:
        found = verify(issuer.token(**claims).encode(), keys, POLICY, time.time())
    except TokenRefusedError:
        return
    assert found.subject
    assert all(isinstance(group, str) for group in found.groups)
    assert found.expires > time.time() - 31


@pytest.mark.asyncio
async def test_header_with_other_letters_than_a_token_has_is_refused(site: Site) -> None:
    token = site.issuer.token()
    for value in (
        f"{token}=",
        f"{token}~",
        f" {token}",
        f"{token} x",
        "\u00e9",
        f"{token},{token}",
    ):
        client = await site.client()
        client.send(
            f"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {value}\r\n\r\n".encode()
        )
        status = (await client.response()).status
        # Spaces around a token are no part of it.
        assert status == (200 if value.strip() == token else 401), value


# --- configuration -----------------------------------------------------------------------------

GOOD = json.dumps(settings(Path("/srv/example"), ["http://127.0.0.1:8100"]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 500, "nested too deeply"),
        ('a: "\\ud800"', "half a character"),
        ("a: 2024-13-45", "cannot be read"),
        ("a: 1" + "9" * 6000, "cannot be read"),
        ("a: !!int x", "cannot be read"),
        ("a: !!timestamp x", "cannot be read"),
        ("a: !!python/object/apply:os.system [x]", "not YAML"),
        ("a: &a [*a]", "unknown key"),
        ("limits:\n  max_inputs: 1\n  max_inputs: 2", "'max_inputs' is there twice"),
        (GOOD[:-1] + ', "access": []}', "'access' is there twice"),
        (GOOD.replace("http://127.0.0.1:8100", "http://[::1"), "write https://host:port"),
        (GOOD.replace("http://127.0.0.1:8100", "http://a:99999"), "write https://host:port"),
        (GOOD.replace('"file"', '"url": "https://[::1", "x"'), "unknown key"),
        (GOOD.replace('"file": "/srv/example/jwks.json"', '"url": "https://[a"'), "https://host"),
        (
            GOOD.replace('"file": "/srv/example/jwks.json"', '"url": "https://a:99999/"'),
            "https://host",
        ),
        (GOOD.replace("127.0.0.1:0", "127.0.0.1:\u0663"), "is not a port"),
        (GOOD.replace("127.0.0.1:0", "127.0.0.1:-1"), "is not a port"),
    ],
)
def test_mistake_in_the_file_is_one_clear_message(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(text, "gateway.yml")
    assert words in str(caught.value)
    assert str(caught.value).startswith("gateway.yml: ")


@FUZZ
@given(data=st.data())
def test_changed_file_is_read_or_refused(data: st.DataObject) -> None:
    text = GOOD
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(text)))
        end = position + data.draw(st.integers(0, 12))
        text = text[:position] + data.draw(st.text(max_size=8)) + text[end:]
    try:
        config.parse(text, "gateway.yml")
    except ConfigError as error:
        assert "gateway.yml" in str(error)


@FUZZ
@given(path=st.sampled_from(sorted(json.loads(GOOD))), value=JSON)
def test_section_of_another_kind_is_explained(path: str, value: Any) -> None:
    values = json.loads(GOOD)
    values[path] = value
    try:
        config.parse(json.dumps(values, ensure_ascii=False), "gateway.yml")
    except ConfigError as error:
        assert path in str(error) or "is not YAML" in str(error)
