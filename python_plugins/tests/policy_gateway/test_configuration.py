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
            instance["artefact"]: {"digest": "sha256:aa"} for instance in plan["instances"]
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
