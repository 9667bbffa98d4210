"""The module: record, check mode, warning and failure, with a fake engine and journal."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from python_plugins.tests.module_call import call, load
from tresor.api_check.client import Endpoint, Response
from tresor.gpu.commands import Outcome

FIXTURES = Path(__file__).parent / "fixtures"
Ask = Callable[..., dict[str, Any]]


def load_ask() -> Any:
    """Return the package as the module sees it."""
    load("tresor_engine_sizing")
    return importlib.import_module("ansible.module_utils.tresor.engine_sizing.ask")


class Context:
    def load_cert_chain(self, *_files: str) -> None:
        pass


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ask:
    module = load("tresor_engine_sizing")
    asked = load_ask()
    monkeypatch.setattr(module, "client_context", lambda _file: Context())

    journal = {"4f1c": (FIXTURES / "cpu-0.32.0.log").read_text(encoding="utf-8")}
    starts = ["4f1c"]

    def run(command: Any, _timeout: float) -> Outcome:
        if command[0] == "systemctl":
            shown = f"InvocationID={starts[-1]}\nInactiveExitTimestamp=@1700000000\n"
            return Outcome(0, shown)
        assert "--until=@1700007200" in command
        (wanted,) = (part for part in command if part.startswith("_SYSTEMD_INVOCATION_ID="))
        return Outcome(0, journal.get(wanted.partition("=")[2], ""))

    monkeypatch.setattr(module, "run_command", run)

    def answer(_endpoint: Endpoint, *_rest: Any) -> Response:
        body = (FIXTURES / "handmade-metrics-0.32.txt").read_bytes()
        return Response(200, {}, body, 0.0)

    def do(
        *,
        tokens: int = 46592,
        metrics: Any = answer,
        start: str = "4f1c",
        forget: bool = False,
        **options: Any,
    ) -> dict[str, Any]:
        starts.append(start)
        if forget:
            journal.clear()
        monkeypatch.setattr(asked, "call", metrics)
        return call(
            "tresor_engine_sizing",
            instance="chat-gpu1",
            unit="tresor-vllm@chat-gpu1.service",
            prediction={"kv_cache_tokens": tokens, "available_kv_gib_per_gpu": 1.0},
            server_name="gpu1.site.example",
            address="198.51.100.31",
            port=8100,
            dest=str(tmp_path / "chat-gpu1.sizing.json"),
            **options,
        )

    return do


def test_changed_changed_unchanged_unchanged(ask: Ask, tmp_path: Path) -> None:
    dest = tmp_path / "chat-gpu1.sizing.json"

    assert ask(check=True)["changed"]
    assert not dest.exists()
    assert ask()["changed"]
    assert not ask(check=True)["changed"]
    assert not ask()["changed"]
    kept = json.loads(dest.read_text(encoding="utf-8"))
    assert (kept["schema"], kept["verdict"]) == ("engine-sizing/v1", "ok")
    assert kept["observed"]["version"] == "0.32.0"


def test_a_journal_that_forgot_the_start_changes_nothing(ask: Ask, tmp_path: Path) -> None:
    first = ask()
    second = ask(forget=True)

    assert first["record"]["observed"]["kv_gib"] is not None
    assert not second["changed"]
    assert second["record"] == first["record"]


def test_figures_of_another_start_do_not_count(ask: Ask) -> None:
    ask()
    again = ask(start="77aa", forget=True)

    assert again["record"]["observed"]["kv_gib"] is None


def test_error_above_the_bound_fails_and_leaves_its_record(ask: Ask, tmp_path: Path) -> None:
    result = ask(tokens=60000)

    assert result["failed"]
    assert "planned 60,000, the engine has 46,592 (+28.78 %)" in result["msg"]
    assert json.loads((tmp_path / "chat-gpu1.sizing.json").read_text())["verdict"] == "fail"


def test_small_error_warns(ask: Ask) -> None:
    result = ask(tokens=49000)

    assert (result["verdict"], result.get("failed")) == ("warn", None)


def test_bound_is_an_option(ask: Ask) -> None:
    assert not ask(tokens=60000, fail_percent=30).get("failed")


def test_log_serves_where_the_metrics_are_silent(ask: Ask) -> None:
    def refused(*_args: Any) -> Response:
        raise load_ask().RequestFailed("no answer")

    result = ask(metrics=refused)

    assert result["verdict"] == "ok"
    assert "no answer" in result["problems"][0]


def test_bounds_that_do_not_rise_are_refused(ask: Ask) -> None:
    assert "must rise" in ask(warn_percent=5, fail_percent=3)["msg"]
