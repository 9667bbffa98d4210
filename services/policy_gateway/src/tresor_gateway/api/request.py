"""From a client's body to the body an engine gets: checked, capped, rebuilt from typed values.

Rebuilding means that gateway and engine can never read the same bytes in two ways.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec import UNSET

from tresor_gateway.api import endpoints, errors, messages, responses
from tresor_gateway.api.endpoints import Endpoint
from tresor_gateway.api.errors import ApiError
from tresor_gateway.api.parameters import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    JsonSchema,
    RerankRequest,
    ResponseFormat,
    Sampling,
    StreamOptions,
)

Request = ChatRequest | CompletionRequest | EmbeddingRequest | RerankRequest

BODY_TYPES: Final[dict[str, type[msgspec.Struct]]] = {
    endpoints.CHAT.name: ChatRequest,
    endpoints.COMPLETIONS.name: CompletionRequest,
    endpoints.EMBEDDINGS.name: EmbeddingRequest,
    endpoints.RERANK.name: RerankRequest,
    endpoints.MESSAGES.name: messages.MessagesRequest,
    endpoints.RESPONSES.name: responses.ResponsesRequest,
}
_DECODERS: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    name: msgspec.json.Decoder(kind) for name, kind in BODY_TYPES.items()
}
_ENCODER: Final = msgspec.json.Encoder()
_WHERE: Final = re.compile(r" - at `\$([^`]*)`$")
_UNKNOWN: Final = re.compile(r"unknown field `([^`]*)`")
_MISSING: Final = re.compile(r"missing required field `([^`]*)`")
# Never a parameter of ours, whoever asks; named so that the answer can say why.
_RESERVED: Final = "cache_salt"


@dataclass(frozen=True)
class RequestLimits:
    """What a request may ask for at most."""

    output_tokens: int
    choices: int
    inputs: int


@dataclass
class Prepared:
    """A request that passed: what is left to know is where it goes and who sent it."""

    request: Request
    stream: bool
    usage_wanted: bool
    parameters: dict[str, int | bool]
    # Tokens of the answer that the client asked for; 0 without a wish.
    asked_tokens: int = 0

    def body(self, served_name: str, cache_salt: str) -> bytes:
        """The engine's body, with its own model name and the tenant's cache salt."""
        self.request.model = served_name
        self.request.cache_salt = cache_salt
        return _ENCODER.encode(self.request)


def decode(endpoint: Endpoint, body: bytes) -> Request:
    """Parse a body and refuse what is unknown, wrongly typed or out of range.

    Raises:
        ApiError: 400 that names the parameter.
    """
    try:
        decoded = _DECODERS[endpoint.name].decode(body)
    except msgspec.ValidationError as invalid:
        raise _refusal(str(invalid)) from invalid
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise errors.bad_request("The body is not valid JSON.", code="invalid_json") from error
    except RecursionError as deep:
        raise errors.bad_request("The body is nested too deeply.", code="invalid_json") from deep
    request: Request = decoded
    if isinstance(decoded, messages.MessagesRequest):
        request = messages.to_chat(decoded)
    elif isinstance(decoded, responses.ResponsesRequest):
        request = responses.to_chat(decoded)
    if request.cache_salt is not UNSET:
        raise errors.bad_parameter(_RESERVED, "The parameter cache_salt is set by the gateway.")
    return request


def prepare(request: Request, limits: RequestLimits, context_tokens: int | None) -> Prepared:
    """Apply the limits that depend on the site and the model.

    Raises:
        ApiError: 400 that names the parameter.
    """
    # A label of the client's own that engines have no use for; a name may be in it.
    request.user = UNSET
    if isinstance(request, EmbeddingRequest):
        inputs = 1 if isinstance(request.input, str) else len(request.input)
        _at_most("input", inputs, limits.inputs)
        return Prepared(request, stream=False, usage_wanted=True, parameters={"inputs": inputs})
    if isinstance(request, RerankRequest):
        _at_most("documents", len(request.documents), limits.inputs)
        # The client gets its own texts back from us.
        request.return_documents = UNSET
        inputs = len(request.documents)
        return Prepared(request, stream=False, usage_wanted=True, parameters={"inputs": inputs})
    parameters: dict[str, int | bool] = {}
    if isinstance(request, CompletionRequest):
        prompts = 1 if isinstance(request.prompt, str) else len(request.prompt)
        _at_most("prompt", prompts, limits.inputs)
        parameters["inputs"] = prompts
    elif request.store:
        raise errors.bad_parameter("store", "Answers are not stored; remove the parameter store.")
    if isinstance(request, ChatRequest):
        _check_format(request.response_format)
    choices = request.n or 1
    _at_most("n", choices, limits.choices)
    wished = isinstance(request.max_tokens, int) or (
        isinstance(request, ChatRequest) and isinstance(request.max_completion_tokens, int)
    )
    tokens = _cap_tokens(request, limits.output_tokens, context_tokens)
    stream = bool(request.stream)
    usage_wanted = _ask_for_usage(request, stream)
    parameters |= {"n": choices, "stream": stream}
    if tokens is not None:
        parameters["max_tokens"] = tokens
    asked = tokens * choices if tokens is not None and wished else 0
    return Prepared(request, stream, usage_wanted, parameters, asked)


def _check_format(form: ResponseFormat | msgspec.UnsetType | None) -> None:
    """A schema belongs to one form of answers, and that form needs one."""
    if isinstance(form, ResponseFormat):
        given = isinstance(form.json_schema, JsonSchema)
        if given != (form.type == "json_schema"):
            name = "response_format.json_schema"
            raise errors.bad_request(
                f"The parameter {name} belongs to the type json_schema, which needs it.", param=name
            )


def _at_most(name: str, value: int, limit: int) -> None:
    if value > limit:
        raise errors.bad_parameter(
            name, f"The parameter {name} allows at most {limit}, not {value}."
        )


def _cap_tokens(request: Sampling, limit: int, context_tokens: int | None) -> int | None:
    """Keep the answer within the limit; returns the tokens asked for from the engine.

    Without a wish of the client nothing is asked for when the model's own context is the
    tighter bound: engines refuse a prompt that does not leave room for the tokens asked for.
    """
    wishes = [request.max_tokens]
    if isinstance(request, ChatRequest):
        wishes.append(request.max_completion_tokens)
        request.max_completion_tokens = UNSET
    numbers = [wish for wish in wishes if isinstance(wish, int)]
    if not numbers and context_tokens is not None and context_tokens <= limit:
        request.max_tokens = UNSET
        return None
    request.max_tokens = min([*numbers, limit])
    return request.max_tokens


def _ask_for_usage(request: Sampling, stream: bool) -> bool:
    """Have the engine report token counts; returns whether the client wants to see them."""
    options = request.stream_options
    if not stream:
        if isinstance(options, StreamOptions):
            raise errors.bad_parameter("stream_options", "stream_options needs stream: true.")
        request.stream_options = UNSET
        return True
    wanted = isinstance(options, StreamOptions) and options.include_usage is True
    request.stream_options = StreamOptions(include_usage=True)
    return wanted


def _refusal(message: str) -> ApiError:
    """Name the parameter in a decoder's message."""
    where = _WHERE.search(message)
    text = _WHERE.sub("", message)
    path = (where.group(1) if where else "").lstrip(".")
    unknown = _UNKNOWN.search(text)
    if unknown:
        name = f"{path}.{unknown.group(1)}".lstrip(".")
        return errors.bad_parameter(name, f"The parameter {name} is not supported.")
    missing = _MISSING.search(text)
    if missing:
        name = f"{path}.{missing.group(1)}".lstrip(".")
        return errors.bad_request(f"The parameter {name} is required.", param=name)
    return errors.bad_request(f"{path or 'body'}: {text}", param=path or None)
