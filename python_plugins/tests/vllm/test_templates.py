"""What the role vllm writes for instances that the lab does not have: embeddings and GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from python_plugins.tests.play_call import run_play

ROOT = Path(__file__).parents[3]
ROLE = ROOT / "roles" / "vllm"
DIGEST = "ab" * 32

INSTANCES = [
    {
        "id": "chat-a",
        "artefact": "big",
        "environment": "vllm",
        "port": 8100,
        "device": "cuda",
        "task": "chat",
        "served_names": ["big", "default"],
        "args": {"tensor_parallel_size": 4, "enable_prefix_caching": False},
        "env": {"VLLM_HOST_IP": "198.51.100.31", "NOTE": 'a "quoted" \\ value'},
    },
    {
        "id": "embed-a",
        "artefact": "small",
        "environment": "vllm",
        "port": 8101,
        "device": "cpu",
        "task": "embedding",
        "served_names": ["small"],
    },
]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Render unit and instance files of a host with both instances."""
    folder = tmp_path_factory.mktemp("rendered")
    lookup = "lookup('ansible.builtin.template', role ~ '/templates/{}')"
    unit = "etc/systemd/system/tresor-vllm@.service.j2"
    given = {
        "role": str(ROLE),
        "vllm_instances": INSTANCES,
        "vllm_models": {
            name: {"digest": f"sha256:{DIGEST}", "files": [{"path": "config.json"}]}
            for name in ("big", "small")
        },
        "vllm_bind_address": "198.51.100.31",
        "vllm_allowed_clients": ["198.51.100.20/32", "2001:db8:51::20/128"],
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
                "ansible.builtin.copy": {
                    "content": "{{ " + lookup.format(name) + " }}",
                    "dest": f"{folder}/{target}",
                    "mode": "0600",
                }
            }
            for name, target in ((unit, "unit"), ("instance_files.yml.j2", "files.yml"))
        ],
    }
    # Where the templates' own lookups search, as they do in the role.
    (folder / "templates").symlink_to(ROLE / "templates")
    done = run_play(play, folder / "play.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def content(rendered: Path, name: str) -> str:
    entries: list[dict[str, Any]] = yaml.safe_load((rendered / "files.yml").read_text())
    (found,) = (e["content"] for e in entries if e["path"] == f"/etc/tresor/vllm/{name}")
    return str(found)


def test_arguments_of_the_catalogue_reach_the_engine(rendered: Path) -> None:
    config = yaml.safe_load(content(rendered, "chat-a.yaml"))
    assert config["tensor-parallel-size"] == 4
    assert config["enable-prefix-caching"] is False
    assert config["served-model-name"] == ["big", "default"]
    assert config["model"] == f"/opt/tresor/models/{DIGEST}"
    assert config["load-format"] == "safetensors"
    assert config["host"] == "198.51.100.31"
    assert "runner" not in config


def test_embedding_instance_runs_as_pooling(rendered: Path) -> None:
    config = yaml.safe_load(content(rendered, "embed-a.yaml"))
    assert (config["runner"], config["port"]) == ("pooling", 8101)


def test_environment_is_offline_and_quoted(rendered: Path) -> None:
    lines = content(rendered, "chat-a.env").splitlines()
    assert 'HF_HUB_OFFLINE="1"' in lines
    assert 'VLLM_NO_USAGE_STATS="1"' in lines
    assert r'NOTE="a \"quoted\" \\ value"' in lines


def test_engine_talks_on_loopback_unless_told_otherwise(rendered: Path) -> None:
    assert 'VLLM_HOST_IP="127.0.0.1"' in content(rendered, "embed-a.env").splitlines()
    assert 'VLLM_HOST_IP="198.51.100.31"' in content(rendered, "chat-a.env").splitlines()
    assert 'GLOO_SOCKET_IFNAME="lo"' in content(rendered, "embed-a.env").splitlines()


def test_gpu_host_opens_the_drivers_devices_only(rendered: Path) -> None:
    lines = (rendered / "unit").read_text().splitlines()
    assert "DevicePolicy=closed" in lines
    assert "DeviceAllow=char-nvidia* rw" in lines
    assert "PrivateDevices=yes" not in lines


def test_unit_demands_client_certificates_and_known_peers(rendered: Path) -> None:
    text = (rendered / "unit").read_text()
    assert "--ssl-cert-reqs 2" in text
    assert "IPAddressDeny=any" in text
    assert "IPAddressAllow=localhost 198.51.100.31 198.51.100.20/32 2001:db8:51::20/128\n" in text
