"""Engines on the CPU are planned with their fixed KV space against the host's memory."""

from __future__ import annotations

import pytest

from tresor.placement.pack import place
from tresor.placement.predict import engine_keys, predictor
from tresor.placement.values import Hardware, Wanted

from .conftest import estimate, wanted

predict = predictor(estimate, "0.32.0")


def on_cpu(name: str, space: str) -> Wanted:
    return wanted(name, device="cpu", tensor=1, env={"VLLM_CPU_KVCACHE_SPACE": space})


def test_kv_space_of_the_environment_is_what_is_asked_about() -> None:
    keys = engine_keys(on_cpu("chat", "4"), Hardware(memory_gib=32), 1, "0.32.0")

    assert keys["kv_cache_memory_bytes"] == 4 * 1024**3
    assert (keys["gpu"], keys["gpu_total_gib"]) == ("cpu", 32)


def test_type_of_the_weights_is_what_is_asked_about() -> None:
    def dtype(**args: str) -> object:
        entry = wanted("chat", device="cpu", tensor=1, args=args)
        return engine_keys(entry, Hardware(memory_gib=32), 1, "0.32.0").get("quantization")

    assert [dtype(dtype=name) for name in ("float32", "bfloat16", "auto")] == [
        "float32",
        None,
        None,
    ]
    assert dtype() is None


def test_engines_that_fit_the_host_together_are_placed() -> None:
    entries = [on_cpu("chat", "4"), on_cpu("embed", "4")]

    placement = place({"a": Hardware(memory_gib=32)}, entries, predict)

    assert [item.id for item in placement.placed] == ["chat-a", "embed-a"]
    assert placement.misfits == ()


def test_engines_that_do_not_fit_together_are_told_with_the_sum() -> None:
    entries = [on_cpu("chat", "4"), on_cpu("embed", "4")]

    (misfit,) = place({"a": Hardware(memory_gib=24)}, entries, predict).misfits

    assert misfit.kind == "host_memory"
    assert "need 30.0 GiB of memory together" in misfit.why
    assert "it has 24" in misfit.why


@pytest.mark.parametrize(
    ("env", "why"),
    [
        ({"VLLM_CPU_KVCACHE_SPACE": "four"}, "'four': write GiB"),
        ({"VLLM_CPU_KVCACHE_SPACE": "nan"}, "'nan': write GiB"),
        ({}, "memory is not stated and VLLM_CPU_KVCACHE_SPACE is not set"),
    ],
)
def test_engine_whose_space_is_not_known_is_refused(env: dict[str, str], why: str) -> None:
    entry = wanted(device="cpu", tensor=1, env=env)

    (misfit,) = place({"a": Hardware()}, [entry], predict).misfits

    assert misfit.kind == "structural"
    assert why in misfit.why


def test_memory_that_nobody_stated_is_not_checked() -> None:
    assert place({"a": Hardware()}, [on_cpu("chat", "4")], predict).misfits == ()
