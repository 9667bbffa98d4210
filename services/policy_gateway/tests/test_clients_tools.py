"""What else people do with their clients: tools, choices, schemas, vectors, LangChain and curl."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from services.policy_gateway.tests.conftest import MakeSite
from services.policy_gateway.tests.support import (
    DONE,
    Engine,
    EngineRequest,
    Site,
    answer,
    chunk,
    completion,
    event,
    stream_head,
    usage_event,
)
from services.policy_gateway.tests.test_clients import (
    CALL,
    FUNCTION,
    MAIL,
    tool_answer,
    tool_stream,
)
from services.policy_gateway.tests.test_guardrails import only_request, use

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import openai
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings
    from pydantic import BaseModel

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
ASK: Any = [{"role": "user", "content": f"Write to {MAIL}"}]
TOOLS: Any = [{"type": "function", "function": {"name": "find", "parameters": FUNCTION}}]


class City(BaseModel):
    """What a structured answer looks like."""

    name: str
    mail: str


@pytest_asyncio.fixture
async def full_site(make_site: MakeSite, engines: list[Engine]) -> Site:
    one = [{"url": engines[0].url, "served_name": "served"}]
    chat = ["models", "chat.completions", "completions", "messages", "responses"]
    return await make_site(
        models=[
            {"name": "small", "task": "chat", "replicas": one},
            {"name": "vectors", "task": "embedding", "replicas": one},
            {"name": "ranker", "task": "rerank", "replicas": one},
        ],
        access=[
            {"group": "llm-users", "models": ["small"], "endpoints": chat},
            {"group": "llm-users", "models": ["vectors"], "endpoints": ["embeddings"]},
            {"group": "llm-users", "models": ["ranker"], "endpoints": ["rerank"]},
        ],
        guardrails={"request": {}, "response": {}},
    )


def address(site: Site) -> dict[str, Any]:
    return {"base_url": f"http://{site.worker.address}/v1", "api_key": site.issuer.token()}


@pytest_asyncio.fixture
async def client(full_site: Site) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(**address(full_site), max_retries=0) as made:
        yield made


@pytest_asyncio.fixture
async def langchain(full_site: Site) -> AsyncIterator[dict[str, Any]]:
    """Settings of its classes; the connection would outlive the loop if they made it themselves."""
    async with openai.DefaultAsyncHttpxClient() as http:
        yield {**address(full_site), "http_async_client": http, "max_retries": 0}


def choices_of(*contents: str, **more: Any) -> Any:
    async def script(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        value = completion()
        value["choices"] = [
            {
                "index": index,
                "message": {"role": "assistant", "content": content},
                "finish_reason": "stop",
                **more,
            }
            for index, content in enumerate(contents)
        ]
        await answer(writer, 200, json.dumps(value).encode())

    return script


async def test_tools_with_several_choices(
    client: openai.AsyncOpenAI, engines: list[Engine]
) -> None:
    async def two(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        stream_head(writer)
        for index in (0, 1):
            arguments = json.dumps({"q": "[EMAIL_1]", "n": index})
            for piece in ("", *arguments):
                function = {"arguments": piece} | ({} if piece else {"name": "find"})
                call = {"index": 0, "function": function}
                call |= {} if piece else {"id": f"t{index}", "type": "function"}
                delta = {"tool_calls": [call]}
                value = {"id": "c", "choices": [{"index": index, "delta": delta}]}
                chunk(writer, b"data: " + json.dumps(value).encode() + b"\n\n")
            chunk(writer, event("", index, "tool_calls"))
        chunk(writer, usage_event() + DONE)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    use(engines, two)
    stream = await client.chat.completions.create(
        model="small", messages=ASK, tools=TOOLS, n=2, stream=True, tool_choice="required"
    )
    said = {0: "", 1: ""}
    names = {}
    async for part in stream:
        for choice in part.choices:
            for call in choice.delta.tool_calls or []:
                if call.function is not None:
                    said[choice.index] += call.function.arguments or ""
                if call.id:
                    names[choice.index] = call.id
    assert names == {0: "t0", 1: "t1"}
    assert [json.loads(said[index]) for index in (0, 1)] == [
        {"q": MAIL, "n": 0},
        {"q": MAIL, "n": 1},
    ]
    assert only_request(engines).body["n"] == 2


async def test_several_choices_with_probabilities(
    client: openai.AsyncOpenAI, engines: list[Engine]
) -> None:
    entries = [
        {"token": token, "logprob": -0.1, "bytes": list(token.encode()), "top_logprobs": []}
        for token in ("In", " Peru", ".")
    ]
    use(engines, choices_of("In Peru.", "In Peru.", logprobs={"content": entries}))
    whole = await client.chat.completions.create(
        model="small", messages=ASK, n=2, logprobs=True, top_logprobs=1
    )
    assert [choice.index for choice in whole.choices] == [0, 1]
    for choice in whole.choices:
        assert choice.logprobs is not None
        tokens = choice.logprobs.content or []
        assert "".join(token.token for token in tokens) == choice.message.content == "In Peru."


async def test_structured_answer_is_parsed(
    client: openai.AsyncOpenAI, engines: list[Engine]
) -> None:
    use(engines, choices_of('{"name": "Lima", "mail": "[EMAIL_1]"}'))
    whole = await client.chat.completions.parse(
        model="small", messages=ASK, response_format=City, max_tokens=50
    )
    assert whole.choices[0].message.parsed == City(name="Lima", mail=MAIL)
    assert only_request(engines).body["response_format"]["type"] == "json_schema"
    use(engines, choices_of("no JSON at all"))
    with pytest.raises(openai.InternalServerError, match="schema"):
        await client.chat.completions.parse(model="small", messages=ASK, response_format=City)


async def test_structured_answer_of_the_newer_interface(
    client: openai.AsyncOpenAI, engines: list[Engine]
) -> None:
    use(engines, choices_of('{"name": "Lima", "mail": "[EMAIL_1]"}'))
    whole = await client.responses.parse(model="small", input=f"Write to {MAIL}", text_format=City)
    assert whole.output_parsed == City(name="Lima", mail=MAIL)


async def test_embeddings_in_both_encodings(
    client: openai.AsyncOpenAI, engines: list[Engine]
) -> None:
    # The client asks for base64 by itself and decodes it.
    found = await client.embeddings.create(model="vectors", input=["a", MAIL])
    assert [item.embedding for item in found.data] == [[0.25, -1.5]] * 2
    sent = only_request(engines).body
    assert sent["encoding_format"] == "base64"
    assert sent["input"] == ["a", "[EMAIL_1]"]
    plain = await client.embeddings.create(model="vectors", input="a", encoding_format="float")
    assert plain.data[0].embedding == [0.25, -1.5]


async def test_rerank(client: openai.AsyncOpenAI, engines: list[Engine]) -> None:
    async def rank(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        assert request.body["documents"] == ["a", "[EMAIL_1]"]
        results = [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]
        await answer(writer, 200, json.dumps({"id": "r", "results": results}).encode())

    use(engines, rank)
    body = {"model": "ranker", "query": "who", "documents": ["a", MAIL]}
    found: Any = await client.post("/rerank", body=body, cast_to=object)
    assert [item["document"]["text"] for item in found["results"]] == [MAIL, "a"]


# --- LangChain -----------------------------------------------------------------------------------


async def test_langchain_chat_stream_and_tools(
    langchain: dict[str, Any], engines: list[Engine]
) -> None:
    model = ChatOpenAI(model="small", **langchain)
    assert (await model.ainvoke(f"Write to {MAIL}")).content == "In Peru."
    use(engines, choices_of('{"name": "Lima", "mail": "[EMAIL_1]"}'))
    structured = model.with_structured_output(City, method="json_schema")
    assert await structured.ainvoke(f"Write to {MAIL}") == City(name="Lima", mail=MAIL)

    async def words(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        stream_head(writer)
        pieces = (event("To "), event("[EMA"), event("IL_1]."), event("", finish="stop"))
        for piece in (*pieces, usage_event(), DONE):
            chunk(writer, piece)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    use(engines, words)
    text = "".join([str(part.content) async for part in model.astream(f"Write to {MAIL}")])
    assert text == f"To {MAIL}."
    use(engines, tool_answer)
    with_tools = model.bind_tools(TOOLS)
    called = await with_tools.ainvoke("Find it")
    assert [(call["name"], call["args"]) for call in called.tool_calls] == [("find", {"q": 1})]
    # The answer of the tool goes back with the model's call.
    use(engines, choices_of("Found."))
    result = {"role": "tool", "content": "7", "tool_call_id": called.tool_calls[0]["id"]}
    end = await with_tools.ainvoke([("user", "Find it"), called, result])
    assert end.content == "Found."
    roles = [message["role"] for message in only_last(engines).body["messages"]]
    assert roles == ["user", "assistant", "tool"]


async def test_langchain_streams_tool_calls(
    langchain: dict[str, Any], engines: list[Engine]
) -> None:
    use(engines, tool_stream)
    model = ChatOpenAI(model="small", **langchain).bind_tools(TOOLS)
    whole: Any = None
    async for part in model.astream("Find it"):
        whole = part if whole is None else whole + part
    assert [(call["name"], call["args"]) for call in whole.tool_calls] == [("find", {"q": 1})]


async def test_langchain_embeddings(langchain: dict[str, Any]) -> None:
    embedder = OpenAIEmbeddings(model="vectors", check_embedding_ctx_length=False, **langchain)
    assert await embedder.aembed_documents(["a", "b"]) == [[0.25, -1.5]] * 2


async def test_langchain_sends_texts_or_is_told_so(full_site: Site) -> None:
    embedder = openai.AsyncOpenAI(**address(full_site), max_retries=0)
    # What it sends with its default settings: token ids, which no policy can read.
    with pytest.raises(openai.BadRequestError, match="input"):
        await embedder.embeddings.create(model="vectors", input=[[1, 2, 3]])
    await embedder.close()


def only_last(engines: list[Engine]) -> EngineRequest:
    return engines[0].requests[-1]


# --- curl ----------------------------------------------------------------------------------------


async def curl(site: Site, path: str, body: Any = None, *more: str) -> tuple[int, str]:
    command = ["curl", "-sS", "-N", "--max-time", "20", "-w", "\n%{http_code}", *more]
    command += ["-H", f"Authorization: Bearer {site.issuer.token()}"]
    if body is not None:
        command += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    process = await asyncio.create_subprocess_exec(
        *command, f"http://{site.worker.address}{path}", stdout=asyncio.subprocess.PIPE
    )
    text, _, status = (await process.communicate())[0].decode().rpartition("\n")
    return int(status), text


async def test_curl_asks_streams_and_is_refused(full_site: Site, engines: list[Engine]) -> None:
    question = {"model": "small", "messages": ASK}
    status, text = await curl(full_site, "/v1/chat/completions", question)
    assert (status, json.loads(text)) == (200, completion())
    status, text = await curl(full_site, "/v1/models")
    assert (status, [model["id"] for model in json.loads(text)["data"]]) == (
        200,
        ["ranker", "small", "vectors"],
    )
    use(engines, tool_stream)
    status, text = await curl(
        full_site, "/v1/chat/completions", {**question, "stream": True, "tools": TOOLS}
    )
    assert status == 200
    assert text.rstrip().endswith("data: [DONE]")
    assert CALL["id"] in text
    status, text = await curl(full_site, "/v1/models", None, "--head")
    assert status == 404
    for path, body in (("/v1/models/small", None), ("/v1/chat/completions", {"model": "none"})):
        status, text = await curl(full_site, path, body)
        assert set(json.loads(text)["error"]) == {"message", "type", "param", "code"}
    # A large body makes curl wait for 100 Continue.
    large = {**question, "user": "u" * 512, "messages": [{"role": "user", "content": "x" * 5000}]}
    use(engines, choices_of("Fine."))
    expect = ("-H", "Expect: 100-continue")
    assert (await curl(full_site, "/v1/chat/completions", large, *expect))[0] == 200
