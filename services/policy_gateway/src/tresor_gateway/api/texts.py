"""Every text of a request that a model will read, in order, and the way to change it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tresor_gateway.api import errors
from tresor_gateway.api.parameters import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    JsonSchema,
    Message,
    NamedTool,
    RerankRequest,
    ResponseFormat,
    TextPart,
    Tool,
)

Request = ChatRequest | CompletionRequest | EmbeddingRequest | RerankRequest
# Gets a text and whether it may hold an injection; returns what stands there instead.
Change = Callable[[str, bool], str]
# Names that every schema has, and the values they usually have; nothing is hidden in them.
_KEYWORDS: Final = frozenset(
    {
        *("$defs", "$ref", "$schema", "additionalProperties", "allOf", "anyOf", "array", "boolean"),
        *("const", "default", "definitions", "description", "enum", "examples", "format"),
        *("integer", "items", "maxItems", "maxLength", "maximum", "minItems", "minLength"),
        *("minimum", "null", "number", "object", "oneOf", "pattern", "properties", "required"),
        *("string", "title", "type", "uniqueItems"),
    }
)
# No rule and no value reaches across this, and no name has it.
_BETWEEN: Final = "\n" * 8
_MAX_NAMES: Final = 10_000
_MAX_DEPTH: Final = 64
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
        if isinstance(request.tool_choice, NamedTool):
            named = request.tool_choice.function
            named.name = change(named.name, True)
        form = request.response_format
        if isinstance(form, ResponseFormat) and isinstance(form.json_schema, JsonSchema):
            schema = form.json_schema
            schema.name = change(schema.name, True)
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
            call.function.name = change(call.function.name, screened)
            call.function.arguments = change(call.function.arguments, screened)


def _change_tool(tool: Tool, change: Change) -> None:
    function = tool.function
    function.name = change(function.name, True)
    if isinstance(function.description, str):
        function.description = change(function.description, True)
    if isinstance(function.parameters, dict):
        function.parameters = _change_values(function.parameters, change)


def _change_values(value: Any, change: Change) -> Any:  # noqa: ANN401 - JSON
    """The texts anywhere in a JSON value, the names of its members among them."""
    names: list[str] = []
    _collect_names(value, names, _MAX_DEPTH)
    wanted = [name for name in dict.fromkeys(names) if name not in _KEYWORDS]
    # All names as one text: a model reads them too, and one scan is cheaper than hundreds.
    text = _BETWEEN.join(wanted)
    changed = change(text, True) if wanted else text
    renamed: dict[str, str] = {}
    if changed != text:
        new = changed.split(_BETWEEN)
        if len(new) != len(wanted) or len(set(new)) != len(new):
            raise errors.bad_request("Names of members in a JSON schema cannot be judged.")
        renamed = dict(zip(wanted, new, strict=True))
    return _change_nodes(value, change, renamed)


def _collect_names(value: Any, names: list[str], depth: int) -> None:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        names += value
        value = value.values()
    elif not isinstance(value, list):
        return
    if len(names) > _MAX_NAMES:
        raise errors.bad_request(f"A JSON schema may have at most {_MAX_NAMES} members.")
    if depth == 0:
        raise errors.bad_request(f"A JSON schema may be nested {_MAX_DEPTH} levels at most.")
    for item in value:
        _collect_names(item, names, depth - 1)


def _change_nodes(value: Any, change: Change, renamed: dict[str, str]) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, str):
        return value if value in _KEYWORDS else change(value, True)
    if isinstance(value, dict):
        return {
            renamed.get(name, name): _change_nodes(item, change, renamed)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_change_nodes(item, change, renamed) for item in value]
    return value
