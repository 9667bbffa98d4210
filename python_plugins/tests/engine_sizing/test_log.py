"""The start-up logs of several versions are understood."""

from __future__ import annotations

from pathlib import Path

import pytest

from tresor.engine_sizing.log import parse_log
from tresor.engine_sizing.metrics import parse_metrics
from tresor.engine_sizing.observed import Observed, first_known

FIXTURES = Path(__file__).parent / "fixtures"


def text(name: str) -> str:
    return (FIXTURES / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "cpu-0.32.0",
            Observed(version="0.32.0", kv_gib=1.0, kv_tokens=46592, max_concurrency=22.75),
        ),
        ("cpu-embedding-0.32.0", Observed(version="0.32.0")),
        (
            "v0-1-gpu",
            Observed(kv_gib=61.84, num_blocks=36184, max_concurrency=70.67, cudagraph_gib=0.13),
        ),
        ("v0-many-workers", Observed(weights_gib=8.405)),
        ("v1-first-0.7", Observed(weights_gib=67.7229, num_blocks=1381, max_concurrency=10.79)),
        ("v1-tokens-0.7.3", Observed(kv_tokens=2042016, max_concurrency=997.08)),
        ("v1-0.21-tp4", Observed(kv_gib=15.72)),
        ("v1-weights-tp", Observed(weights_gib=12.66)),
    ],
)
def test_log_is_read(name: str, expected: Observed) -> None:
    assert parse_log(text(f"{name}.log")) == expected


def test_worst_rank_counts() -> None:
    log = (
        "Model loading took 12.66 GiB memory and 1.0 seconds\n"
        "Model loading took 12.70 GiB memory and 1.0 seconds\n"
        "Available KV cache memory: 9.00 GiB\nAvailable KV cache memory: 8.50 GiB\n"
    )

    assert parse_log(log) == Observed(weights_gib=12.70, kv_gib=8.5)


def test_log_of_something_else_gives_nothing() -> None:
    assert parse_log("Started a service.\nKV cache\n") == Observed()


def test_capacity_is_read_from_the_metrics() -> None:
    assert parse_metrics(text("handmade-metrics-0.32.txt")) == Observed(
        kv_tokens=46592, max_concurrency=22.75, num_blocks=364, block_size=128
    )


def test_older_metrics_give_blocks_times_size() -> None:
    line = 'vllm:cache_config_info{block_size="16",num_gpu_blocks="1381",x="a\\"b"} 1.0\n'

    assert parse_metrics(line).kv_tokens == 22096


def test_engine_with_the_least_room_counts() -> None:
    line = 'vllm:cache_config_info{{engine="{}",kv_cache_size_tokens="{}"}} 1.0\n'

    assert parse_metrics(line.format(0, 900) + line.format(1, 800)).kv_tokens == 800


def test_engine_without_a_kv_cache_tells_no_tokens() -> None:
    line = 'vllm:cache_config_info{block_size="None",num_gpu_blocks="0"} 1.0\n'

    assert parse_metrics(line).kv_tokens is None


def test_metrics_come_before_the_log() -> None:
    told = first_known([Observed(kv_tokens=1), Observed(kv_tokens=2, kv_gib=3.0)])

    assert (told.kv_tokens, told.kv_gib) == (1, 3.0)
