"""One audit record per request, no more and no less."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tresor.evidence.audit import count_records, judge_records


def write(path: Path, *ids: str, tail: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"seq": n, "request_id": value}) for n, value in enumerate(ids)]
    path.write_text("\n".join(lines) + "\n" + tail)
    return path


def test_only_wanted_ids_are_counted_over_all_writers(tmp_path: Path) -> None:
    first = write(tmp_path / "gateway1-0" / "a.jsonl", "r1", "r2", "other")
    second = write(tmp_path / "gateway1-1" / "a.jsonl", "r2")
    assert count_records([first, second], ["r1", "r2", "r3"], 0) == ({"r1": 1, "r2": 2}, [])


def test_old_files_are_skipped(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", "r1")
    os.utime(path, (1000, 1000))
    assert count_records([path], ["r1"], 1001) == ({}, [])
    assert count_records([path], ["r1"], 999) == ({"r1": 1}, [])


def test_a_half_written_line_is_no_record_and_no_crash(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", "r1", tail='{"request_id": "r2", "sta')
    assert count_records([path], ["r1", "r2"], 0) == ({"r1": 1}, [])


def test_an_id_inside_another_field_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"request_id": "r9", "model": '"request_id":"r1"'}) + "\n")
    assert count_records([path], ["r1"], 0) == ({}, [])


def test_an_unreadable_log_is_named(tmp_path: Path) -> None:
    counts, problems = count_records([tmp_path / "missing.jsonl"], ["r1"], 0)
    assert counts == {}
    assert problems == [f"{tmp_path / 'missing.jsonl'}: No such file or directory"]


def request(request_id: str | None, path: str = "/v1/models") -> dict[str, Any]:
    return {
        "check": f"api.{request_id}",
        "request_id": request_id,
        "method": "GET",
        "path": path,
        "status": 200,
    }


REQUESTS = [request("r1"), request("r2"), request("n1", "/metrics")]


def verdicts(
    decided: dict[str, int], early: dict[str, int], *problems: str, requests: Any = REQUESTS
) -> list[bool]:
    return [
        c.ok
        for c in judge_records(
            requests, decided, early, problems, source="gateway1", tasks={"chat"}
        )
    ]


def test_all_there_passes() -> None:
    assert verdicts({"r1": 1, "r2": 1}, {"n1": 1}) == [True, True]


def test_what_the_gateway_refused_itself_counts_too() -> None:
    assert verdicts({"r1": 1, "r2": 1, "n1": 1}, {}) == [True, True]


def test_endpoint_without_a_model_is_refused_by_nginx() -> None:
    requests = [*REQUESTS, request("e1", "/v1/embeddings") | {"method": "POST"}]
    assert verdicts({"r1": 1, "r2": 1}, {"n1": 1, "e1": 1}, requests=requests) == [True, True]
    assert verdicts({"r1": 1, "r2": 1}, {"n1": 1}, requests=requests) == [True, False]


def test_missing_and_doubled_records_fail() -> None:
    assert verdicts({"r1": 1}, {"n1": 1}) == [False, True]
    assert verdicts({"r1": 1, "r2": 2}, {"n1": 1}) == [False, True]
    assert verdicts({"r1": 1, "r2": 1}, {}) == [True, False]


def test_a_record_in_nginx_log_alone_is_no_decision() -> None:
    assert verdicts({"r1": 1}, {"r2": 1, "n1": 1}) == [False, True]


def test_an_answer_without_an_id_fails() -> None:
    assert verdicts({}, {"n1": 1}, requests=[request(None), REQUESTS[2]]) == [False, True]


def test_unread_logs_and_no_requests_fail() -> None:
    assert verdicts({"r1": 1, "r2": 1}, {"n1": 1}, "gateway2 gave no count") == [False, False]
    assert verdicts({}, {}, requests=[]) == [False, False]
