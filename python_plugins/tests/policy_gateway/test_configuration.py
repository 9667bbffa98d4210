"""What the role writes from a plan is a configuration that the service takes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from python_plugins.tests.monitoring.conftest import render
from tresor.inventory.loader import load_inventory
from tresor.plan.resolve import resolve
from tresor_gateway import config
from tresor_gateway import config_schema as schema

ROOT = Path(__file__).parents[3]
ROLE = ROOT / "roles/policy_gateway"
SCHEMAS = ROOT / "python_plugins/module_utils/tresor/schema"
SOURCE = ROLE / "templates/etc/tresor/gateway/gateway.yml.j2"


ENTRY = """\
  - name: NAME
    artefact: NAME
    architecture: HuggingFaceTB/SmolLM2-135M
    task: chat
    aliases: []
    context_tokens: 2048
    quantization: none
    parallelism: {tensor: 1, pipeline: 1}
    engine: {environment: vllm-cpu, device: cpu, args: {}, env: {VLLM_CPU_KVCACHE_SPACE: "1"}}
    placement:
      - {instance: NAME, groups: [], hosts: [HOSTS], port: PORT}
"""
MODEL = ENTRY.replace("NAME", "other").replace("HOSTS", "gpu1").replace("PORT", "8102")
CANARY = (
    ENTRY.replace("NAME", "next")
    .replace("HOSTS", "gpu2")
    .replace("PORT", "8103")
    .replace("tokens: 2048\n", "tokens: 4096\n    canary: {of: other, percent: 20}\n")
)


def given(plan: dict[str, Any]) -> dict[str, Any]:
    """Return the role's options as playbooks/vars/wiring.yml takes them from the plan."""
    guardrails = dict(plan["guardrails"])
    return {
        "ansible_managed": "Ansible",
        "policy_gateway_host_name": "gateway1",
        "policy_gateway_identity": plan["site"]["identity"],
        "policy_gateway_models": plan["models"],
        "policy_gateway_instances": plan["instances"],
        "policy_gateway_artefacts": {
            instance["artefact"]: {"digest": f"sha256:{instance['artefact']}"}
            for instance in plan["instances"]
        },
        "policy_gateway_host_names": {name: host["fqdn"] for name, host in plan["hosts"].items()},
        "policy_gateway_access": plan["access"],
        "policy_gateway_limits": plan["limits"],
        "policy_gateway_classifiers": guardrails.pop("classifiers", []),
        "policy_gateway_guardrails": guardrails,
        "policy_gateway_audit_deadline_seconds": 7,
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> schema.Config:
    folder = tmp_path_factory.mktemp("gateway")
    lab = Path(shutil.copytree(ROOT / "inventories/lab", folder / "lab"))
    path = lab / "group_vars/all/guardrails.yml"
    listed = (
        "  classifiers:\n"
        "    - {model: omni, kind: moderations, external: idp, ca_file: /etc/ca.pem}\n"
        "    - {model: small, kind: llama-guard, categories: {S6: flag}}\n"
    )
    path.write_text(path.read_text(encoding="utf-8") + listed, encoding="utf-8")
    with (lab / "group_vars/all/models.yml").open("a", encoding="utf-8") as stream:
        stream.write(MODEL + CANARY)
    plan = resolve(load_inventory(lab, SCHEMAS))["tresor_plan"]
    render(folder / "gateway.yml", given(plan), SOURCE, ROLE)
    return config.load(folder / "gateway.yml")


def test_classifier_outside_is_a_model_that_its_own_authority_vouches_for(
    written: schema.Config,
) -> None:
    [model] = [model for model in written.models if model.task == "moderation"]
    [replica] = model.replicas
    assert model.name == "omni"
    assert replica.url == "https://idp.company.example:443"
    assert replica.ca_file == "/etc/tresor/gateway/classifier-omni-ca.pem"
    assert [entry.model for entry in written.classifiers] == ["omni", "smollm2-135m-instruct"]
    assert written.classifiers[1].categories == {"S6": "flag"}


def test_engines_stay_with_the_authority_of_the_site(written: schema.Config) -> None:
    engines = [model for model in written.models if model.task != "moderation"]
    assert engines
    assert {replica.ca_file for model in engines for replica in model.replicas} == {None}


def test_nobody_may_ask_the_classifier_outside(written: schema.Config) -> None:
    assert all("omni" not in rule.models for rule in written.access)


def test_deadline_of_the_disk_reaches_the_service(written: schema.Config) -> None:
    assert written.audit.deadline_seconds == 7


def test_canary_is_a_replica_with_its_own_name_digest_and_share(written: schema.Config) -> None:
    models = {model.name: model for model in written.models}
    base, canary = models["other"], models["next"]
    assert (base.artefact_digest, base.context_tokens) == ("sha256:other", 2048)
    told = {r.url.split("//")[1]: (r.served_name, r.variant, r.weight) for r in base.replicas}
    assert told == {
        "gpu1.site.example:8102": ("other", None, 1000),
        "gpu2.site.example:8103": ("next", "next", 250),
    }
    assert {r.variant: r.artefact_digest for r in base.replicas} == {
        None: None,
        "next": "sha256:next",
    }
    assert canary.artefact_digest == "sha256:next"
    assert [(r.variant, r.weight) for r in canary.replicas] == [(None, 100)]
    assert {r.weight for r in models["all-minilm-l6-v2"].replicas} == {100}


def test_nobody_may_ask_for_a_canary_by_its_name_unless_a_rule_says_so(
    written: schema.Config,
) -> None:
    assert all("next" not in rule.models for rule in written.access)
