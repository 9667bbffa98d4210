"""``POST /v1/messages``, Anthropic's interface, as a chat completion and back.

Only what a chat completion can express exists here: text, tools and their results.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from tresor_gateway.api.answers import Tokens, Usage
from tresor_gateway.api.completions import (
    ChatAnswer,
    Choice,
    FunctionText,
    Text,
    ToolCallText,
)
from tresor_gateway.api.parameters import (
    CallId,
    ChatRequest,
    FunctionCall,
    FunctionDefinition,
    FunctionName,
    Message,
    NamedFunction,
    NamedTool,
    Positive,
    Probability,
    Stop,
    Strict,
    Tool,
    ToolCall,
)

CacheControl = Raw | UnsetType | None
_STOP_REASONS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_ENCODER: Final = msgspec.json.Encoder()


class TextBlock(Strict, tag="text", tag_field="type"):
    """A piece of text; hints about caching are not ours to follow."""

    text: str
    cache_control: CacheControl = UNSET


class OnlyText(Strict):
    """A piece of text where nothing else may stand: there, a tag alone could be left out."""

    type: Literal["text"]
    text: str
    cache_control: CacheControl = UNSET


class ToolUseBlock(Strict, tag="tool_use", tag_field="type"):
    """A tool call the model made earlier."""

    id: CallId
    name: FunctionName
    input: dict[str, Any]
    cache_control: CacheControl = UNSET


class ToolResultBlock(Strict, tag="tool_result", tag_field="type"):
    """What a tool answered."""

    tool_use_id: CallId
    content: str | list[OnlyText] | UnsetType = UNSET
    is_error: bool | UnsetType = UNSET
    cache_control: CacheControl = UNSET


class Turn(Strict):
    """One message."""

    role: Literal["user", "assistant"]
    content: str | list[TextBlock | ToolUseBlock | ToolResultBlock]


class CustomTool(Strict):
    """A tool of the client; tools that a provider would run do not exist here."""

    name: FunctionName
    input_schema: dict[str, Any]
    description: str | UnsetType = UNSET
    type: Literal["custom"] | UnsetType | None = UNSET
    cache_control: CacheControl = UNSET


class ToolChoice(Strict):
    """Whether and which tool must be called."""

    type: Literal["auto", "any", "none", "tool"]
    name: FunctionName | UnsetType = UNSET
    disable_parallel_tool_use: bool | UnsetType = UNSET


class Metadata(Strict):
    """A label of the client's own; it is not passed on."""

    user_id: Annotated[str, Meta(max_length=512)] | UnsetType | None = UNSET


class MessagesRequest(Strict):
    """The body of a request."""

    model: str
    messages: Annotated[list[Turn], Meta(min_length=1, max_length=4096)]
    max_tokens: Positive
    system: str | list[OnlyText] | UnsetType = UNSET
    temperature: Probability | UnsetType = UNSET
    top_p: Probability | UnsetType = UNSET
    top_k: Annotated[int, Meta(ge=0, le=100_000)] | UnsetType = UNSET
    stop_sequences: Annotated[list[Stop], Meta(max_length=4)] | UnsetType = UNSET
    stream: bool | UnsetType = UNSET
    tools: Annotated[list[CustomTool], Meta(max_length=128)] | UnsetType = UNSET
    tool_choice: ToolChoice | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET


def to_chat(request: MessagesRequest) -> ChatRequest:
    """The same request as a chat completion."""
    messages: list[Message] = []
    if isinstance(request.system, (str, list)):
        messages.append(Message(role="system", content=_plain(request.system)))
    for turn in request.messages:
        messages += _turn(turn)
    chat = ChatRequest(
        model=request.model,
        messages=messages,
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        stop=request.stop_sequences,
        stream=request.stream,
    )
    if isinstance(request.top_k, int) and request.top_k > 0:
        chat.top_k = request.top_k
    if isinstance(request.tools, list) and request.tools:
        chat.tools = [
            Tool(
                type="function",
                function=FunctionDefinition(
                    name=tool.name, description=tool.description, parameters=tool.input_schema
                ),
            )
            for tool in request.tools
        ]
        _choose_tool(chat, request.tool_choice)
    return chat


def _choose_tool(chat: ChatRequest, choice: ToolChoice | UnsetType) -> None:
    if not isinstance(choice, ToolChoice):
        return
    if choice.type == "tool" and isinstance(choice.name, str):
        chat.tool_choice = NamedTool(type="function", function=NamedFunction(name=choice.name))
    elif choice.type in ("auto", "none"):
        chat.tool_choice = "none" if choice.type == "none" else "auto"
    else:
        chat.tool_choice = "required"
    if choice.disable_parallel_tool_use is True:
        chat.parallel_tool_calls = False


def _plain(content: str | list[OnlyText]) -> str:
    return content if isinstance(content, str) else "\n".join(block.text for block in content)


def _turn(turn: Turn) -> list[Message]:
    """Results of tools are messages of their own, before the text that came with them."""
    if isinstance(turn.content, str):
        return [Message(role=turn.role, content=turn.content)]
    out: list[Message] = []
    texts: list[str] = []
    calls: list[ToolCall] = []
    for block in turn.content:
        if isinstance(block, TextBlock):
            texts.append(block.text)
        elif isinstance(block, ToolUseBlock):
            arguments = _ENCODER.encode(block.input).decode()
            function = FunctionCall(name=block.name, arguments=arguments)
            calls.append(ToolCall(id=block.id, type="function", function=function))
        else:
            content = _plain(block.content) if isinstance(block.content, (str, list)) else ""
            out.append(Message(role="tool", tool_call_id=block.tool_use_id, content=content))
    if texts or calls or not out:
        message = Message(role=turn.role, content="\n".join(texts) if texts else None)
        if calls:
            message.tool_calls = calls
        out.append(message)
    return out


def from_chat(answer: ChatAnswer, model: str) -> bytes:
    """A whole answer in Anthropic's shape."""
    content: list[dict[str, Any]] = []
    finish: str | None = None
    if answer.choices:
        choice = answer.choices[0]
        finish = choice.finish_reason if isinstance(choice.finish_reason, str) else None
        if isinstance(choice.message, Text):
            content = _blocks(choice.message)
    return _ENCODER.encode(
        {
            "id": _identifier(answer),
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": content,
            "stop_reason": _STOP_REASONS.get(finish or "stop", "end_turn"),
            "stop_sequence": None,
            "usage": _usage(answer),
        }
    )


def _blocks(message: Text) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if isinstance(message.content, str) and message.content:
        blocks.append({"type": "text", "text": message.content})
    for call in message.tool_calls if isinstance(message.tool_calls, list) else []:
        if isinstance(call.function, FunctionText):
            blocks.append(
                {
                    "type": "tool_use",
                    "id": call.id if isinstance(call.id, str) else "",
                    "name": call.function.name if isinstance(call.function.name, str) else "",
                    "input": _arguments(call.function.arguments),
                }
            )
    return blocks


def _arguments(value: object) -> dict[str, Any]:
    """A model's arguments as an object; what is none is kept under a name that says so."""
    try:
        decoded = msgspec.json.decode(value) if isinstance(value, str) and value else {}
    except (msgspec.DecodeError, RecursionError):
        decoded = None
    return decoded if isinstance(decoded, dict) else {"invalid_json": value}


def _identifier(answer: ChatAnswer) -> str:
    return f"msg_{answer.id}" if isinstance(answer.id, str) else "msg_0"


def _usage(answer: ChatAnswer) -> dict[str, int]:
    tokens = Tokens.shown(answer.usage)
    return {"input_tokens": tokens.prompt, "output_tokens": tokens.completion}


class EventTranslator:
    """Chunks of a chat completion as Anthropic's events."""

    def __init__(self, model: str) -> None:
        self.model = model
        self._begun = False
        # The block that is open: its number, and the tool call it is for (-1: text).
        self._block = -1
        self._tool: int | None = None
        self._finish = "stop"
        self._usage = {"input_tokens": 0, "output_tokens": 0}

    def chunk(self, chunk: ChatAnswer) -> bytes:
        """The events a chunk becomes."""
        out: list[bytes] = []
        if not self._begun:
            self._begun = True
            out.append(self._start(chunk))
        if isinstance(chunk.usage, Usage):
            self._usage = _usage(chunk)
        for choice in chunk.choices:
            if choice.index == 0:
                out += self._choice(choice)
        return b"".join(out)

    def end(self) -> bytes:
        """The last events."""
        out = self._close()
        delta = {"stop_reason": _STOP_REASONS.get(self._finish, "end_turn"), "stop_sequence": None}
        out.append(_event("message_delta", {"delta": delta, "usage": self._usage}))
        out.append(_event("message_stop", {}))
        return b"".join(out)

    def _start(self, chunk: ChatAnswer) -> bytes:
        message: dict[str, Any] = {
            "id": _identifier(chunk),
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": self._usage,
        }
        return _event("message_start", {"message": message})

    def _choice(self, choice: Choice) -> list[bytes]:
        out: list[bytes] = []
        if isinstance(choice.finish_reason, str):
            self._finish = choice.finish_reason
        delta = choice.delta
        if not isinstance(delta, Text):
            return out
        if isinstance(delta.content, str) and delta.content:
            if self._tool != -1:
                out += self._open(-1, {"type": "text", "text": ""})
            out.append(self._delta({"type": "text_delta", "text": delta.content}))
        for call in delta.tool_calls if isinstance(delta.tool_calls, list) else []:
            out += self._call(call)
        return out

    def _call(self, call: ToolCallText) -> list[bytes]:
        out: list[bytes] = []
        function = call.function if isinstance(call.function, FunctionText) else FunctionText()
        number = call.index if isinstance(call.index, int) else 0
        if self._tool != number:
            block = {
                "type": "tool_use",
                "id": call.id if isinstance(call.id, str) else "",
                "name": function.name if isinstance(function.name, str) else "",
                "input": {},
            }
            out += self._open(number, block)
        if isinstance(function.arguments, str) and function.arguments:
            out.append(
                self._delta({"type": "input_json_delta", "partial_json": function.arguments})
            )
        return out

    def _open(self, tool: int, block: dict[str, Any]) -> list[bytes]:
        out = self._close()
        self._block += 1
        self._tool = tool
        start = {"index": self._block, "content_block": block}
        return [*out, _event("content_block_start", start)]

    def _close(self) -> list[bytes]:
        if self._tool is None:
            return []
        self._tool = None
        return [_event("content_block_stop", {"index": self._block})]

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", {"index": self._block, "delta": delta})


def _event(name: str, values: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _ENCODER.encode({"type": name, **values}))
