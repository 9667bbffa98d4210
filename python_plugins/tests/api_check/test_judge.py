"""Which answers pass, and which only look like it."""

from __future__ import annotations

import json

import pytest

from tresor.api_check import judge
from tresor.api_check.client import Response

ERROR = {"error": {"message": "no", "type": "invalid_request_error", "code": None}}


def answer(status: int, body: object = None, **headers: str) -> Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, headers, data, 0.1)


def test_a_refusal_needs_the_status_and_the_shape() -> None:
    assert judge.refused(answer(401, ERROR), {401}, shaped=True)[0]
    assert not judge.refused(answer(403, ERROR), {401}, shaped=True)[0]
    assert not judge.refused(answer(401, b"<html>401</html>"), {401}, shaped=True)[0]
    assert judge.refused(answer(404, b"<html>404</html>"), {404}, shaped=False)[0]


@pytest.mark.parametrize("status", [200, 302, 500, 502, 503])
def test_success_and_breakage_are_no_refusal(status: int) -> None:
    assert not judge.refused(answer(status, ERROR), {401, 403, 404}, shaped=False)[0]


def test_a_404_of_the_engine_is_no_refusal() -> None:
    assert not judge.refused(answer(404, {"detail": "Not Found"}), {404}, shaped=False)[0]
    through = answer(404, ERROR, server="uvicorn")
    assert not judge.refused(through, {404}, shaped=False)[0]


def listing(*names: str) -> Response:
    return answer(200, {"object": "list", "data": [{"id": name} for name in names]})


def test_the_list_holds_the_allowed_models_and_at_most_their_aliases() -> None:
    assert judge.model_list(listing("smol"), {"smol"}, {"small"})[0]
    assert judge.model_list(listing("smol", "small"), {"smol"}, {"small"})[0]
    assert not judge.model_list(listing("smol", "mini"), {"smol"}, {"small"})[0]
    assert not judge.model_list(listing("small"), {"smol"}, {"small"})[0]
    assert not judge.model_list(answer(200, {"data": "smol"}), {"smol"}, set())[0]


def test_no_models_is_a_refusal_or_an_empty_list() -> None:
    assert judge.no_models(answer(403, ERROR))[0]
    assert judge.no_models(listing())[0]
    assert not judge.no_models(listing("smol"))[0]
    assert not judge.no_models(answer(401, ERROR))[0]


def test_an_answer_has_a_text() -> None:
    good = {"choices": [{"message": {"content": "Red."}, "text": "Red."}]}
    empty = {"choices": [{"message": {"content": " "}, "text": None}]}
    assert judge.chat_answer(answer(200, good))[0]
    assert judge.text_answer(answer(200, good))[0]
    for bad in (answer(200, empty), answer(200, {}), answer(200, b"x"), answer(503, good)):
        assert not judge.chat_answer(bad)[0]
        assert not judge.text_answer(bad)[0]


def test_an_embedding_is_a_vector_of_numbers() -> None:
    assert judge.embedding_answer(answer(200, {"data": [{"embedding": [0.1, 2]}]}))[0]
    for vector in ([], ["a"], None):
        assert not judge.embedding_answer(answer(200, {"data": [{"embedding": vector}]}))[0]


def test_a_reranker_scores_every_document_once() -> None:
    def scored(*indices: int) -> Response:
        results = [{"index": index, "relevance_score": 0.5} for index in indices]
        return answer(200, {"results": results})

    assert judge.rerank_answer(scored(1, 0), 2)[0]
    for refused in (scored(0), scored(0, 0), scored(0, 2), answer(200, {}), answer(404, {})):
        assert not judge.rerank_answer(refused, 2)[0]


def stream(*events: tuple[float, str]) -> Response:
    return Response(200, {}, b"", 1.0, events)


def piece(text: str | None) -> str:
    return json.dumps({"choices": [{"delta": {"content": text}}]})


def test_a_stream_has_pieces_with_time_between_and_an_end() -> None:
    assert judge.streamed_answer(
        stream((0.1, piece("Red")), (0.2, piece("Blue")), (0.2, "[DONE]"))
    )[0]


@pytest.mark.parametrize(
    "events",
    [
        [(0.1, piece("Red")), (0.2, piece("Blue"))],
        [(0.1, piece("Red Blue")), (0.2, "[DONE]")],
        [(0.1, piece("Red")), (0.1001, piece("Blue")), (0.2, "[DONE]")],
        [(0.1, piece(None)), (0.2, piece("")), (0.3, piece("Red")), (0.4, "[DONE]")],
        [(0.1, "[DONE]")],
        [],
    ],
    ids=["no end", "one piece", "all at once", "one text", "no text", "nothing"],
)
def test_a_stream_that_is_none(events: list[tuple[float, str]]) -> None:
    assert not judge.streamed_answer(stream(*events))[0]


@pytest.mark.parametrize(
    ("ids", "ok"),
    [(["a", "b"], True), (["a", "a"], False), (["a", None], False), ([], False)],
)
def test_request_ids_are_there_and_distinct(ids: list[str | None], ok: bool) -> None:
    assert judge.request_ids(ids)[0] is ok
