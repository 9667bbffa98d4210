"""Mistakes in the configuration are reported with file, key, value and what to do."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from services.policy_gateway.tests.support import settings
from tresor_gateway import __main__ as program
from tresor_gateway import config
from tresor_gateway.errors import ConfigError
from tresor_gateway.keys import load

GOOD = settings(Path("/srv/example"), ["http://127.0.0.1:8100"])

ACCOUNT = {
    "service_account": "nightly",
    "client_id": "batch",
    "models": ["smollm"],
    "endpoints": ["models"],
}

PORTAL = {
    "url": "http://127.0.0.1:8082",
    "tcp": "127.0.0.1:8082",
    "client_id": "portal",
    "authorization_endpoint": "http://127.0.0.1:1/auth",
    "token_endpoint": "http://127.0.0.1:1/token",
}


def changed(path: str, value: Any) -> str:
    data: Any = copy.deepcopy(GOOD)
    place = data
    *parents, last = path.split(".")
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place.setdefault(name, {})
    if value is ...:
        del place[last]
    else:
        place[last] = value
    if isinstance(value, dict):
        place[last] = {key: part for key, part in value.items() if part is not ...}
    return json.dumps(data)


def test_good_configuration_passes() -> None:
    assert config.parse(json.dumps(GOOD), "f").models[0].name == "smollm"


def test_portal_of_a_stand_alone_gateway_passes() -> None:
    assert config.parse(changed("portal", PORTAL), "f").portal is not None


def test_portal_of_several_processes_needs_a_shared_list() -> None:
    data = {**GOOD, "portal": PORTAL, "workers": 2}
    with pytest.raises(ConfigError, match=r"identity\.revocations: is required for a portal"):
        config.parse(json.dumps(data), "f")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("access.0.group", ..., ["access[0]", "exactly one of group and service_account"]),
        ("access.0.service_account", "a", ["access[0]", "exactly one of group"]),
        ("access.0.client_id", "a", ["group 'llm-users'", "belong to a service_account"]),
        ("access", [{**ACCOUNT, "client_id": None}], ["'nightly'", "nothing says how"]),
        ("access", [{**ACCOUNT, "client_id": None, "subject": "x"}], ["means nothing without"]),
        ("access", [{**ACCOUNT, "certificate": "IP:192.0.2.1"}], ["certificate", "IP:192.0.2.1"]),
        ("access", [{**ACCOUNT, "certificate": "DNS:*.a.example"}], ["one full name"]),
        ("access", [{**ACCOUNT, "certificate": "DNS:A.example"}], ["in lower case"]),
        ("access", [ACCOUNT, {**ACCOUNT, "service_account": "b"}], ["'batch'", "'nightly'"]),
        ("identity.revocations", {"file": "r"}, ["identity.revocations.file", "absolute"]),
        ("identity.revocations", {"file": "/r", "keep_seconds": 1}, ["keep_seconds", "'1'"]),
        ("portal", {**PORTAL, "tcp": ...}, ["portal", "exactly one of socket"]),
        ("portal", {**PORTAL, "tcp": "192.0.2.1:1"}, ["portal.tcp", "loopback"]),
        ("portal", {**PORTAL, "tcp": ..., "socket": "/run/p"}, ["use the same kind"]),
        ("portal", {**PORTAL, "tcp": ..., "socket": "p"}, ["portal.socket", "absolute"]),
        ("portal", {**PORTAL, "scopes": ["profile"]}, ["portal.scopes", "'openid'"]),
        ("portal", {**PORTAL, "url": "https://a/b"}, ["portal.url", "without a path"]),
        ("portal", {**PORTAL, "url": "http://a"}, ["portal.url", "https://"]),
        ("portal", {**PORTAL, "token_endpoint": "http://a/t"}, ["token_endpoint", "https://"]),
        ("portal", {**PORTAL, "token_endpoint": "https://a/t"}, ["ca_file", "is required"]),
        ("portal", {**PORTAL, "end_session_endpoint": "x"}, ["end_session_endpoint", "'x'"]),
        ("portal", {**PORTAL, "authorization_endpoint": "https://a/\n"}, ["authorization_endpo"]),
        ("portal", {**PORTAL, "client": "x"}, ["portal.client", "unknown key", "client_id"]),
        ("portal", {**PORTAL, "idle_seconds": 1}, ["portal.idle_seconds", "'1'"]),
        ("wokers", 2, ["wokers", "unknown key", "'workers'"]),
        ("limits.max_body", 2, ["limits.max_body", "unknown key", "max_body_bytes"]),
        ("workers", "two", ["workers", "'two'", "expected `int`"]),
        ("workers", 0, ["workers", "'0'", ">= 1"]),
        ("identity.issuer", ..., ["identity.issuer", "is required"]),
        ("identity.algorithms", ["none"], ["identity.algorithms[0]", "none"]),
        ("identity.algorithms", ["HS256"], ["HS256"]),
        ("identity.algorithms", [], ["identity.algorithms"]),
        ("identity.clock_skew_seconds", 61, ["identity.clock_skew_seconds", "61"]),
        ("identity.jwks.url", "https://idp.example.com/jwks", ["exactly one of url"]),
        ("identity.jwks", {"url": "http://a/jwks", "ca_file": "/x"}, ["https://"]),
        ("identity.jwks", {"url": "https://a/jwks"}, ["ca_file", "is required"]),
        ("identity.jwks", {"file": "/x", "crl_file": "/y"}, ["crl_file", "means nothing"]),
        ("listen", {}, ["listen", "exactly one"]),
        ("listen.tcp", "192.0.2.7:80", ["listen.tcp", "192.0.2.7", "loopback"]),
        ("listen.tcp", "127.0.0.1", ["listen.tcp"]),
        ("listen", {"sockets": "run"}, ["listen.sockets", "absolute"]),
        ("listen", {"sockets": "/run/x"}, ["keys", "is required"]),
        ("workers", 2, ["keys", "is required"]),
        ("admin", {"tcp": "192.0.2.1:9100"}, ["admin.tcp", "loopback"]),
        ("models.0.replicas.0.url", "http://198.51.100.31:8100", ["plain http"]),
        ("models.0.replicas.0.url", "https://gpu1.example.com:8100", ["mutual TLS"]),
        ("models.0.replicas.0.url", "https://gpu1.example.com", ["https://host:port"]),
        ("models.0.replicas.0.url", "ftp://a:1", ["https://host:port"]),
        ("models.0.replicas.0.ca_file", "/x.pem", ["replicas[0].ca_file", "means nothing"]),
        ("audit.deadline_seconds", 0, ["audit.deadline_seconds", "0.1"]),
        ("models.0.replicas", [], ["models[0].replicas"]),
        ("models.1.aliases", ["small"], ["'small'", "unique"]),
        ("models.0.task", "poetry", ["models[0].task", "poetry"]),
        ("access.0.models", ["smol"], ["access[0]", "'smol' is no model", "smollm"]),
        ("access.0.endpoints", ["images"], ["access[0].endpoints[0]", "images"]),
        ("access.1.endpoints", ["chat.completions"], ["fits none of its models"]),
        ("audit.directory", "log", ["audit.directory", "absolute"]),
        ("audit.commit_milliseconds", 51, ["audit.commit_milliseconds", "51"]),
    ],
)
def test_mistake_is_explained(path: str, value: Any, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(changed(path, value), "gateway.yml")
    message = str(caught.value)
    assert message.startswith("gateway.yml: ")
    for word in words:
        assert word in message


@pytest.mark.parametrize("text", ["", "a: b: c", "[1]", "x"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"gateway\.yml"):
        config.parse(text, "gateway.yml")


def test_check_says_ok_or_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gateway.yml"
    path.write_text(json.dumps(GOOD))
    assert program.main(["--config", str(path), "--check"]) == 0
    path.write_text(changed("workers", 0))
    assert program.main(["--config", str(path), "--check"]) == program.EXIT_CONFIG
    assert program.main(["--config", str(tmp_path / "none"), "--check"]) == program.EXIT_CONFIG
    assert "workers" in capsys.readouterr().err


def test_short_secret_is_refused(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"x" * 31)
    keys = {"pseudonym_file": str(tmp_path / "short"), "cache_salt_file": str(tmp_path / "short")}
    with pytest.raises(ConfigError, match="31 bytes"):
        load(config.parse(changed("keys", keys), "f"))


def test_credential_needs_a_unit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(ConfigError, match="LoadCredential"):
        config.secret_path("credential:key")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert config.secret_path("credential:key") == tmp_path / "key"
