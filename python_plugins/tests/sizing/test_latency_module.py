"""The module tresor_latency: predicts, judges, changes nothing, and names what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from python_plugins.tests.module_call import call

DEPLOYMENT: dict[str, Any] = {
    "model": "meta-llama/Llama-3.3-70B-Instruct",
    "gpu": "H100 SXM 80GB",
    "tensor_parallel_size": 4,
}
SLO = {"ttft_p95_ms": 500, "e2e_p95_ms": 3000}
LOAD = {"users": 50, "input_tokens": 1000, "output_tokens": 200}


def test_prediction_is_the_same_in_check_mode_and_changes_nothing() -> None:
    options = {**DEPLOYMENT, "input_tokens": 1000, "output_tokens": 200, "concurrency": 50}

    checked, done = call("tresor_latency", check=True, **options), call("tresor_latency", **options)

    assert checked == done
    assert not done["changed"]
    assert done["latency"]["e2e_ms"] > done["latency"]["ttft_ms"] > 0


def test_promise_is_judged_with_reasons_and_alternatives() -> None:
    result = call("tresor_latency", **DEPLOYMENT, slo=SLO, load=LOAD)

    assert result["assessment"]["outcome"] == "not_reachable"
    assert result["assessment"]["because"]
    assert result["assessment"]["alternatives"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({**DEPLOYMENT, "gpu": "H1000"}, "H1000"),
        ({**DEPLOYMENT, "tensor_parallel_size": 3}, "tensor_parallel_size: 3"),
        ({**DEPLOYMENT, "slo": {"ttft_p95_ms": 500}, "load": LOAD}, "e2e_p95_ms"),
        ({**DEPLOYMENT, "slo": SLO}, "load"),
        ({**DEPLOYMENT, "slo": SLO, "load": LOAD, "concurrency": 3}, "concurrency"),
        (
            {**DEPLOYMENT, "slo": SLO, "load": LOAD, "metric_kind": "offline_static_batch"},
            "online_closed_loop",
        ),
    ],
)
def test_wrong_options_fail_with_the_thing_and_the_value(
    options: dict[str, Any], message: str
) -> None:
    request = {"input_tokens": 100, "output_tokens": 10} if "slo" not in options else {}

    result = call("tresor_latency", **options, **request)

    assert result["failed"]
    assert message in result["msg"]
