"""Who waits for whom when engines share a GPU."""

from __future__ import annotations

from typing import Any

from python_plugins.filter.tresor_gpu_turns import tresor_gpu_turns


def engine(name: str, gpus: str | None, share: float | None = None, **more: Any) -> dict[str, Any]:
    env = {} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus}
    args = {} if share is None else {"gpu_memory_utilization": share}
    return {"id": name, "device": "cuda", "env": env, "args": args} | more


def test_engines_with_gpus_of_their_own_wait_for_nobody() -> None:
    assert tresor_gpu_turns([engine("a", "0"), engine("b", "1"), engine("c", "10")]) == {}


def test_the_larger_engine_starts_first() -> None:
    found = tresor_gpu_turns([engine("embed", "0", 0.1), engine("chat", "0", 0.6)])
    assert list(found) == ["chat", "embed"]
    assert found["embed"] == {"gpus": ["0"], "rank": 1, "after": ["chat"]}
    assert found["chat"]["after"] == []


def test_an_engine_waits_only_for_those_on_its_own_gpus() -> None:
    found = tresor_gpu_turns(
        [
            engine("wide", "0,1", 0.5),
            engine("left", "0", 0.3),
            engine("right", "1", 0.2),
            engine("alone", "2", 0.8),
        ]
    )
    assert list(found) == ["wide", "left", "right"]
    assert found["wide"]["gpus"] == ["0", "1"]
    assert found["right"] == {"gpus": ["1"], "rank": 2, "after": ["wide"]}


def test_an_engine_without_named_gpus_shares_with_every_other() -> None:
    found = tresor_gpu_turns([engine("free", None, 0.3), engine("bound", "3", 0.9)])
    assert found["free"]["after"] == ["bound"] or found["bound"]["after"] == ["free"]
    assert set(found["free"]["gpus"]) == {"3", "all"}


def test_two_engines_without_named_gpus_share() -> None:
    assert len(tresor_gpu_turns([engine("a", None), engine("b", "")])) == 2


def test_engines_on_the_processor_share_no_gpu() -> None:
    cpu = {"id": "cpu", "device": "cpu", "env": {"CUDA_VISIBLE_DEVICES": "0"}}
    assert tresor_gpu_turns([cpu, engine("a", "0")]) == {}


def test_equal_engines_start_in_the_order_of_their_names() -> None:
    assert list(tresor_gpu_turns([engine("b", "0", 0.4), engine("a", "0", 0.4)])) == ["a", "b"]


def test_options_written_with_dashes_and_odd_values_count() -> None:
    dashed = engine("b", "0") | {"args": {"gpu-memory-utilization": "0.2"}}
    odd = engine("a", "0") | {"args": {"gpu_memory_utilization": "much"}}
    assert list(tresor_gpu_turns([dashed, odd])) == ["a", "b"]
