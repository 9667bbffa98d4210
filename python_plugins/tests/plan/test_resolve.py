"""The plan fits its schema, is the same every time, and says what the contract promises."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tresor.inventory.loader import load_inventory
from tresor.plan.gpus import fabric_of
from tresor.plan.resolve import PlanError, check_plan, plan_text, resolve
from tresor.sizing.gpu import find

ROOT = Path(__file__).parents[3]
SCHEMAS = ROOT / "python_plugins/module_utils/tresor/schema"


def plan_of(name: str) -> dict[str, Any]:
    return resolve(load_inventory(ROOT / "inventories" / name, SCHEMAS))


@pytest.mark.parametrize("name", ["lab", "single_node", "production"])
def test_plan_fits_its_schema_and_is_the_same_every_time(name: str) -> None:
    plan = plan_of(name)

    check_plan(plan, SCHEMAS)
    assert plan_text(plan) == plan_text(plan_of(name))
    assert json.loads(plan_text(plan)) == plan


def test_plan_with_a_strange_key_is_refused() -> None:
    plan = plan_of("lab")
    plan["tresor_plan"]["instances"][0]["secret"] = "x"

    with pytest.raises(PlanError, match="secret"):
        check_plan(plan, SCHEMAS)


def test_lab_has_two_replicas_of_the_chat_model_and_an_embedding_model() -> None:
    plan = plan_of("lab")["tresor_plan"]

    assert plan["models"] == [
        {
            "name": "smollm2-135m-instruct",
            "aliases": ["small"],
            "task": "chat",
            "recovery": {"rto_seconds": 60, "rpo": "in_flight"},
            "instances": ["chat-gpu1", "chat-gpu2"],
        },
        {
            "name": "all-minilm-l6-v2",
            "aliases": ["embedding"],
            "task": "embedding",
            "recovery": {"rto_seconds": 420, "rpo": "in_flight"},
            "instances": ["embed-gpu2"],
        },
    ]
    assert plan["instances"][0] == {
        "id": "chat-gpu1",
        "model": "smollm2-135m-instruct",
        "artefact": "smollm2-135m-instruct",
        "host": "gpu1",
        "port": 8100,
        "device": "cpu",
        "task": "chat",
        "served_names": ["smollm2-135m-instruct"],
        "environment": "vllm-cpu",
        "args": {"enforce_eager": True, "max_model_len": 2048, "max_num_seqs": 16},
        "env": {"VLLM_CPU_KVCACHE_SPACE": "1"},
    }
    assert plan["hosts"]["gpu1"]["instances"] == ["chat-gpu1"]


def test_gateway_certificate_names_the_api() -> None:
    hosts = plan_of("lab")["tresor_plan"]["hosts"]

    assert hosts["gateway1"]["tls_names"] == [
        "gateway1.site.example",
        "gateway1",
        "llm.site.example",
    ]
    assert hosts["gpu1"]["tls_names"] == ["gpu1.site.example", "gpu1"]


def test_names_hold_hosts_externals_and_the_api() -> None:
    names = {entry["name"]: entry for entry in plan_of("lab")["tresor_plan"]["names"]}

    assert names["gpu1.site.example"]["aliases"] == ["gpu1"]
    assert names["llm.site.example"]["ipv4"] == "198.51.100.20"
    assert names["idp.company.example"]["ipv6"] == "2001:db8:52::130"


def test_gateways_share_the_virtual_address() -> None:
    names = {entry["name"]: entry for entry in plan_of("production")["tresor_plan"]["names"]}

    assert names["api.llm.example.com"]["ipv4"] == "192.0.2.19"


def test_gpus_and_parallelism_reach_the_engine() -> None:
    instances = plan_of("production")["tresor_plan"]["instances"]
    (instance,) = [entry for entry in instances if entry["id"] == "large-b-gpu2"]

    assert instance["env"] == {"CUDA_VISIBLE_DEVICES": "4,5,6,7"}
    assert instance["args"]["tensor_parallel_size"] == 4
    assert instance["args"]["reasoning_parser"] == "openai_gptoss"
    assert "quantization" not in instance["args"]


def test_site_without_ipv6_resolves(tmp_path: Path) -> None:
    import re

    lab = Path(shutil.copytree(ROOT / "inventories/lab", tmp_path / "lab"))
    for path in (lab / "hosts.yml", lab / "group_vars/all/site.yml"):
        text = re.sub(r"(\n *|, )(tresor_)?ipv6: \"[^\"]*\"", "", path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")

    plan = resolve(load_inventory(lab, SCHEMAS))

    check_plan(plan, SCHEMAS)
    assert plan["tresor_plan"]["hosts"]["gpu1"]["firewall"]["ipv6"] == []


def test_access_names_models_not_aliases(tmp_path: Path) -> None:
    lab = Path(shutil.copytree(ROOT / "inventories/lab", tmp_path / "lab"))
    access = lab / "group_vars/all/access.yml"
    text = access.read_text(encoding="utf-8")
    access.write_text(text.replace("[smollm2-", "[small, smollm2-"), encoding="utf-8")

    rules = resolve(load_inventory(lab, SCHEMAS))["tresor_plan"]["access"]

    assert rules[0]["models"] == ["smollm2-135m-instruct"]


def test_classifier_outside_becomes_an_address_and_others_their_models_name(
    tmp_path: Path,
) -> None:
    lab = Path(shutil.copytree(ROOT / "inventories/lab", tmp_path / "lab"))
    path = lab / "group_vars/all/guardrails.yml"
    # The lab's gateway may reach the provider on 443, which is all that the flow must say.
    listed = (
        "  classifiers:\n"
        "    - {model: omni, kind: moderations, external: idp, ca_file: /etc/ca.pem}\n"
        "    - {model: small, kind: llama-guard}\n"
    )
    path.write_text(path.read_text(encoding="utf-8") + listed, encoding="utf-8")

    plan = resolve(load_inventory(lab, SCHEMAS))
    check_plan(plan, SCHEMAS)

    outside, own = plan["tresor_plan"]["guardrails"]["classifiers"]
    assert outside == {
        "model": "omni",
        "kind": "moderations",
        "ca_file": "/etc/ca.pem",
        "url": "https://idp.company.example:443",
    }
    assert own == {"model": "smollm2-135m-instruct", "kind": "llama-guard"}
    assert "omni" not in {model["name"] for model in plan["tresor_plan"]["models"]}


def test_gpus_of_a_host_are_those_that_the_placement_counted_with() -> None:
    hosts = plan_of("production")["tresor_plan"]["hosts"]

    assert hosts["gpu1"]["gpus"] == {
        "card": "H100 SXM 80GB",
        "count": 8,
        "domains": [[0, 1, 2, 3, 4, 5, 6, 7]],
        "fabric": "nvswitch",
        "total_gib": 79.18,
    }
    assert hosts["gpu3"]["gpus"]["domains"] == [[0], [1]]
    assert hosts["gpu3"]["gpus"]["fabric"] == "none"
    assert hosts["gateway1"]["gpus"] is None


def test_host_of_cpu_engines_has_no_gpus_in_the_plan_even_if_they_are_stated(
    tmp_path: Path,
) -> None:
    lab = Path(shutil.copytree(ROOT / "inventories/lab", tmp_path / "lab"))
    hosts = lab / "hosts.yml"
    hosts.write_text(
        hosts.read_text(encoding="utf-8").replace(
            "{memory_gib: 12}", "{memory_gib: 12, gpu: L4 24GB, gpus: 1}"
        ),
        encoding="utf-8",
    )

    assert resolve(load_inventory(lab, SCHEMAS))["tresor_plan"]["hosts"]["gpu1"]["gpus"] is None


@pytest.mark.parametrize(
    ("card", "domain", "fabric"),
    [
        ("A100 SXM 80GB", 8, "nvswitch"),
        ("A100 SXM 80GB", 4, "none"),
        ("A100 PCIe 80GB", 2, "none"),
        ("H200 SXM 141GB", 8, "nvswitch"),
        ("B200 SXM 180GB", 8, "nvlink5"),
        ("L40S 48GB", 1, "none"),
        ("MI300X 192GB", 8, "none"),
    ],
)
def test_fabric_follows_from_card_and_board(card: str, domain: int, fabric: str) -> None:
    assert fabric_of(find(card), domain) == fabric


def test_models_that_speak_harmony_and_no_others_need_its_vocabulary() -> None:
    plan = plan_of("production")["tresor_plan"]
    needing = {one["id"] for one in plan["instances"] if one.get("vocabulary") == "tiktoken"}
    assert needing == {one["id"] for one in plan["instances"] if one["model"] == "chat-large"}
    assert not any("vocabulary" in one for one in plan_of("lab")["tresor_plan"]["instances"])
