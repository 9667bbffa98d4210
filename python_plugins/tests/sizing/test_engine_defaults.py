"""What vLLM does by default on a card, version by version, as its sources say."""

from __future__ import annotations

from typing import Any

import pytest

from tresor.sizing import estimate
from tresor.sizing.memory.activation import Batch
from tresor.sizing.memory.card import card_of
from tresor.sizing.memory.engine import engine_of
from tresor.sizing.memory.overhead import capture_sizes
from tresor.sizing.model import describe

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


def resolved(**options: Any) -> tuple[int, int]:
    found = estimate(**{"model": LLAMA, "max_model_len": 4096, **options})["resolved"]
    return found["max_num_batched_tokens"], found["max_num_seqs"]


@pytest.mark.parametrize(
    ("gpu", "version", "batch"),
    [
        ("H100", "0.32.0", (8192, 1024)),
        ("B200", "0.24.0", (8192, 1024)),
        ("B200", "0.32.0", (16384, 1024)),
        ("L40S", "0.32.0", (2048, 256)),
        ("A100 SXM 80GB", "0.32.0", (2048, 256)),
        # Much memory and little speed: on the small tier since 0.33.
        ("GB10", "0.32.0", (8192, 1024)),
        ("GB10", "0.33.0", (2048, 256)),
    ],
)
def test_batch_defaults_of_cards(gpu: str, version: str, batch: tuple[int, int]) -> None:
    assert resolved(gpu=gpu, vllm_version=version) == batch


def test_default_batch_holds_no_more_than_every_context() -> None:
    options = {"gpu": "H100", "max_num_seqs": 1, "max_model_len": 2048}
    assert resolved(vllm_version="0.14.0", **options) == (2048, 1)
    assert resolved(vllm_version="0.11.0", **options) == (8192, 1)
    # A batch that is asked for stays as it is.
    assert resolved(vllm_version="0.14.0", max_num_batched_tokens=8192, **options) == (8192, 1)


def test_encoders_take_a_whole_text_in_one_batch() -> None:
    assert resolved(model="BAAI/bge-m3", gpu="L4", max_model_len=None)[0] == 8194
    assert resolved(model="BAAI/bge-m3", gpu="L4", max_model_len=512)[0] == 2048


@pytest.mark.parametrize(
    ("model", "gpu", "version", "batch", "sizes"),
    [
        (LLAMA, "H100", "0.19.0", Batch(8192, 1024), (51, 512)),
        (LLAMA, "H100", "0.32.0", Batch(8192, 1024), (51, 512)),
        (LLAMA, "H100", "0.32.0", Batch(8192, 16), (7, 32)),
        (LLAMA, "B200", "0.24.0", Batch(8192, 1024), (51, 512)),
        (LLAMA, "B200", "0.32.0", Batch(16384, 1024), (83, 1024)),
        (LLAMA, "RTX PRO 6000", "0.32.0", Batch(8192, 1024), (51, 512)),
        # gpt-oss captures up to 1024 whatever the number of sequences; a batch still bounds it.
        ("openai/gpt-oss-20b", "H100", "0.11.0", Batch(8192, 1024), (81, 992)),
        ("openai/gpt-oss-20b", "H100", "0.19.0", Batch(8192, 16), (83, 1024)),
        ("openai/gpt-oss-20b", "H100", "0.19.0", Batch(512, 16), (51, 512)),
    ],
)
def test_sizes_of_captured_graphs(
    model: str, gpu: str, version: str, batch: Batch, sizes: tuple[int, int]
) -> None:
    assert capture_sizes(describe(model), engine_of(version), card_of(gpu, None), batch) == sizes
