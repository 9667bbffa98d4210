"""``POST /v1/responses``, OpenAI's newer interface, as a chat completion and back.

Only what needs no memory exists here: ``store`` is false, and nothing refers to an earlier answer.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from tresor_gateway.api.answers import Tokens, Usage
from tresor_gateway.api.completions import ChatAnswer, FunctionText, Text, ToolCallText
from tresor_gateway.api.parameters import (
    CallId,
    ChatRequest,
    FunctionCall,
    FunctionDefinition,
    FunctionName,
    JsonSchema,
    Message,
    NamedFunction,
    NamedTool,
    Positive,
    Probability,
    ResponseFormat,
    Strict,
    TextPart,
    Tool,
    ToolCall,
)

_ENCODER: Final = msgspec.json.Encoder()


class InputText(Strict):
    """A piece of a message; answers of the model come back as ``output_text``."""

    type: Literal["input_text", "output_text", "text"]
    text: str
    annotations: Annotated[list[Any], Meta(max_length=0)] | UnsetType = UNSET
    logprobs: Annotated[list[Any], Meta(max_length=0)] | UnsetType = UNSET


class Item(Strict):
    """A message, a call of a function, or what it answered."""

    type: Literal["message", "function_call", "function_call_output"] = "message"
    role: Literal["user", "assistant", "system", "developer"] | UnsetType = UNSET
    content: str | list[InputText] | UnsetType = UNSET
    call_id: CallId | UnsetType = UNSET
    name: FunctionName | UnsetType = UNSET
    arguments: str | UnsetType = UNSET
    output: str | UnsetType = UNSET
    id: str | UnsetType | None = UNSET
    status: str | UnsetType | None = UNSET


class FunctionTool(Strict):
    """A function of the client; tools that a provider would run do not exist here."""

    type: Literal["function"]
    name: FunctionName
    parameters: dict[str, Any] | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    strict: bool | UnsetType | None = UNSET


class Format(Strict):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    name: FunctionName | UnsetType = UNSET
    schema: dict[str, Any] | UnsetType = UNSET
    strict: bool | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET


class TextOptions(Strict):
    """What ``text`` may say."""

    format: Format | UnsetType | None = UNSET


class ChosenTool(Strict):
    """The one function that must be called."""

    type: Literal["function"]
    name: FunctionName


class ResponsesRequest(Strict):
    """The body of a request."""

    model: str
    input: str | Annotated[list[Item], Meta(min_length=1, max_length=4096)]
    instructions: str | UnsetType | None = UNSET
    max_output_tokens: Positive | UnsetType | None = UNSET
    temperature: Annotated[float, Meta(ge=0, le=2)] | UnsetType | None = UNSET
    top_p: Probability | UnsetType | None = UNSET
    stream: bool | UnsetType | None = UNSET
    store: Literal[False] | UnsetType | None = UNSET
    tools: Annotated[list[FunctionTool], Meta(max_length=128)] | UnsetType | None = UNSET
    tool_choice: Literal["none", "auto", "required"] | ChosenTool | UnsetType | None = UNSET
    parallel_tool_calls: bool | UnsetType | None = UNSET
    text: TextOptions | UnsetType | None = UNSET
    user: Annotated[str, Meta(max_length=512)] | UnsetType | None = UNSET


def to_chat(request: ResponsesRequest) -> ChatRequest:
    """The same request as a chat completion."""
    messages: list[Message] = []
    if isinstance(request.instructions, str):
        messages.append(Message(role="system", content=request.instructions))
    if isinstance(request.input, str):
        messages.append(Message(role="user", content=request.input))
    else:
        messages += [_message(item) for item in request.input]
    chat = ChatRequest(
        model=request.model,
        messages=messages,
        max_tokens=request.max_output_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        stream=request.stream,
        parallel_tool_calls=request.parallel_tool_calls,
    )
    if isinstance(request.tools, list) and request.tools:
        chat.tools = [_tool(tool) for tool in request.tools]
        choice = request.tool_choice
        if isinstance(choice, ChosenTool):
            chat.tool_choice = NamedTool(type="function", function=NamedFunction(name=choice.name))
        else:
            chat.tool_choice = choice
    if isinstance(request.text, TextOptions) and isinstance(request.text.format, Format):
        chat.response_format = _format(request.text.format)
    return chat


def _message(item: Item) -> Message:
    if item.type == "function_call":
        function = FunctionCall(name=_text(item.name), arguments=_text(item.arguments))
        call = ToolCall(id=_text(item.call_id), type="function", function=function)
        return Message(role="assistant", content=None, tool_calls=[call])
    if item.type == "function_call_output":
        return Message(role="tool", tool_call_id=_text(item.call_id), content=_text(item.output))
    role = item.role if isinstance(item.role, str) else "user"
    if isinstance(item.content, list):
        return Message(role=role, content=[TextPart("text", part.text) for part in item.content])
    return Message(role=role, content=_text(item.content))


def _text(value: str | UnsetType) -> str:
    return value if isinstance(value, str) else ""


def _tool(tool: FunctionTool) -> Tool:
    function = FunctionDefinition(
        name=tool.name,
        description=tool.description,
        parameters=tool.parameters,
        strict=tool.strict,
    )
    return Tool(type="function", function=function)


def _format(form: Format) -> ResponseFormat:
    if form.type != "json_schema" or not isinstance(form.schema, dict):
        return ResponseFormat(type=form.type)
    name = form.name if isinstance(form.name, str) else "answer"
    schema = JsonSchema(name=name, schema=form.schema, strict=form.strict)
    return ResponseFormat(type="json_schema", json_schema=schema)


def from_chat(answer: ChatAnswer, model: str) -> bytes:
    """A whole answer in the shape of this interface."""
    output: list[dict[str, Any]] = []
    finish: object = None
    if answer.choices:
        choice = answer.choices[0]
        finish = choice.finish_reason
        if isinstance(choice.message, Text):
            output = _items(choice.message)
    status = "incomplete" if finish == "length" else "completed"
    return _ENCODER.encode(_response(answer, model, status, output))


def _items(message: Text) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if isinstance(message.content, str) and message.content:
        items.append(_text_item(0, message.content, "completed"))
    for call in message.tool_calls if isinstance(message.tool_calls, list) else []:
        items.append(_call_item(len(items), call, "completed"))
    return items


def _text_item(number: int, text: str, status: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {
        "id": f"item_{number}",
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": [part] if status == "completed" else [],
    }


def _call_item(number: int, call: ToolCallText, status: str) -> dict[str, Any]:
    function = call.function if isinstance(call.function, FunctionText) else FunctionText()
    return {
        "id": f"item_{number}",
        "type": "function_call",
        "call_id": call.id if isinstance(call.id, str) else "",
        "name": function.name if isinstance(function.name, str) else "",
        "arguments": function.arguments if isinstance(function.arguments, str) else "",
        "status": status,
    }


def _response(
    answer: ChatAnswer, model: str, status: str, output: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "id": f"resp_{answer.id}" if isinstance(answer.id, str) else "resp_0",
        "object": "response",
        "created_at": answer.created if isinstance(answer.created, int) else 0,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "model": model,
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "store": False,
        "usage": _usage(answer.usage) if isinstance(answer.usage, Usage) else None,
    }


def _usage(usage: Usage) -> dict[str, Any]:
    tokens = Tokens.shown(usage)
    return {
        "input_tokens": tokens.prompt,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": tokens.completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tokens.prompt + tokens.completion,
    }


class EventTranslator:
    """Chunks of a chat completion as the events of this interface."""

    def __init__(self, model: str) -> None:
        self.model = model
        self._sequence = 0
        self._last: ChatAnswer | None = None
        self._output: list[dict[str, Any]] = []
        # The item that is open: its tool call (-1: text), and what it says so far.
        self._tool: int | None = None
        self._said: list[str] = []
        self._finish: object = None

    def chunk(self, chunk: ChatAnswer) -> bytes:
        """The events a chunk becomes."""
        out: list[bytes] = []
        if self._last is None:
            response = _response(chunk, self.model, "in_progress", [])
            out.append(self._event("response.created", {"response": response}))
            out.append(self._event("response.in_progress", {"response": response}))
        if self._last is None or chunk.choices or isinstance(chunk.usage, Usage):
            self._last = chunk
        for choice in chunk.choices:
            if choice.index != 0:
                continue
            self._finish = choice.finish_reason or self._finish
            if isinstance(choice.delta, Text):
                out += self._piece(choice.delta)
        return b"".join(out)

    def end(self) -> bytes:
        """The last events."""
        out = self._close()
        status = "incomplete" if self._finish == "length" else "completed"
        if self._last is not None:
            response = _response(self._last, self.model, status, self._output)
            out.append(self._event(f"response.{status}", {"response": response}))
        return b"".join(out)

    def _piece(self, delta: Text) -> list[bytes]:
        out: list[bytes] = []
        if isinstance(delta.content, str) and delta.content:
            if self._tool != -1:
                out += self._open(-1, _text_item(len(self._output), "", "in_progress"))
                part = {"type": "output_text", "text": "", "annotations": []}
                out.append(self._event("response.content_part.added", self._where(part=part)))
            self._said.append(delta.content)
            values = self._where(delta=delta.content, logprobs=[])
            out.append(self._event("response.output_text.delta", values))
        for call in delta.tool_calls if isinstance(delta.tool_calls, list) else []:
            number = call.index if isinstance(call.index, int) else 0
            function = call.function if isinstance(call.function, FunctionText) else FunctionText()
            arguments = function.arguments
            if self._tool != number:
                function.arguments = ""
                out += self._open(number, _call_item(len(self._output), call, "in_progress"))
            if isinstance(arguments, str) and arguments:
                self._said.append(arguments)
                values = self._where(delta=arguments)
                out.append(self._event("response.function_call_arguments.delta", values))
        return out

    def _open(self, tool: int, item: dict[str, Any]) -> list[bytes]:
        out = self._close()
        self._tool = tool
        self._said = []
        self._output.append(item)
        values = {"output_index": len(self._output) - 1, "item": item}
        return [*out, self._event("response.output_item.added", values)]

    def _close(self) -> list[bytes]:
        if self._tool is None:
            return []
        text, number = "".join(self._said), len(self._output) - 1
        out: list[bytes] = []
        if self._tool == -1:
            part = {"type": "output_text", "text": text, "annotations": []}
            done = self._where(text=text, logprobs=[])
            out.append(self._event("response.output_text.done", done))
            out.append(self._event("response.content_part.done", self._where(part=part)))
            self._output[number] = _text_item(number, text, "completed")
        else:
            done = self._where(arguments=text)
            out.append(self._event("response.function_call_arguments.done", done))
            self._output[number] |= {"arguments": text, "status": "completed"}
        values = {"output_index": number, "item": self._output[number]}
        self._tool = None
        return [*out, self._event("response.output_item.done", values)]

    def _where(self, **values: object) -> dict[str, Any]:
        number = len(self._output) - 1
        place: dict[str, Any] = {"item_id": f"item_{number}", "output_index": number}
        if self._tool == -1:
            place["content_index"] = 0
        return place | values

    def _event(self, name: str, values: dict[str, Any]) -> bytes:
        event = {"type": name, "sequence_number": self._sequence, **values}
        self._sequence += 1
        return b"event: %b\ndata: %b\n\n" % (name.encode(), _ENCODER.encode(event))
