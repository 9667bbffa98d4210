"""The modules: what they refuse before anything is asked, what they write, and check mode."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from python_plugins.tests.module_call import call

from .conftest import Certificates, Start, file_of, line

ROOT = Path(__file__).parents[3]
CHECK = {"kind": "contains", "values": ["yes"]}


def instance(name: str, host: str, task: str = "chat") -> dict[str, Any]:
    return {"id": name, "host": host, "port": 8100, "task": task, "served_names": ["qwen"]}


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """A plan as far as the module reads it."""
    architectures = {
        "chat-gpu1": "Qwen/Qwen3-32B",
        "chat-fp8-gpu2": "Qwen/Qwen3-32B-FP8",
        "small-gpu2": "HuggingFaceTB/SmolLM2-135M",
        "embed-gpu2": "sentence-transformers/all-MiniLM-L6-v2",
    }
    content = {
        "hosts": {
            host: {"fqdn": f"{host}.site.example", "ipv4": None, "ipv6": "2001:db8::1"}
            for host in ("gpu1", "gpu2")
        },
        "instances": [
            instance(name, name.rpartition("-")[2], "embedding" if "embed" in name else "chat")
            for name in architectures
        ],
        "sizing": {"instances": {n: {"architecture": a} for n, a in architectures.items()}},
    }
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"tresor_plan": content}))
    return path


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(file_of([line(n, CHECK) for n in range(1, 11)]))
    return path


@pytest.fixture
def check(plan: Path, prompts: Path) -> Callable[..., dict[str, Any]]:
    def do(reference: str, candidate: str, **options: Any) -> dict[str, Any]:
        given: dict[str, Any] = {"prompts_file": str(prompts), "plan_file": str(plan), **options}
        return call("tresor_evaluation_plan", reference=reference, candidate=candidate, **given)

    return do


def test_quantized_copy_of_the_same_model_is_accepted(
    check: Callable[..., dict[str, Any]],
) -> None:
    found = check("chat-gpu1", "chat-fp8-gpu2", judge="small-gpu2")
    assert found["prompts"] == 10
    assert set(found["instances"]) == {"reference", "candidate", "judge"}
    assert found["instances"]["candidate"] == {
        "id": "chat-fp8-gpu2", "host": "gpu2", "port": 8100, "model": "qwen",
        "fqdn": "gpu2.site.example", "address": "2001:db8::1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("reference", "candidate", "says"),
    [
        ("chat-gpu2", "chat-fp8-gpu2", "'chat-gpu2', no instance of the plan: did you mean chat-"),
        ("", "chat-fp8-gpu2", "the reference is '', no instance of the plan"),
        ("chat-gpu1", "embed-gpu2", "candidate embed-gpu2 serves embedding"),
        ("chat-gpu1", "chat-gpu1", "are both chat-gpu1"),
        ("chat-gpu1", "small-gpu2", "Set evaluation_different_models"),
    ],
)
def test_comparison_that_means_nothing_is_refused(
    check: Callable[..., dict[str, Any]], reference: str, candidate: str, says: str
) -> None:
    found = check(reference, candidate)
    assert found["failed"]
    assert says in found["msg"]
    assert found["msg"].endswith("Nothing was asked.")


def test_smaller_model_may_be_compared_if_that_is_said(
    check: Callable[..., dict[str, Any]],
) -> None:
    assert "failed" not in check("chat-gpu1", "small-gpu2", different_models=True)


def test_wrong_prompts_and_missing_files_are_told(
    check: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text("{}\nnothing\n")
    said = check("chat-gpu1", "chat-fp8-gpu2", prompts_file=str(wrong))["msg"]
    assert "wrong.jsonl line 1: lacks the key id" in said
    assert "wrong.jsonl line 2: is no JSON (Expecting value" in said
    missing = check("chat-gpu1", "chat-fp8-gpu2", prompts_file=str(tmp_path / "none"))
    assert "cannot be read: No such file" in missing["msg"]
    planless = check("chat-gpu1", "chat-fp8-gpu2", plan_file=str(tmp_path / "none"))
    assert "converge the site first" in planless["msg"]


Run = Callable[..., dict[str, Any]]


@pytest.fixture
def asked(start: Start, certificates: Certificates, prompts: Path, tmp_path: Path) -> Run:
    """Ask two fake engines through the module, as this user."""
    instances = {}
    for role, said in (("reference", "yes it is"), ("candidate", "no it is not")):
        _, one = start(f"{role}-gpu1", lambda _request, said=said: said)  # type: ignore[misc]
        instances[role] = {
            "id": one.id, "host": "gpu1", "port": one.endpoint.port, "model": one.model,
            "fqdn": "localhost", "address": "127.0.0.1",
        }  # fmt: skip

    def do(*, check: bool = False, **options: Any) -> dict[str, Any]:
        given: dict[str, Any] = {
            "prompts_file": str(prompts),
            "dest": str(tmp_path / "answers.json"),
            "instances": instances,
            "user": getpass.getuser(),
            "ca_file": str(certificates.certificate),
            "certificate_file": str(certificates.certificate),
            "key_file": str(certificates.key),
            "timeout": 5.0,
            "time_limit": 60,
            **options,
        }
        return call("tresor_evaluation_ask", check=check, **given)

    return do


def report(prompts: Path, tmp_path: Path, *, check: bool = False, **options: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "prompts_file": str(prompts),
        "answers_file": str(tmp_path / "answers.json"),
        "memory": [{"instance": "reference-gpu1", "observed": {"kv_tokens": 23296}}],
        "site": "example",
        "finished": "2026-11-25T14:00:00Z",
        "directory": str(tmp_path / "result"),
        **options,
    }
    return call("tresor_evaluation_report", check=check, **given)


def test_answers_become_a_result_for_root_alone(asked: Run, prompts: Path, tmp_path: Path) -> None:
    assert asked(check=True)["changed"] is False
    assert not (tmp_path / "answers.json").exists()
    assert asked()["changed"] is True
    assert (tmp_path / "answers.json").stat().st_mode & 0o777 == 0o600

    assert report(prompts, tmp_path, check=True)["verdict"] == "not_good_enough"
    assert not (tmp_path / "result").exists()
    found = report(prompts, tmp_path)
    folder = tmp_path / "result"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == dict.fromkeys(
        ("answers.json", "page.md", "prompts.jsonl", "result.json"), 0o600
    )
    result = json.loads((folder / "result.json").read_text())
    assert result["verdict"] == found["verdict"]
    assert result["instances"]["reference"]["memory"]["kv_tokens"] == 23296
    assert Path(found["page"]).read_text().startswith("# candidate-gpu1 in place of reference-gpu1")
    assert "exists: name another directory" in report(prompts, tmp_path)["msg"]


def test_engine_that_is_away_leaves_no_answers(asked: Run, tmp_path: Path) -> None:
    away = {"id": "x", "port": 1, "model": "qwen", "fqdn": "localhost", "address": "127.0.0.1"}
    found = asked(instances={"reference": away, "candidate": away})
    assert "ended without a result: instance x cannot be reached" in found["msg"]
    assert not (tmp_path / "answers.json").exists()


def test_unknown_user_and_wrong_figures_are_refused(
    asked: Run, prompts: Path, tmp_path: Path
) -> None:
    assert "no user nobody-here" in asked(user="nobody-here")["msg"]
    assert "write 1 to 256" in asked(concurrency=0)["msg"]
    assert "write 0 to 50" in report(prompts, tmp_path, tolerance_percent=60)["msg"]
    (tmp_path / "answers.json").write_text("[]")
    assert "no file of answers" in report(prompts, tmp_path)["msg"]
