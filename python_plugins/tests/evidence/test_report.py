"""The report: schema, totals, and everything that is missing counts as failed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tresor.evidence.check import Check, not_run
from tresor.evidence.replicas import judge_replicas
from tresor.evidence.report import Subject, build, collect, summary
from tresor.evidence.store import stamp, write_report

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "module_utils/tresor/schema/evidence.schema.json").read_bytes()
)
SUBJECT = Subject("lab", "lab", "release-1", "a" * 64, "b" * 64)


def check(name: str, ok: bool = True) -> Check:
    return Check(name, "what", "gpu1", "gpu2", "expected", "observed", ok, 0.12345)


def report(*checks: Check, scope: Sequence[str] = ("network",)) -> dict[str, Any]:
    built = build(
        SUBJECT,
        scope=scope,
        checks=checks,
        uncovered=[{"what": "flow users-api", "reason": "no host there"}],
        started=stamp(1790000000),
        finished=stamp(1790000010),
        seconds=10,
    )
    jsonschema.validate(built, SCHEMA)
    return built


def test_totals_and_verdict() -> None:
    assert report(check("a"), check("b"))["passed"] is True
    built = report(check("a"), check("b", False), not_run("c", "w", "r"))
    assert built["totals"] == {"passed": 1, "failed": 2, "checks": 3}
    assert built["passed"] is False


def test_a_report_without_checks_has_failed() -> None:
    assert report()["passed"] is False


def test_equal_ids_are_numbered() -> None:
    ids = [item["id"] for item in report(check("a"), check("a"), check("b"))["checks"]]
    assert ids == ["a", "a#2", "b"]


@pytest.mark.parametrize(
    ("key", "value"), [("plan_sha256", "x"), ("scope", []), ("surprise", 1), ("checks", [])]
)
def test_the_schema_refuses_a_broken_report(key: str, value: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**report(check("a")), key: value}, SCHEMA)


@pytest.mark.parametrize("missing", ["id", "expected", "observed", "ok", "duration", "from", "to"])
def test_the_schema_wants_every_field_of_a_check(missing: str) -> None:
    built = report(check("a"))
    del built["checks"][0][missing]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(built, SCHEMA)


def test_the_summary_begins_with_the_totals_and_names_failures() -> None:
    lines = summary(report(check("a"), check("b", False)), "/x.json").splitlines()
    assert lines[0] == "1 passed, 1 failed (/x.json)"
    assert lines[1].startswith("FAILED b: what | gpu1 -> gpu2 | expected: expected | observed:")
    assert lines[2] == "not covered: flow users-api: no host there"


def test_the_summary_is_bounded() -> None:
    lines = summary(report(*[check(str(n), False) for n in range(100)]), "p", most=3).splitlines()
    assert lines[4] == "and 97 more in the report"


@pytest.mark.parametrize(
    ("result", "observed"),
    [
        (None, "not run: the host was not reached or the step before it failed"),
        ({"msg": "boom"}, "not run: boom"),
        ({"checks": None, "msg": ""}, "not run: the module returned no checks"),
        ({"checks": []}, "not run: it made no check at all"),
        ({"checks": [{"id": "x"}]}, "not run: malformed check: KeyError('what')"),
    ],
)
def test_a_missing_result_is_a_failed_check(result: Any, observed: str) -> None:
    (only,) = collect({"network.gpu1": result}, ["network.gpu1"])
    assert (only.id, only.ok, only.observed) == ("run.network.gpu1", False, observed)


def test_only_a_true_ok_passes() -> None:
    item = {**check("a").as_dict(), "ok": "true"}
    (only,) = collect({"n": {"checks": [item]}}, ["n"])
    assert only.ok is False


def test_each_replica_must_take_a_request() -> None:
    checks = judge_replicas("smol", ["a", "b", "c"], {"a": 1, "b": 5}, {"a": 3, "b": 5})
    assert [(c.ok, c.observed.partition(":")[0]) for c in checks] == [
        (True, "2 requests"),
        (False, "0 requests"),
        (False, "not run"),
    ]


def test_reports_are_kept_and_latest_points_at_the_newest(tmp_path: Path) -> None:
    directory = tmp_path / "evidence"
    first = write_report(report(check("a")), directory, 1790000000.2)
    second = write_report(report(check("b")), directory, 1790000000.9)
    assert [first.name, second.name] == ["20260921T141320Z.json", "20260921T141320Z-2.json"]
    assert json.loads(first.read_text())["checks"][0]["id"] == "a"
    assert json.loads((directory / "latest.json").read_text())["checks"][0]["id"] == "b"
    assert sorted(p.name for p in directory.iterdir()) == sorted(
        [first.name, second.name, "latest.json"]
    )
    assert second.stat().st_mode & 0o007 == 0


@pytest.mark.parametrize("part", ["control", "network", "request_path"])
def test_a_partial_report_leaves_the_latest_full_one(tmp_path: Path, part: str) -> None:
    full = report(check("a"), scope=["request_path", "network"])
    partial = report(check("b"), scope=[part, *({"control"} - {part})])
    first = write_report(full, tmp_path, 1790000000)
    second = write_report(partial, tmp_path, 1790000060)
    assert (tmp_path / "latest-full.json").readlink() == Path(first.name)
    assert (tmp_path / "latest.json").readlink() == Path(second.name)
    third = write_report(
        report(check("c"), scope=["network", "request_path", "control"]), tmp_path, 1790000120
    )
    assert (tmp_path / "latest-full.json").readlink() == Path(third.name)


def test_without_a_full_report_there_is_no_link_to_one(tmp_path: Path) -> None:
    write_report(report(check("a"), scope=["control"]), tmp_path, 1790000000)
    assert not (tmp_path / "latest-full.json").is_symlink()
