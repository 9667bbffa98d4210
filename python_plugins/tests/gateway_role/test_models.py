"""What the role policy_gateway writes about models that the plan took from the catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from python_plugins.tests.play_call import run_play

ROLE = Path(__file__).parents[3] / "roles" / "policy_gateway"
TEMPLATE = "etc/tresor/gateway/gateway.yml.j2"
INSTANCES = [
    {
        "id": "small-gpu3",
        "host": "gpu3",
        "port": 8100,
        "artefact": "small",
        "served_names": ["chat-small"],
        "args": {"max_model_len": 32768},
    },
    {
        "id": "large-gpu1",
        "host": "gpu1",
        "port": 8100,
        "artefact": "large",
        "served_names": ["chat-large"],
        "args": {"max_model_len": 131072},
    },
]
MODELS = [
    {
        "name": "chat-small",
        "aliases": ["fast"],
        "task": "chat",
        "instances": ["small-gpu3"],
        "fallback": "chat-large",
    },
    {
        "name": "claims",
        "aliases": [],
        "task": "chat",
        "instances": ["small-gpu3"],
        "adapter_of": "chat-small",
        "artefact": "claims-adapter",
    },
    {"name": "chat-large", "aliases": [], "task": "chat", "instances": ["large-gpu1"]},
]
ROUTES = [
    {
        "name": "auto",
        "default": "chat-large",
        "rules": [{"model": "chat-small", "max_characters": 2000}],
    }
]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("gateway")
    given = {
        "role": str(ROLE),
        "policy_gateway_models": MODELS,
        "policy_gateway_instances": INSTANCES,
        "policy_gateway_artefacts": {
            name: {"digest": f"sha256:{name}"} for name in ("small", "large", "claims-adapter")
        },
        "policy_gateway_host_names": {"gpu1": "gpu1.example.com", "gpu3": "gpu3.example.com"},
        "policy_gateway_host_name": "gateway1",
        "policy_gateway_routes": ROUTES,
        "policy_gateway_access": [],
        "policy_gateway_model_options": {"chat-large": {"affinity": False}},
        "policy_gateway_identity": {
            "issuer": "https://idp.example.com",
            "audience": "llm",
            "algorithms": ["RS256"],
            "groups_claim": "groups",
            "clock_skew_seconds": 30,
            "jwks_uri": "https://idp.example.com/keys",
            "jwks_refresh_seconds": 300,
            "jwks_max_age_seconds": 86400,
        },
    }
    (folder / "given.yml").write_text(yaml.safe_dump(given))
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [
            str(ROLE / "defaults/main.yml"),
            str(ROLE / "vars/main.yml"),
            str(folder / "given.yml"),
        ],
        "tasks": [
            {
                "ansible.builtin.template": {
                    "src": str(ROLE / "templates" / TEMPLATE),
                    "dest": str(folder / "gateway.yml"),
                    "mode": "0600",
                }
            }
        ],
    }
    done = run_play(play, folder / "play.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = yaml.safe_load((folder / "gateway.yml").read_text())
    return found


def model(written: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in written["models"] if one["name"] == name]
    return dict(found)


def test_adapter_is_asked_for_by_its_name_on_the_engines_of_its_model(
    written: dict[str, Any],
) -> None:
    claims = model(written, "claims")

    assert claims["replicas"] == [{"url": "https://gpu3.example.com:8100", "served_name": "claims"}]
    assert claims["artefact_digest"] == "sha256:claims-adapter"
    assert claims["context_tokens"] == 32768


def test_model_keeps_its_own_name_and_gets_its_fallback(written: dict[str, Any]) -> None:
    small = model(written, "chat-small")

    assert small["replicas"][0]["served_name"] == "chat-small"
    assert small["artefact_digest"] == "sha256:small"
    assert small["fallback"] == "chat-large"
    assert "fallback" not in model(written, "chat-large")
    assert model(written, "chat-large")["affinity"] is False


def test_models_and_routes_are_what_the_service_reads(written: dict[str, Any]) -> None:
    import msgspec

    from tresor_gateway import config_schema as schema

    models = msgspec.convert(written["models"], list[schema.Model])
    routes = msgspec.convert(written["routes"], list[schema.Route])

    assert [one.name for one in models] == ["chat-small", "claims", "chat-large"]
    assert routes[0].rules[0].max_characters == 2000
