"""Recertification and single questions, answered from the resolved plan."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tresor_cli import access
from tresor_cli.cli import main
from tresor_gateway.access import AccessTable
from tresor_gateway.config_schema import AccessRule

PLAN: dict[str, Any] = {
    "tresor_plan": {
        "site": {"identity": {"groups_claim": "groups"}},
        "models": [
            {"name": "small-model", "aliases": ["small"], "task": "chat"},
            {"name": "vectors", "aliases": [], "task": "embedding"},
        ],
        "access": [
            {
                "group": "staff",
                "models": ["small-model"],
                "endpoints": ["models", "chat.completions"],
                "limits": {"requests_per_minute": 5},
            },
            {"group": "staff", "models": ["small-model"], "endpoints": ["completions"]},
            {"group": "robots", "models": ["vectors"], "endpoints": ["models", "embeddings"]},
            {
                "service_account": "nightly",
                "client_id": "batch",
                "certificate": "DNS:batch1.example",
                "models": ["small-model"],
                "endpoints": ["models", "chat.completions"],
            },
        ],
    }
}


@pytest.fixture
def plan(tmp_path: Path) -> str:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(PLAN), encoding="utf-8")
    return str(path)


def ask(plan: str, *arguments: str, as_json: bool = True) -> list[str]:
    return ["access", "--plan", plan, *(["--json"] if as_json else []), *arguments]


def test_report_names_every_group_with_what_it_may_use(
    plan: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(ask(plan, "report")) == 0
    robots, staff, nightly = json.loads(capsys.readouterr().out)
    assert robots["uses"] == [{"model": "vectors", "endpoints": ["embeddings"]}]
    assert staff["rules"] == [1, 2]
    [use] = staff["uses"]
    assert use["endpoints"] == ["chat.completions", "completions"]
    assert staff["limits"] == {"requests_per_minute": 5}
    assert nightly["service_account"] == "nightly"
    assert nightly["known_by"] == ["client_id batch", "certificate DNS:batch1.example"]
    assert "group" not in nightly
    assert main(ask(plan, "report", as_json=False)) == 0
    text = capsys.readouterr().out
    assert "staff (rule 1, 2 of access.yml)" in text
    assert "limits: none" in text
    assert "service account nightly (rule 4 of access.yml, known by client_id batch" in text


@pytest.mark.parametrize(
    ("arguments", "status", "rules"),
    [
        (("--group", "staff", "--model", "small"), 0, [1, 2]),
        (("--group", "staff", "--model", "small", "--endpoint", "completions"), 0, [2]),
        (("--group", "robots", "--model", "small"), 1, []),
        (("--group", "staff", "--model", "small", "--endpoint", "embeddings"), 1, []),
        (("--group", "nobody", "--group", "robots", "--model", "vectors"), 0, [3]),
        (("--group", "staff", "--model", "nothing"), 1, []),
    ],
)
def test_explain_names_the_rule_that_decides(
    plan: str,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    status: int,
    rules: list[int],
) -> None:
    assert main(ask(plan, "explain", *arguments)) == status
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (found["allowed"], found["rules"]) == (status == 0, rules)


def test_explain_says_which_group_it_takes(plan: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["explain", "--user", "alice", "--group", "robots", "--model", "small"]
    assert main(ask(plan, *arguments, as_json=False)) == 1
    assert (
        "alice may not use small: no rule for these groups names it; it takes "
        "service account nightly or staff" in (capsys.readouterr().out)
    )


def test_groups_may_come_from_a_token(
    plan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"groups": ["staff"]}).encode()).rstrip(b"=")
    token = tmp_path / "token"
    token.write_bytes(b"e30." + claims + b".signature")
    assert main(ask(plan, "explain", "--token-file", str(token), "--model", "small")) == 0
    assert json.loads(capsys.readouterr().out)["groups"] == ["staff"]
    token.write_text("nothing", encoding="utf-8")
    assert main(ask(plan, "explain", "--token-file", str(token), "--model", "small")) == 2


def test_user_without_groups_is_a_question_for_the_provider(
    plan: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(ask(plan, "explain", "--user", "alice", "--model", "small")) == 2
    assert "--group" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "{}", "no json"])
def test_missing_plan_says_what_to_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    path = tmp_path / "plan.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    assert main(ask(str(path), "report")) == 4
    assert "tresor plan" in capsys.readouterr().err


def test_service_account_is_explained_and_no_group_passes_for_it(
    plan: str, capsys: pytest.CaptureFixture[str]
) -> None:
    question = ["explain", "--model", "small", "--endpoint", "chat.completions"]
    assert main(ask(plan, *question, "--service-account", "nightly", as_json=False)) == 0
    assert "rule 4 of access.yml: service account nightly" in capsys.readouterr().out
    assert main(ask(plan, *question, "--service-account", "other")) == 1
    assert main(ask(plan, *question, "--group", "nightly")) == 1
    assert main(ask(plan, *question, "--group", "")) == 1


@pytest.mark.parametrize("endpoint", ["chat.completions", "completions", "embeddings"])
@pytest.mark.parametrize("model", ["small-model", "vectors"])
@pytest.mark.parametrize("groups", [[], ["staff"], ["robots"], ["staff", "robots"]])
@pytest.mark.parametrize("account", ["", "nightly"])
def test_answer_is_the_gateways_decision(
    plan: str, endpoint: str, model: str, groups: list[str], account: str
) -> None:
    rules = [msgspec.convert(rule, type=AccessRule) for rule in PLAN["tresor_plan"]["access"]]
    tasks = {entry["name"]: entry["task"] for entry in PLAN["tresor_plan"]["models"]}
    grant = AccessTable(rules, tasks).grant(groups, account)
    told = access.explain(access.load(Path(plan)), groups, model, endpoint, account)
    assert told.allowed == grant.may_use_model(endpoint, model)
