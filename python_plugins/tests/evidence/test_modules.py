"""The modules as Ansible runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from python_plugins.tests.module_call import call

from .conftest import Ca

SCHEMA = Path(__file__).parents[2] / "module_utils/tresor/schema/evidence.schema.json"
CHECK = {
    "id": "a",
    "what": "w",
    "from": "f",
    "to": "t",
    "expected": "e",
    "observed": "o",
    "ok": True,
    "duration": 0.1,
}


@pytest.fixture
def options(tmp_path: Path, ca: Ca) -> dict[str, Any]:
    plan = {"site": {"name": "lab", "level": "lab"}, "hosts": {"gpu1": {}}, "flows": []}
    release = {"id": "r1", "bundle_sha256": "a" * 64}
    (tmp_path / "plan.json").write_text(json.dumps({"tresor_plan": plan}))
    (tmp_path / "release.json").write_text(json.dumps({"tresor_release": release}))
    (tmp_path / "ca.crt").write_bytes(ca.pem)
    return {
        "directory": str(tmp_path / "evidence"),
        "schema_file": str(SCHEMA),
        "plan_file": str(tmp_path / "plan.json"),
        "release_file": str(tmp_path / "release.json"),
        "ca_file": str(tmp_path / "ca.crt"),
        "scope": ["control"],
        "control_host": "gpu1",
        "started": 1790000000.0,
        "results": {"gpu1": {"control": {"checks": [CHECK]}}},
    }


def test_the_report_is_written_and_in_check_mode_only_judged(
    options: dict[str, Any], tmp_path: Path
) -> None:
    tried = call("tresor_evidence", check=True, **options)
    assert (tried["changed"], tried["path"]) == (False, "")
    assert not (tmp_path / "evidence").exists()
    done = call("tresor_evidence", **options)
    assert (done["changed"], done["totals"]["failed"]) == (True, 0)
    written = json.loads((tmp_path / "evidence" / "latest.json").read_text())
    assert written["bundle"]["id"] == "r1"
    assert written["totals"] == tried["totals"] == done["totals"]
    assert done["summary"][0].startswith("1 passed, 0 failed")


def test_a_failed_check_is_reported_not_an_error_of_the_module(options: dict[str, Any]) -> None:
    options["results"] = {"gpu1": {"control": {"checks": [{**CHECK, "ok": False}]}}}
    done = call("tresor_evidence", **options)
    assert done["failed_checks"] == ["a"]
    assert Path(done["path"]).exists()


@pytest.mark.parametrize("missing", ["plan_file", "release_file", "schema_file", "ca_file"])
def test_a_missing_input_is_named(options: dict[str, Any], missing: str) -> None:
    options[missing] = "/nowhere/file"
    done = call("tresor_evidence", **options)
    assert done["failed"]
    assert "/nowhere/file" in done["msg"]


def test_probe_control_without_a_canary_refuses() -> None:
    done = call("tresor_probe_control", host="gpu1", canary=[])
    assert done["msg"] == "the control on gpu1 has no canary probe; the plan must name one"


def test_probe_names_what_is_wrong_with_the_plan() -> None:
    flow = {"name": "x", "proto": "tcp", "ports": "https"}
    ends = {
        "from": [{"name": "gpu1", "ipv4": "198.51.100.31"}],
        "to": [{"name": "ops1", "ipv4": "198.51.100.50"}],
    }
    done = call("tresor_probe", host="gpu1", flows=[{**flow, **ends}], forbidden=[])
    assert done["failed"]
    assert "ports are 'https'" in done["msg"]


@pytest.mark.parametrize("timeout", [0, 0.81, 1.0])
def test_probe_refuses_a_timeout_in_which_a_syn_goes_out_twice(timeout: float) -> None:
    done = call("tresor_probe", host="gpu1", flows=[], forbidden=[], timeout=timeout)
    assert done["failed"]
    assert "must be above 0 and at most 0.8" in done["msg"]


def test_api_check_names_a_missing_plan() -> None:
    done = call("tresor_api_check", source="bastion1", plan_file="/nowhere/plan.json")
    assert done["failed"]
    assert "/nowhere/plan.json" in done["msg"]


def test_engine_check_names_missing_certificates(tmp_path: Path) -> None:
    done = call(
        "tresor_engine_check",
        host="gateway1",
        instances=[],
        hosts={},
        ca_file=str(tmp_path / "none.crt"),
    )
    assert done["failed"]
    assert "none.crt" in done["msg"]


def test_audit_count_reads_all_writers_and_says_when_there_are_none(tmp_path: Path) -> None:
    log = tmp_path / "audit" / "gateway1-0" / "2026-11-23-1.jsonl"
    nginx = tmp_path / "nginx.json"
    nginx.write_text('{"request_id": "n1"}\n')
    options: dict[str, Any] = {
        "request_ids": ["r1", "n1"],
        "since": 0,
        "audit_directory": str(tmp_path / "audit"),
        "nginx_logs": [str(nginx)],
    }
    none = call("tresor_audit_count", **options)
    assert none["problems"] == [f"{tmp_path / 'audit'}: there is no audit log"]
    log.parent.mkdir(parents=True)
    log.write_text('{"request_id": "r1"}\n')
    done = call("tresor_audit_count", **options)
    assert (done["decided"], done["refused_early"], done["problems"]) == (
        {"r1": 1},
        {"n1": 1},
        [],
    )


def test_audit_count_reads_a_log_that_was_rotated_meanwhile(tmp_path: Path) -> None:
    log = tmp_path / "audit" / "gateway1-0" / "2026-11-23-1.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text('{"request_id": "r1"}\n')
    (tmp_path / "nginx.json-20261123T200000Z").write_text('{"request_id": "n1"}\n')
    (tmp_path / "nginx.json").write_text('{"request_id": "n2"}\n')
    done = call(
        "tresor_audit_count",
        request_ids=["n1", "n2"],
        since=0,
        audit_directory=str(tmp_path / "audit"),
        nginx_logs=[str(tmp_path / "nginx.json")],
    )
    assert done["refused_early"] == {"n1": 1, "n2": 1}


@pytest.mark.parametrize("part", ["network", "request_path", "services", "control"])
def test_every_part_may_stand_in_the_report(options: dict[str, Any], part: str) -> None:
    options |= {"scope": [part], "services": {"vector": ["gpu1"]}}
    plan = json.loads(Path(options["plan_file"]).read_text())
    plan["tresor_plan"] |= {"models": []}
    plan["tresor_plan"]["hosts"]["gpu1"] = {"tls_names": [], "ipv4": None, "ipv6": None}
    Path(options["plan_file"]).write_text(json.dumps(plan))
    result = call("tresor_evidence", check=True, **options)
    assert not result.get("failed"), result
