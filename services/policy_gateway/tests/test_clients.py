"""The clients people use, against the real gateway: they check every shape themselves."""

from __future__ import annotations

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
from services.policy_gateway.tests.test_guardrails import only_request, streams, use

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import anthropic
    import openai

pytestmark = [pytest.mark.asyncio, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
MAIL = "anna.kovalova@example.org"
CALL = {"id": "t1", "type": "function", "function": {"name": "find", "arguments": '{"q":1}'}}
FUNCTION = {"type": "object", "properties": {"q": {"type": "integer"}}}


@pytest_asyncio.fixture
async def open_site(make_site: MakeSite) -> Site:
    endpoints = ["models", "chat.completions", "completions", "messages", "responses"]
    access = [{"group": "llm-users", "models": ["smollm"], "endpoints": endpoints}]
    return await make_site(access=access, guardrails={"request": {}, "response": {}})


@pytest_asyncio.fixture
async def openai_client(open_site: Site) -> AsyncIterator[openai.AsyncOpenAI]:
    base = f"http://{open_site.worker.address}/v1"
    token = open_site.issuer.token()
    async with openai.AsyncOpenAI(base_url=base, api_key=token, max_retries=0) as client:
        yield client


@pytest_asyncio.fixture
async def anthropic_client(open_site: Site) -> AsyncIterator[anthropic.AsyncAnthropic]:
    base = f"http://{open_site.worker.address}"
    token = open_site.issuer.token()
    async with anthropic.AsyncAnthropic(base_url=base, auth_token=token, max_retries=0) as client:
        yield client


async def tool_answer(request: EngineRequest, writer: Any) -> None:
    value = completion()
    value["choices"] = [
        {
            "index": 0,
            "message": {"role": "assistant", "content": None, "tool_calls": [CALL]},
            "finish_reason": "tool_calls",
        }
    ]
    await answer(writer, 200, json.dumps(value).encode())


async def tool_stream(request: EngineRequest, writer: Any) -> None:
    stream_head(writer)
    head = {**CALL, "index": 0, "function": {"name": "find", "arguments": ""}}
    for call in (head, *({"index": 0, "function": {"arguments": c}} for c in '{"q":1}')):
        delta = {"tool_calls": [call]}
        value = {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        chunk(writer, b"data: " + json.dumps(value).encode() + b"\n\n")
    chunk(writer, event("", finish="tool_calls") + usage_event() + DONE)
    writer.write(b"0\r\n\r\n")
    await writer.drain()


def words(*pieces: str) -> Any:
    return streams([*(event(piece) for piece in pieces), event("", finish="stop")])


async def test_openai_chat(openai_client: openai.AsyncOpenAI, engines: list[Engine]) -> None:
    messages: Any = [{"role": "user", "content": f"Write to {MAIL}"}]
    whole = await openai_client.chat.completions.create(model="small", messages=messages)
    assert whole.choices[0].message.content == "In Peru."
    use(engines, words("To [EMAIL", "_1] and ", "bob@ex", "ample.com"))
    stream = await openai_client.chat.completions.create(
        model="small", messages=messages, stream=True
    )
    text = "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
    assert text == f"To {MAIL} and [EMAIL_2]"
    with pytest.raises(openai.NotFoundError):
        await openai_client.chat.completions.create(model="big", messages=messages)


async def test_openai_responses(openai_client: openai.AsyncOpenAI, engines: list[Engine]) -> None:
    whole = await openai_client.responses.create(
        model="small", input=f"Write to {MAIL}", instructions="Be brief.", max_output_tokens=9
    )
    assert (whole.status, whole.output_text) == ("completed", "In Peru.")
    assert whole.usage is not None
    assert whole.usage.total_tokens == 10
    sent = only_request(engines)
    assert sent.target == "/v1/chat/completions"
    assert sent.body["messages"][1]["content"] == "Write to [EMAIL_1]"
    use(engines, words("To [EMAIL", "_1] ", "and bob@ex", "ample.com"))
    kinds: list[str] = []
    text = ""
    stream = await openai_client.responses.create(
        model="small", input=f"Write to {MAIL}", stream=True
    )
    async for part in stream:
        kinds.append(part.type)
        if part.type == "response.output_text.delta":
            text += part.delta
        if part.type == "response.completed":
            assert part.response.output_text == f"To {MAIL} and [EMAIL_2]"
    assert text == f"To {MAIL} and [EMAIL_2]"
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"


async def test_openai_responses_with_tools(
    openai_client: openai.AsyncOpenAI, engines: list[Engine]
) -> None:
    use(engines, tool_answer)
    tools: Any = [{"type": "function", "name": "find", "parameters": FUNCTION, "strict": False}]
    earlier: Any = [
        {"role": "user", "content": "Find it"},
        {"type": "function_call", "call_id": "t0", "name": "find", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "t0", "output": "nothing"},
    ]
    whole = await openai_client.responses.create(model="small", input=earlier, tools=tools)
    [item] = whole.output
    assert item.type == "function_call"
    assert (item.call_id, item.name, item.arguments) == ("t1", "find", '{"q":1}')
    roles = [message["role"] for message in only_request(engines).body["messages"]]
    assert roles == ["user", "assistant", "tool"]
    use(engines, tool_stream)
    stream = await openai_client.responses.create(
        model="small", input="Find it", tools=tools, stream=True
    )
    done = [p.arguments async for p in stream if p.type == "response.function_call_arguments.done"]
    assert done == ['{"q":1}']


@pytest.mark.parametrize(
    "change",
    [
        {"previous_response_id": "resp_1"},
        {"store": True},
        {"tools": [{"type": "web_search"}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
        {"background": True},
    ],
)
async def test_responses_refuse_what_needs_memory_or_the_internet(
    openai_client: openai.AsyncOpenAI, change: dict[str, Any]
) -> None:
    values: Any = {"model": "small", "input": "Hello", **change}
    with pytest.raises(openai.BadRequestError):
        await openai_client.responses.create(**values)


async def test_anthropic_messages(
    anthropic_client: anthropic.AsyncAnthropic, engines: list[Engine]
) -> None:
    messages: Any = [{"role": "user", "content": f"Write to {MAIL}"}]
    whole = await anthropic_client.messages.create(model="small", messages=messages, max_tokens=9)
    assert whole.content[0].type == "text"
    assert (whole.content[0].text, whole.stop_reason) == ("In Peru.", "end_turn")
    use(engines, words("To [EMAIL", "_1] ", "and bob@ex", "ample.com"))
    async with anthropic_client.messages.stream(
        model="small", messages=messages, max_tokens=9
    ) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        final = await stream.get_final_message()
    assert text == f"To {MAIL} and [EMAIL_2]"
    assert (final.usage.input_tokens, final.usage.output_tokens) == (7, 2)
    with pytest.raises(anthropic.NotFoundError):
        await anthropic_client.messages.create(model="big", messages=messages, max_tokens=9)


async def test_anthropic_tools(
    anthropic_client: anthropic.AsyncAnthropic, engines: list[Engine]
) -> None:
    use(engines, tool_stream)
    tools: Any = [{"name": "find", "input_schema": FUNCTION}]
    messages: Any = [{"role": "user", "content": "Find it"}]
    async with anthropic_client.messages.stream(
        model="small", messages=messages, max_tokens=9, tools=tools
    ) as stream:
        final = await stream.get_final_message()
    [block] = final.content
    assert block.type == "tool_use"
    assert (block.name, block.input, final.stop_reason) == ("find", {"q": 1}, "tool_use")
