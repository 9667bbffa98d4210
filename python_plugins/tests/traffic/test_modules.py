"""The modules: what they refuse, what they write, and check mode."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from python_plugins.tests.module_call import call

from .conftest import BEGIN, END, Log, record


@pytest.fixture
def plan_file(plan: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan))
    return path


def read(tmp_path: Path, *, check: bool = False) -> dict[str, Any]:
    return call(
        "tresor_traffic_read",
        check=check,
        since=BEGIN,
        until=END,
        dest=str(tmp_path / "sums.json"),
        audit_directory=str(tmp_path / "audit"),
    )


def test_report_is_written_for_root_alone(log: Log, plan_file: Path, tmp_path: Path) -> None:
    log([record(n + 1, route="auto") for n in range(60)])
    assert read(tmp_path, check=True) == {"changed": False, "requests": 60}
    assert not (tmp_path / "sums.json").exists()
    assert read(tmp_path)["requests"] == 60
    options: dict[str, Any] = {
        "readings": [str(tmp_path / "sums.json")],
        "plan_file": str(plan_file),
        "site": "example",
        "directory": str(tmp_path / "report"),
    }
    assert not call("tresor_traffic_report", check=True, **options)["changed"]
    assert not (tmp_path / "report").exists()
    found = call("tresor_traffic_report", **options)
    assert found["summary"][0].startswith("60 of 60 requests to a route (100.0 %)")
    written = json.loads((tmp_path / "report/report.json").read_text())
    assert written == found["report"]
    assert (tmp_path / "report").stat().st_mode & 0o777 == 0o700
    assert Path(found["page"]).stat().st_mode & 0o777 == 0o600


def test_gateway_without_an_audit_log_is_no_empty_report(tmp_path: Path) -> None:
    assert "there is no audit log" in read(tmp_path)["msg"]


def test_wrong_period_and_missing_plan_stop_before_a_gateway_is_asked(
    plan_file: Path, tmp_path: Path
) -> None:
    found = call("tresor_traffic_period", days=0, plan_file=str(plan_file))
    assert found["msg"].startswith("traffic_days is 0")
    assert found["msg"].endswith("No gateway was asked.")
    missing = call("tresor_traffic_period", plan_file=str(tmp_path / "none"))
    assert "converge the site first" in missing["msg"]
    (tmp_path / "wrong").write_text("{}")
    wrong = call("tresor_traffic_period", plan_file=str(tmp_path / "wrong"))
    assert "is not a resolved plan" in wrong["msg"]
    week = call("tresor_traffic_period", until="2026-11-25T00:00:00Z", plan_file=str(plan_file))
    assert week["until"] - week["since"] == 7 * 86400


def test_damaged_reading_is_no_report(plan_file: Path, tmp_path: Path) -> None:
    (tmp_path / "sums.json").write_text('{"since": 1}')
    found = call(
        "tresor_traffic_report",
        readings=[str(tmp_path / "sums.json")],
        plan_file=str(plan_file),
        site="example",
        directory=str(tmp_path / "report"),
    )
    assert "cannot be used" in found["msg"]
