"""Embeddings through the gateway: the engine gives what sentence-transformers gives."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REFERENCE = Path(__file__).parent / "reference" / "embeddings.json"
MODEL = "all-minilm-l6-v2"
SAME = 0.999

Curl = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(REFERENCE.read_text(encoding="utf-8"))
    return content


def cosine(one: list[float], other: list[float]) -> float:
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return dot / math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))


def test_vectors_equal_those_of_sentence_transformers(
    curl: Curl, token: Callable[[str], str], reference: dict[str, Any]
) -> None:
    body = {"model": MODEL, "input": reference["texts"]}
    status, answer = curl("/v1/embeddings", token=token("alice"), body=body)
    assert status == 200, answer
    found = [entry["embedding"] for entry in answer["data"]]
    wanted = reference["vectors"]
    for text, one, other in zip(reference["texts"], found, wanted, strict=True):
        assert len(one) == 384
        assert cosine(one, other) >= SAME, text
    # The measure can tell texts apart, or the assertion above would prove nothing.
    assert max(cosine(found[0], other) for other in wanted[1:]) < SAME


def test_texts_are_ranked_by_how_near_they_are_to_the_question(
    curl: Curl, token: Callable[[str], str]
) -> None:
    """The engine ranks with an embedding model; the order is checked against its own vectors."""
    question = "Where is the capital of France?"
    texts = ["Bananas are yellow.", "Paris is the capital of France.", "The safe is in the cellar."]
    body = {"model": MODEL, "query": question, "documents": texts, "top_n": 2}
    status, answer = curl("/v1/rerank", token=token("alice"), body=body)
    assert status == 200, answer
    ranked = [(entry["index"], entry["document"]["text"]) for entry in answer["results"]]
    assert len(ranked) == 2
    status, given = curl(
        "/v1/embeddings", token=token("alice"), body={"model": MODEL, "input": [question, *texts]}
    )
    assert status == 200, given
    asked, *vectors = [entry["embedding"] for entry in given["data"]]
    nearest = sorted(range(3), key=lambda n: cosine(asked, vectors[n]), reverse=True)
    assert ranked == [(n, texts[n]) for n in nearest[:2]]
    assert ranked[0][0] == 1
    for entry in answer["results"]:
        near = cosine(asked, vectors[entry["index"]])
        assert abs(entry["relevance_score"] - near) < 0.01


def test_ranking_needs_the_right_group(curl: Curl, token: Callable[[str], str]) -> None:
    body = {"model": MODEL, "query": "q", "documents": ["d"]}
    status, _ = curl("/v1/rerank", token=token("bob"), body=body)
    assert status in {403, 404}


def test_embeddings_need_the_right_group(curl: Curl, token: Callable[[str], str]) -> None:
    body = {"model": MODEL, "input": "Hello"}
    status, _ = curl("/v1/embeddings", token=token("bob"), body=body)
    assert status in {403, 404}


def test_a_chat_model_gives_no_embeddings(curl: Curl, token: Callable[[str], str]) -> None:
    body = {"model": "smollm2-135m-instruct", "input": "Hello"}
    status, _ = curl("/v1/embeddings", token=token("alice"), body=body)
    assert status in {400, 404}
