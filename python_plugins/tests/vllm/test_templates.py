"""What the role vllm writes for instances that the lab does not have: embeddings and GPUs."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from python_plugins.filter.tresor_engine_caches import engine_digest
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
        "args": {
            "tensor_parallel_size": 4,
            "enable_prefix_caching": False,
            "limit_mm_per_prompt": {"image": 2, "video": 0},
        },
        "env": {
            "CUDA_VISIBLE_DEVICES": "0,1,2,3",
            "VLLM_HOST_IP": "198.51.100.31",
            "NOTE": 'a "quoted" \\ value',
        },
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
    {
        "id": "adapted-a",
        "artefact": "big",
        "environment": "vllm",
        "port": 8102,
        "device": "cuda",
        "task": "chat",
        "served_names": ["claims-base"],
        "args": {"gpu_memory_utilization": 0.3},
        "env": {"CUDA_VISIBLE_DEVICES": "4"},
        "lora": [
            {"name": "claims", "artefact": "claims-adapter", "rank": 16},
            {"name": "letters", "artefact": "letters-adapter", "rank": 33},
        ],
    },
    {
        "id": "drafted-a",
        "artefact": "big",
        "environment": "vllm",
        "port": 8103,
        "device": "cuda",
        "task": "chat",
        "served_names": ["drafted"],
        "args": {"gpu_memory_utilization": 0.6, "numa_bind": False},
        "env": {"CUDA_VISIBLE_DEVICES": "4"},
        "speculative": {"method": "eagle3", "tokens": 3, "artefact": "draft"},
    },
    {
        "id": "headed-a",
        "artefact": "big",
        "environment": "vllm",
        "port": 8104,
        "device": "cuda",
        "task": "chat",
        "served_names": ["headed"],
        "env": {"CUDA_VISIBLE_DEVICES": "5"},
        "speculative": {"method": "mtp", "tokens": 1},
    },
    {
        "id": "harmony-a",
        "artefact": "big",
        "environment": "vllm",
        "port": 8105,
        "device": "cuda",
        "task": "chat",
        "served_names": ["gpt-oss"],
        "env": {"CUDA_VISIBLE_DEVICES": "6"},
        "vocabulary": "tiktoken",
    },
]
VOCABULARY = {
    "part": "binaries-tiktoken",
    "digest": f"sha256:{'7c' * 32}",
    "files": [{"path": "o200k_base.tiktoken"}, {"path": "cl100k_base.tiktoken"}],
}
DIGESTS = {
    "big": DIGEST,
    "small": DIGEST,
    "claims-adapter": "c1" * 32,
    "letters-adapter": "1e" * 32,
    "draft": "d5" * 32,
}
FILES = {"draft": [{"path": "draft.json"}], "small": [{"path": "chat_template.jinja"}]}
FILES["big"] = [{"path": "big.json"}, {"path": "chat_template.jinja"}]


def render(folder: Path, **more: Any) -> Path:
    """Render unit, instance files and the list of units into a folder, which is returned."""
    lookup = "lookup('ansible.builtin.template', role ~ '/templates/{}')"
    unit = "etc/systemd/system/tresor-vllm@.service.j2"
    given = {
        "role": str(ROLE),
        "vllm_models": {
            name: {
                "digest": f"sha256:{digest}",
                "files": FILES.get(name, [{"path": f"{name}.json"}]),
            }
            for name, digest in DIGESTS.items()
        },
        "vllm_vocabularies": {"tiktoken": VOCABULARY},
        "vllm_server_name": "gpu1.site.example",
        "vllm_jit_acceptance": True,
        "vllm_cache_locked": True,
        "vllm_gpu": "H100 SXM 80GB",
        "vllm_environments": {"vllm": {"version": "0.33.0", "requirements_sha256": "ee" * 32}},
        "vllm_engine_caches": {
            "headed": {
                "digest": f"sha256:{'ca' * 32}",
                "files": [{"path": "cache.json"}, {"path": "cache.tar"}],
                "fits": {
                    "gpu": "H100 SXM 80GB",
                    "driver": "580.95.05",
                    "requirements_sha256": "ee" * 32,
                    "model_digest": f"sha256:{DIGEST}",
                    "engine_sha256": engine_digest(INSTANCES[-2]),
                },
            }
        },
        "__vllm_module_version": {"content": base64.b64encode(b"580.95.05\n").decode()},
        "__vllm_second_node": {"stat": {"exists": True}},
        "vllm_bind_address": "198.51.100.31",
        "vllm_allowed_clients": ["198.51.100.20/32", "2001:db8:51::20/128"],
        **more,
    }
    (folder / "given.yml").write_text(yaml.safe_dump(given))
    contents = [
        ("{{ " + lookup.format(name) + " }}", target)
        for name, target in (
            (unit, "unit"),
            ("instance_files.yml.j2", "files.yml"),
            ("instance_units.yml.j2", "units.yml"),
            ("drop_ins.yml.j2", "turns.yml"),
        )
    ]
    contents.append(("{{ __vllm_artefacts | to_json }}", "artefacts"))
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
                    "content": text,
                    "dest": f"{folder}/{target}",
                    "mode": "0600",
                }
            }
            for text, target in contents
        ],
    }
    # Where the templates' own lookups search, as they do in the role.
    (folder / "templates").symlink_to(ROLE / "templates")
    done = run_play(play, folder / "play.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Render a host with instances of its own only."""
    return render(tmp_path_factory.mktemp("rendered"), vllm_instances=INSTANCES)


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


def test_adapters_reach_the_engine_under_their_own_names(rendered: Path) -> None:
    config = yaml.safe_load(content(rendered, "adapted-a.yaml"))
    assert config["enable-lora"] is True
    assert config["lora-modules"] == [
        f"claims=/opt/tresor/models/{DIGESTS['claims-adapter']}",
        f"letters=/opt/tresor/models/{DIGESTS['letters-adapter']}",
    ]
    # The smallest rank of vLLM that holds the highest of the adapters.
    assert (config["max-lora-rank"], config["max-loras"]) == (64, 2)
    assert config["served-model-name"] == ["claims-base"]


def test_engine_without_adapters_has_no_adapter_options(rendered: Path) -> None:
    config = yaml.safe_load(content(rendered, "chat-a.yaml"))
    assert not [key for key in config if "lora" in key or "speculative" in key]


def test_draft_model_is_a_verified_folder(rendered: Path) -> None:
    config = yaml.safe_load(content(rendered, "drafted-a.yaml"))
    assert config["speculative-config"] == {
        "method": "eagle3",
        "num_speculative_tokens": 3,
        "model": f"/opt/tresor/models/{DIGESTS['draft']}",
    }


def test_models_own_head_names_no_draft(rendered: Path) -> None:
    config = yaml.safe_load(content(rendered, "headed-a.yaml"))
    assert config["speculative-config"] == {"method": "mtp", "num_speculative_tokens": 1}


@pytest.mark.parametrize(
    ("instance", "artefacts"),
    [
        ("chat-a", ["big"]),
        ("adapted-a", ["big", "claims-adapter", "letters-adapter"]),
        ("drafted-a", ["big", "draft"]),
    ],
)
def test_everything_that_is_loaded_is_verified(
    rendered: Path, instance: str, artefacts: list[str]
) -> None:
    assert json.loads(content(rendered, f"{instance}.model.json")) == [
        {
            "folder": f"/opt/tresor/models/{DIGESTS[name]}",
            "files": FILES.get(name, [{"path": f"{name}.json"}]),
        }
        for name in artefacts
    ]


def test_no_request_makes_an_engine_fetch_media(rendered: Path) -> None:
    config = yaml.safe_load(content(rendered, "chat-a.yaml"))
    assert config["allowed-media-domains"] == ["media.invalid"]
    assert config["limit-mm-per-prompt"] == {"image": 2, "video": 0}


def test_artefacts_of_a_host_hold_adapters_and_drafts(rendered: Path) -> None:
    assert yaml.safe_load((rendered / "artefacts").read_text()) == sorted(DIGESTS)


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


def test_vocabulary_is_named_and_verified_only_where_a_model_needs_it(rendered: Path) -> None:
    folder = f"/opt/tresor/vocabularies/{'7c' * 32}"
    assert f'TIKTOKEN_ENCODINGS_BASE="{folder}"' in content(rendered, "harmony-a.env")
    manifests = json.loads(content(rendered, "harmony-a.model.json"))
    assert manifests[-1] == {"folder": folder, "files": VOCABULARY["files"]}
    assert "TIKTOKEN" not in content(rendered, "chat-a.env")
    assert folder not in content(rendered, "chat-a.model.json")


def test_stacks_of_an_engine_that_is_ended_go_to_its_log(rendered: Path) -> None:
    assert 'PYTHONFAULTHANDLER="1"' in content(rendered, "chat-a.env")


def turns(rendered: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((rendered / "turns.yml").read_text())
    return found


def turn_files(rendered: Path) -> list[dict[str, Any]]:
    return [e for e in turns(rendered)["files"] if e["path"].endswith("/50-gpu-turn.conf")]


def test_only_engines_that_share_a_gpu_get_a_drop_in(rendered: Path) -> None:
    assert [Path(entry["path"]).parent.name for entry in turn_files(rendered)] == [
        "tresor-vllm@adapted-a.service.d",
        "tresor-vllm@drafted-a.service.d",
    ]
    # Who shared one once loses the file again.
    assert len(turns(rendered)["purge"]) == 2 * len(INSTANCES)


def test_drop_in_starts_the_same_engine_when_its_turn_comes(rendered: Path) -> None:
    small, large = (entry["content"] for entry in turn_files(rendered))
    (start,) = [
        line.removeprefix("ExecStart=")
        for line in (rendered / "unit").read_text().splitlines()
        if line.startswith("ExecStart=")
    ]
    lines = small.splitlines()
    assert "After=tresor-vllm@drafted-a.service" in lines
    assert "After=" not in large
    assert lines[-2:] == [
        "ExecStart=",
        "ExecStart=/usr/bin/python3 -I /usr/local/lib/tresor/vllm/gpu_turn.py run "
        f"/etc/tresor/vllm/%i.turn.json -- {start}",
    ]
    assert "TimeoutStartSec=3600" in lines


def test_settings_of_a_turn_name_gpu_rank_and_where_the_engine_answers(rendered: Path) -> None:
    settings = json.loads(content(rendered, "adapted-a.turn.json"))
    assert settings | {"wait": 0} == {
        "instance": "adapted-a",
        "gpus": ["4"],
        "rank": 1,
        "wait": 0,
        "settle": 5,
        "folder": "/var/lib/tresor/vllm-turns",
        "server_name": "gpu1.site.example",
        "address": "198.51.100.31",
        "port": 8102,
    }


def test_units_that_share_a_gpu_start_the_larger_first(rendered: Path) -> None:
    units = yaml.safe_load((rendered / "units.yml").read_text())
    names = [unit["name"].split("@")[1].removesuffix(".service") for unit in units]
    assert names == ["drafted-a", "adapted-a", "chat-a", "embed-a", "headed-a", "harmony-a"]
    assert "/etc/tresor/vllm/drafted-a.turn.json" in units[0]["watch"]
    assert not [path for path in units[2]["watch"] if "turn" in path]


def test_engines_on_gpus_are_bound_to_their_node_unless_the_site_says_no(rendered: Path) -> None:
    assert yaml.safe_load(content(rendered, "chat-a.yaml"))["numa-bind"] is True
    assert 'VLLM_WORKER_MULTIPROC_METHOD="spawn"' in content(rendered, "chat-a.env")
    assert yaml.safe_load(content(rendered, "drafted-a.yaml"))["numa-bind"] is False
    assert "numa-bind" not in yaml.safe_load(content(rendered, "embed-a.yaml"))
    assert "MULTIPROC_METHOD" not in content(rendered, "embed-a.env")


def test_acceptance_makes_a_late_compilation_an_error(rendered: Path) -> None:
    assert yaml.safe_load(content(rendered, "chat-a.yaml"))["jit-monitor-mode"] == "error"
    assert "jit-monitor-mode" not in yaml.safe_load(content(rendered, "embed-a.yaml"))


def test_chat_engines_use_the_reviewed_template(rendered: Path) -> None:
    template = yaml.safe_load(content(rendered, "chat-a.yaml"))["chat-template"]
    assert template == f"/opt/tresor/models/{DIGEST}/chat_template.jinja"
    assert "chat-template" not in yaml.safe_load(content(rendered, "embed-a.yaml"))


@pytest.mark.parametrize(
    "line",
    [
        'VLLM_MAX_N_SEQUENCES="8"',
        'VLLM_MAX_COMPLETION_PROMPTS="32"',
        'VLLM_MAX_STOP_STRINGS="4"',
        'VLLM_REGEX_COMPILATION_TIMEOUT_S="5"',
        'VLLM_CHAT_TEMPLATE_RENDER_TIMEOUT="10"',
        'VLLM_MEDIA_URL_ALLOW_REDIRECTS="0"',
        'VLLM_PLUGINS=""',
        'FLASHINFER_NO_DOWNLOAD="1"',
        'DO_NOT_TRACK="1"',
        'TRANSFORMERS_OFFLINE="1"',
    ],
)
def test_requests_are_bounded_and_nothing_is_fetched(rendered: Path, line: str) -> None:
    assert line in content(rendered, "chat-a.env").splitlines()


def test_a_fitting_cache_is_verified_and_placed_before_the_start(rendered: Path) -> None:
    files = {Path(e["path"]).name: e["content"] for e in turns(rendered)["files"]}
    assert files["40-engine-cache.conf"].splitlines()[-1] == (
        "ExecStartPre=/usr/bin/python3 -I /usr/local/lib/tresor/vllm/engine_cache.py "
        f"/opt/tresor/engine-caches/{'ca' * 32} %C/tresor/vllm/%i --locked"
    )
    assert json.loads(content(rendered, "headed-a.model.json"))[-1] == {
        "folder": f"/opt/tresor/engine-caches/{'ca' * 32}",
        "files": [{"path": "cache.json"}, {"path": "cache.tar"}],
    }


def test_with_a_cache_a_missing_kernel_is_an_error_and_without_it_is_not(rendered: Path) -> None:
    with_cache = content(rendered, "headed-a.env").splitlines()
    assert 'VLLM_FORCE_AOT_LOAD="1"' in with_cache
    assert 'FLASHINFER_DISABLE_JIT="1"' in with_cache
    assert "FORCE_AOT" not in content(rendered, "chat-a.env")
    assert "FORCE_AOT" not in content(rendered, "embed-a.env")
