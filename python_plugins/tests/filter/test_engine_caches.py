"""A cache of compiled kernels is used only where everything is as it was made with."""

from __future__ import annotations

from typing import Any

import pytest

from python_plugins.filter.tresor_engine_caches import engine_digest, tresor_engine_caches
from tresor.engine_cache import record

INSTANCE: dict[str, Any] = {
    "id": "chat-gpu1",
    "device": "cuda",
    "environment": "vllm-cuda",
    "artefact": "big",
    "task": "chat",
    "args": {"max_model_len": 8192, "tensor_parallel_size": 2},
    "env": {"CUDA_VISIBLE_DEVICES": "0,1", "VLLM_USE_X": "1"},
    "lora": [{"name": "claims", "artefact": "a", "rank": 16}],
    "speculative": {"method": "eagle3", "tokens": 3, "artefact": "draft"},
}
HOST = {
    "gpu": "H100 SXM 80GB",
    "driver": "580.95.05\n",
    "models": {"big": {"digest": "sha256:" + "ab" * 32}},
    "environments": {"vllm-cuda": {"requirements_sha256": "ee" * 32}},
}
FITS = {
    "gpu": "H100 SXM 80GB",
    "driver": "580.95.05",
    "requirements_sha256": "ee" * 32,
    "model_digest": "sha256:" + "ab" * 32,
    "engine_sha256": engine_digest(INSTANCE),
}


def chosen(instance: dict[str, Any] = INSTANCE, **fits: str) -> dict[str, str]:
    return tresor_engine_caches([instance], {"one": {"fits": FITS | fits}}, HOST)["chat-gpu1"]


def test_the_cache_that_fits_is_taken() -> None:
    assert chosen() == {"name": "one", "why": ""}


@pytest.mark.parametrize("key", FITS)
def test_any_difference_means_no_cache_and_is_told(key: str) -> None:
    found = chosen(**{key: "other"})
    assert found["name"] == ""
    assert found["why"].startswith(f"one has {key} other, here ")


def test_the_gpus_and_names_of_an_instance_do_not_matter() -> None:
    other = INSTANCE | {"env": {"CUDA_VISIBLE_DEVICES": "2,3", "VLLM_USE_X": 1}, "port": 8101}
    assert chosen(other)["name"] == "one"


def test_another_length_of_context_needs_another_cache() -> None:
    assert chosen(INSTANCE | {"args": {"max_model_len": 4096}})["name"] == ""


def test_a_release_without_caches_is_told() -> None:
    found = tresor_engine_caches([INSTANCE, {"id": "cpu", "device": "cpu"}], {}, HOST)
    assert found == {"chat-gpu1": {"name": "", "why": "the release carries none"}}


def test_filter_and_builder_mean_the_same_engine() -> None:
    for instance in (INSTANCE, {"task": "embedding"}, INSTANCE | {"lora": [], "speculative": None}):
        assert engine_digest(instance) == record.engine_digest(instance)
