"""Every text of a request that a model will read, in order, and the way to change it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tresor_gateway.api.parameters import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    JsonSchema,
    Message,
    RerankRequest,
    ResponseFormat,
    TextPart,
    Tool,
)

Request = ChatRequest | CompletionRequest | EmbeddingRequest | RerankRequest
# Gets a text and whether it may hold an injection; returns what stands there instead.
Change = Callable[[str, bool], str]
# What these roles say is the application's instruction, not an attack on it.
_TRUSTED_ROLES: Final = frozenset({"system", "developer"})


def change_texts(request: Request, change: Change) -> None:
    """Call ``change`` for each text, always in the same order, and keep what it returns."""
    if isinstance(request, EmbeddingRequest):
        request.input = _text_or_list(request.input, change)
        return
    if isinstance(request, RerankRequest):
        request.query = change(request.query, True)
        request.documents = [change(document, True) for document in request.documents]
        return
    if isinstance(request, CompletionRequest):
        request.prompt = _text_or_list(request.prompt, change)
    else:
        for message in request.messages:
            _change_message(message, change)
        if isinstance(request.tools, list):
            for tool in request.tools:
                _change_tool(tool, change)
        form = request.response_format
        if isinstance(form, ResponseFormat) and isinstance(form.json_schema, JsonSchema):
            schema = form.json_schema
            schema.schema = _change_values(schema.schema, change)
            if isinstance(schema.description, str):
                schema.description = change(schema.description, True)
    if isinstance(request.stop, (str, list)):
        request.stop = _text_or_list(request.stop, change)


def _text_or_list(value: str | list[str], change: Change) -> Any:  # noqa: ANN401 - same type as given
    if isinstance(value, str):
        return change(value, True)
    return [change(item, True) for item in value]


def _change_message(message: Message, change: Change) -> None:
    screened = message.role not in _TRUSTED_ROLES
    content = message.content
    if isinstance(content, str):
        message.content = change(content, screened)
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, TextPart):
                part.text = change(part.text, screened)
    if isinstance(message.name, str):
        message.name = change(message.name, screened)
    if isinstance(message.refusal, str):
        message.refusal = change(message.refusal, screened)
    if isinstance(message.reasoning, str):
        message.reasoning = change(message.reasoning, screened)
    if isinstance(message.reasoning_content, str):
        message.reasoning_content = change(message.reasoning_content, screened)
    if isinstance(message.tool_calls, list):
        for call in message.tool_calls:
            call.function.arguments = change(call.function.arguments, screened)


def _change_tool(tool: Tool, change: Change) -> None:
    function = tool.function
    if isinstance(function.description, str):
        function.description = change(function.description, True)
    if isinstance(function.parameters, dict):
        function.parameters = _change_values(function.parameters, change)


def _change_values(value: Any, change: Change) -> Any:  # noqa: ANN401 - JSON
    """The texts anywhere in a JSON value; the names of its members stay."""
    if isinstance(value, str):
        return change(value, True)
    if isinstance(value, dict):
        return {name: _change_values(item, change) for name, item in value.items()}
    if isinstance(value, list):
        return [_change_values(item, change) for item in value]
    return value
