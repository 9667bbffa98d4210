"""The request parameters that exist, typed; whatever is not here is refused by name.

``UNSET`` marks what the client did not send, so that a request is rebuilt as it was meant.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

Positive = Annotated[int, Meta(ge=1, le=10_000_000)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Stop = Annotated[str, Meta(max_length=512)]
Stops = Stop | Annotated[list[Stop], Meta(max_length=4)] | None
Seed = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
FunctionName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:/-]{1,128}$")]
# Ids of tool calls come from engines and other providers; a sentence for the model is none.
CallId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:|/=+-]{0,256}$")]


class Strict(Struct, forbid_unknown_fields=True, kw_only=True, gc=False):
    """An object of the request; an unknown member is an error."""


class StreamOptions(Strict):
    """What a stream ends with."""

    include_usage: bool | UnsetType = UNSET


class TextPart(Strict):
    """A piece of a message; images and audio do not exist here."""

    type: Literal["text"]
    text: str


class FunctionCall(Strict):
    """A call the model made earlier in the conversation."""

    name: FunctionName
    arguments: str


class ToolCall(Strict):
    """A tool call the model made earlier in the conversation."""

    id: CallId
    type: Literal["function"]
    function: FunctionCall
    index: int | UnsetType = UNSET


class Message(Strict):
    """One turn. Members a client echoes from an earlier answer are accepted when empty."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | UnsetType | None = UNSET
    name: str | UnsetType | None = UNSET
    tool_calls: list[ToolCall] | UnsetType | None = UNSET
    tool_call_id: CallId | UnsetType | None = UNSET
    refusal: str | UnsetType | None = UNSET
    reasoning: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType | None = UNSET
    annotations: Annotated[list[Raw], Meta(max_length=0)] | UnsetType | None = UNSET
    audio: UnsetType | None = UNSET
    function_call: UnsetType | None = UNSET


class FunctionDefinition(Strict):
    """A function the model may call."""

    name: FunctionName
    description: str | UnsetType | None = UNSET
    parameters: dict[str, Any] | UnsetType | None = UNSET
    strict: bool | UnsetType | None = UNSET


class Tool(Strict):
    """A tool the model may call."""

    type: Literal["function"]
    function: FunctionDefinition


class NamedFunction(Strict):
    """A function by its name."""

    name: FunctionName


class NamedTool(Strict):
    """The one tool the model must call."""

    type: Literal["function"]
    function: NamedFunction


class JsonSchema(Strict):
    """The schema an answer must obey."""

    name: FunctionName
    schema: dict[str, Any]
    description: str | UnsetType | None = UNSET
    strict: bool | UnsetType | None = UNSET


class ResponseFormat(Strict):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | UnsetType = UNSET


class Sampling(Strict):
    """What chat and text completions share."""

    model: str
    max_tokens: Positive | UnsetType | None = UNSET
    temperature: Annotated[float, Meta(ge=0, le=2)] | UnsetType | None = UNSET
    top_p: Probability | UnsetType | None = UNSET
    top_k: Annotated[int, Meta(ge=-1, le=100_000)] | UnsetType | None = UNSET
    min_p: Probability | UnsetType | None = UNSET
    repetition_penalty: Annotated[float, Meta(gt=0, le=2)] | UnsetType | None = UNSET
    frequency_penalty: Penalty | UnsetType | None = UNSET
    presence_penalty: Penalty | UnsetType | None = UNSET
    n: Positive | UnsetType | None = UNSET
    seed: Seed | UnsetType | None = UNSET
    stop: Stops | UnsetType = UNSET
    stream: bool | UnsetType | None = UNSET
    stream_options: StreamOptions | UnsetType | None = UNSET
    logit_bias: (
        Annotated[dict[str, Annotated[float, Meta(ge=-100, le=100)]], Meta(max_length=300)]
        | UnsetType
        | None
    ) = UNSET
    user: Annotated[str, Meta(max_length=512)] | UnsetType | None = UNSET
    cache_salt: str | UnsetType = UNSET


class ChatRequest(Sampling, kw_only=True):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=4096)]
    max_completion_tokens: Positive | UnsetType | None = UNSET
    logprobs: bool | UnsetType | None = UNSET
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | UnsetType | None = UNSET
    tools: Annotated[list[Tool], Meta(max_length=128)] | UnsetType | None = UNSET
    tool_choice: Literal["none", "auto", "required"] | NamedTool | UnsetType | None = UNSET
    parallel_tool_calls: bool | UnsetType | None = UNSET
    response_format: ResponseFormat | UnsetType | None = UNSET
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high"] | UnsetType | None = UNSET
    store: bool | UnsetType | None = UNSET


class CompletionRequest(Sampling, kw_only=True):
    """``POST /v1/completions``; token ids are refused, policy cannot read them."""

    prompt: str | Annotated[list[str], Meta(min_length=1)]
    echo: bool | UnsetType | None = UNSET
    logprobs: Annotated[int, Meta(ge=0, le=20)] | UnsetType | None = UNSET


class EmbeddingRequest(Strict):
    """``POST /v1/embeddings``."""

    model: str
    input: str | Annotated[list[str], Meta(min_length=1)]
    encoding_format: Literal["float", "base64"] | UnsetType | None = UNSET
    dimensions: Annotated[int, Meta(ge=1, le=65_536)] | UnsetType | None = UNSET
    user: Annotated[str, Meta(max_length=512)] | UnsetType | None = UNSET
    cache_salt: str | UnsetType = UNSET


class RerankRequest(Strict):
    """``POST /v1/rerank``."""

    model: str
    query: str
    documents: Annotated[list[str], Meta(min_length=1)]
    top_n: Annotated[int, Meta(ge=0, le=10_000)] | UnsetType | None = UNSET
    return_documents: bool | UnsetType | None = UNSET
    user: Annotated[str, Meta(max_length=512)] | UnsetType | None = UNSET
    cache_salt: str | UnsetType = UNSET
