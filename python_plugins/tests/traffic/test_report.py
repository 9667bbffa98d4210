"""Shares and GPU time out of audit records: what is counted, measured, predicted, not known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from tresor.sizing.latency import latency
from tresor.traffic.busy import Busy, union
from tresor.traffic.engines import Site, site_of
from tresor.traffic.errors import TrafficError
from tresor.traffic.judgement import report
from tresor.traffic.page import page, summary
from tresor.traffic.period import Period, period
from tresor.traffic.rates import MEASURED, PREDICTED
from tresor.traffic.reading import add_up

from .conftest import BEGIN, END, LARGE, SMALL, Log, record

WEEK = Period(BEGIN, END)


def reported(
    log: Log, site: Site, records: Iterable[dict[str, Any]], least: int = 10
) -> dict[str, Any]:
    return report([add_up([log(records)], WEEK)], site, latency, least)


def routed(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [record(10 * n + 5, route="auto", **fields) for n in range(count)]


def on_large(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [record(10 * n + 5, "chat-large", LARGE, **fields) for n in range(count)]


def test_share_of_a_route_that_moved_and_its_measured_saving(log: Log, site: Site) -> None:
    records = [
        *routed(30),
        *on_large(10, route="auto", took=2.0, prompt=160, completion=40),
        *on_large(20, took=2.0, prompt=160, completion=40),
    ]
    moved = reported(log, site, records)["moved"]
    assert (moved["largest"], moved["requests"]) == ("chat-large", 30)
    assert moved["share_of_requests"] == 0.75
    assert moved["share_of_tokens"] == 3000 / 5000
    # 30 s of one GPU for 3000 tokens. The large one: its requests of the same second overlap, so
    # 20 spans of 2 s on 4 GPUs for 6000 tokens.
    assert moved["device_seconds"] == pytest.approx(30)
    assert moved["device_seconds_on_largest"] == pytest.approx(3000 * 20 * 2 * 4 / 6000)
    assert moved["saved_device_seconds"] == pytest.approx(50)
    assert moved["share_of_device_seconds"] == pytest.approx(30 / (30 + 160))
    assert set(moved["sources"].values()) == {MEASURED}


def test_large_model_that_idled_is_predicted_and_called_so(log: Log, site: Site) -> None:
    found = reported(log, site, routed(30))
    moved = found["moved"]
    assert moved["sources"] == {"chat-small": MEASURED, "chat-large": PREDICTED}
    # One user alone at 4 GPUs: some milliseconds for each token it writes, times 4.
    per_token = moved["device_seconds_on_largest"] / 3000
    assert 0.0005 < per_token < 0.05
    assert moved["share_of_device_seconds"] is None
    assert "chat-large predicted by the plan's latency model" in page(found, "example")


def test_nothing_is_invented_where_nothing_can_be_known(
    log: Log, site: Site, plan: dict[str, Any]
) -> None:
    content = plan["tresor_plan"]
    instances = dict(content["sizing"]["instances"])
    for name in [one for one in instances if one.startswith("large")]:
        instances[name] = {**instances[name], "gpus": []}
    sizing = {**content["sizing"], "instances": instances}
    found = reported(log, site_of({**content, "sizing": sizing}), routed(30))
    moved = found["moved"]
    assert moved["saved_device_seconds"] is None
    assert moved["share_of_requests"] == 1.0
    assert "runs on the CPU" in moved["unknown"][0]
    assert "cannot be told" in page(found, "example")


def test_empty_period_says_so_and_has_no_shares(log: Log, site: Site) -> None:
    found = reported(log, site, [])
    assert found["requests"] == 0
    assert found["moved"]["share_of_requests"] is None
    assert summary(found) == [
        "No request reached an engine in this period: there is nothing to tell."
    ]
    assert "## Models" not in page(found, "example")


def test_without_a_route_nothing_moved(log: Log, site: Site) -> None:
    found = reported(log, site, [record(n) for n in range(1, 20)])
    assert summary(found) == ["No request asked for a route: nothing moved."]
    assert found["asked"][0]["asked"] == "chat-small"


def test_worker_that_began_again_neither_doubles_nor_loses(log: Log, site: Site) -> None:
    """Counters of metrics begin again at zero with their worker; records do not."""
    first = log([record(5, route="auto")], "gateway1-gateway0/2026-11-18-1.jsonl")
    again = [{"type": "start", "engine": "none"}, record(15, route="auto")]
    second = log(again, "gateway1-gateway0/2026-11-18-2.jsonl")
    reading = add_up([second, first], WEEK)
    assert sum(row["requests"] for row in reading["sums"]) == 2
    assert report([reading], site, latency, 1)["models"][1]["busy_seconds"] == 2.0


def test_two_gateways_that_use_an_engine_at_once_count_its_time_once(log: Log, site: Site) -> None:
    readings = [
        add_up([log([record(10, took=4.0)], f"gateway{n}-gateway0/1.jsonl")], WEEK) for n in (1, 2)
    ]
    found = report(readings, site, latency, 1)
    small = next(row for row in found["models"] if row["model"] == "chat-small")
    assert (small["requests"], small["busy_seconds"], small["concurrency"]) == (2, 4.0, 2.0)


def test_model_that_left_the_plan_keeps_its_traffic_and_has_no_gpu_time(
    log: Log, site: Site
) -> None:
    gone = [record(n + 1, "chat-old", "gpu9.llm.example.com:8100", route="auto") for n in range(30)]
    found = reported(log, site, [*gone, *on_large(20)])
    row = next(one for one in found["models"] if one["model"] == "chat-old")
    assert (row["known"], row["device_seconds"], row["requests"]) == (False, None, 30)
    assert found["moved"]["requests"] == 30
    assert found["moved"]["saved_device_seconds"] is None
    text = page(found, "example")
    assert "chat-old is no model of the plan any more" in text
    assert "no longer knows gpu9.llm.example.com:8100" in text


def test_engine_that_serves_another_model_now_is_not_counted_as_this_ones(
    log: Log, site: Site
) -> None:
    found = reported(log, site, [record(n + 1, "chat-large", SMALL) for n in range(30)])
    row = next(one for one in found["models"] if one["model"] == "chat-large")
    assert row["device_seconds"] is None


def test_fallback_counts_for_the_name_that_was_asked(log: Log, site: Site) -> None:
    found = reported(log, site, [record(1, fallback_of="chat-large")])
    assert [(row["asked"], row["model"]) for row in found["asked"]] == [
        ("chat-large", "chat-small")
    ]


def test_adapter_computes_on_the_gpus_of_its_model(log: Log, site: Site) -> None:
    models = {
        **site.models,
        "claims": {"name": "claims", "task": "chat", "adapter_of": "chat-small", "instances": []},
    }
    records = [*routed(20), *[record(10 * n + 5, "claims", route="auto") for n in range(20)]]
    found = reported(log, replace(site, models=models), [*records, *on_large(20)])
    small = next(row for row in found["models"] if row["model"] == "chat-small")
    assert (small["requests"], small["device_seconds"]) == (40, pytest.approx(20))
    assert found["moved"]["requests"] == 40


def test_gpu_that_two_engines_share_counts_in_parts(plan: dict[str, Any]) -> None:
    content = plan["tresor_plan"]
    instances = dict(content["sizing"]["instances"])
    instances["embed-gpu3"] = {**instances["embed-gpu3"], "gpus": [0]}
    engines = site_of({**content, "sizing": {"instances": instances}}).engines
    assert engines[SMALL].devices == 0.5
    assert engines["gpu4.llm.example.com:8100"].devices == 1.0


def test_request_without_tokens_is_told_apart(log: Log, site: Site) -> None:
    found = reported(log, site, [record(1, prompt=0), record(3)])
    assert (found["requests"], found["uncounted"]) == (2, 1)
    assert "1 requests have no tokens" in page(found, "example")


def test_period_has_its_begin_and_not_its_end(log: Log) -> None:
    seconds = (-1, 0, 7 * 86400 - 1, 7 * 86400)
    reading = add_up([log([record(second, took=2.0) for second in seconds])], WEEK)
    assert reading["sums"][0]["requests"] == 2
    # What was done before the period does not count as its time.
    assert reading["busy"][SMALL][0][0] == BEGIN * 1000 or len(reading["busy"][SMALL]) == 1


def test_line_that_is_being_written_is_left_out_and_nonsense_is_counted(log: Log) -> None:
    path = log([record(1)])
    with path.open("a") as stream:
        stream.write('{"engine":"x" nonsense\n{"engine":"' + SMALL)
    reading = add_up([path], WEEK)
    assert (reading["sums"][0]["requests"], reading["unreadable"]) == (1, 1)


def test_refused_requests_are_no_traffic(log: Log) -> None:
    refused = record(1)
    del refused["engine"]
    assert add_up([log([refused])], WEEK)["sums"] == []


def test_spans_are_joined_and_memory_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert union([(5, 7), (1, 3), (3, 4), (2, 3), (9, 9)]) == [(1, 4), (5, 7)]
    monkeypatch.setattr("tresor.traffic.busy._LOOSE", 10)
    busy = Busy()
    for n in range(1000):
        busy.add(n, n + 1)
        assert len(busy._spans) <= 20
    assert busy.spans() == [(0, 1000)]


@pytest.mark.parametrize(
    ("days", "until", "says"),
    [
        (0, "", "traffic_days is 0: write"),
        (float("nan"), "", "traffic_days is nan"),
        (1e6, "", "traffic_days is 1e+06"),
        (7, "yesterday", "'yesterday': write a time with its zone"),
        (7, "2026-11-25T00:00:00", "write a time with its zone"),
        (7, "2999-01-01T00:00:00Z", "which is yet to come"),
    ],
)
def test_wrong_period_is_refused(days: float, until: str, says: str) -> None:
    with pytest.raises(TrafficError, match=says.replace("+", r"\+")):
        period(days, until, float(END))


def test_gateways_of_two_periods_are_no_report(log: Log, site: Site) -> None:
    path = log([record(1)])
    readings = [add_up([path], WEEK), add_up([path], Period(BEGIN, END - 1))]
    with pytest.raises(TrafficError, match="read for 2 periods"):
        report(readings, site, latency, 1)
