"""The gateway's interface as an OpenAPI 3.1 document, made from the lists that decide.

``python -m tresor_gateway.api.openapi`` prints it. The gateway does not serve it: what is not an
endpoint of a model does not exist there.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import msgspec

from tresor_gateway import __version__
from tresor_gateway.api import completions, embeddings, endpoints, request
from tresor_gateway.api.endpoints import Endpoint

_REF: Final = "#/components/schemas/{name}"
# Set by the gateway; from a client it is refused.
_RESERVED: Final = "cache_salt"
_REFUSALS: Final = {
    "400": "The request is wrong, or the site's policy does not let it or its answer pass.",
    "401": "The access token is missing or not accepted.",
    "403": "The groups of the token may not use this endpoint.",
    "404": "The path, or the model for this user, does not exist.",
    "408": "The request did not arrive in time.",
    "413": "More than may be sent or judged at once.",
    "429": "A limit of the user or of the engines is used up; Retry-After says for how long.",
    "431": "The headers are too large.",
    "500": "The gateway failed.",
    "502": "The engine failed, or its answer does not obey the schema asked for.",
    "503": "Something behind the gateway is missing; Retry-After says when to try again.",
    "504": "The engine did not answer in time.",
}
_TEXT: Final = {"type": "string"}
_ERROR: Final[dict[str, Any]] = {
    "title": "Error",
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string", "minLength": 1},
                "type": _TEXT,
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
            "required": ["message", "type", "param", "code"],
            "additionalProperties": False,
        }
    },
    "required": ["error"],
    "additionalProperties": False,
}
_ANTHROPIC_ERROR: Final[dict[str, Any]] = {
    "title": "AnthropicError",
    "type": "object",
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "properties": {"type": _TEXT, "message": {"type": "string", "minLength": 1}},
            "required": ["type", "message"],
            "additionalProperties": False,
        },
    },
    "required": ["type", "error"],
    "additionalProperties": False,
}


def _made_here(title: str, required: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """An answer that the gateway writes itself."""
    return {
        "title": title,
        "type": "object",
        "properties": required,
        "required": sorted(required),
    }


_LIST: Final = {"type": "array", "items": {"type": "object"}}
_ANSWERS: Final[dict[str, dict[str, Any]]] = {
    endpoints.MODELS.name: _made_here("ModelList", {"object": {"const": "list"}, "data": _LIST}),
    endpoints.RERANK.name: _made_here("Ranking", {"model": _TEXT, "results": _LIST}),
    endpoints.MESSAGES.name: _made_here(
        "MessagesAnswer",
        {
            "id": _TEXT,
            "type": {"const": "message"},
            "role": {"const": "assistant"},
            "content": _LIST,
            "usage": {"type": "object"},
        },
    ),
    endpoints.RESPONSES.name: _made_here(
        "ResponsesAnswer",
        {
            "id": _TEXT,
            "object": {"const": "response"},
            "status": {"enum": ["completed", "incomplete"]},
            "output": _LIST,
        },
    ),
}
_TYPED_ANSWERS: Final[dict[str, Any]] = {
    endpoints.CHAT.name: completions.ChatAnswer,
    endpoints.COMPLETIONS.name: completions.PlainAnswer,
    endpoints.EMBEDDINGS.name: embeddings.EmbeddingAnswer,
}
_STREAMED: Final = frozenset(
    endpoint.name for endpoint in endpoints.PUBLIC if "chat" in endpoint.tasks
)


def document() -> dict[str, Any]:
    """The whole document."""
    types = [*request.BODY_TYPES.values(), *_TYPED_ANSWERS.values()]
    _, schemas = msgspec.json.schema_components(types, ref_template=_REF)
    for schema in schemas.values():
        schema.get("properties", {}).pop(_RESERVED, None)
    for answer in (*_ANSWERS.values(), _ERROR, _ANTHROPIC_ERROR):
        schemas[answer["title"]] = answer
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tresor policy gateway",
            "version": __version__,
            "description": (
                "Exactly these paths and parameters exist; anything else is refused by name. "
                "Endpoints of a task (embeddings, rerank) exist where the site has such a model."
            ),
        },
        "security": [{"bearer": []}],
        "paths": {
            endpoint.target.decode(): {endpoint.method.decode().lower(): _operation(endpoint)}
            for endpoint in endpoints.PUBLIC
        },
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
            "schemas": dict(sorted(schemas.items())),
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    error = _ANTHROPIC_ERROR if endpoint.anthropic else _ERROR
    answer = _ANSWERS.get(endpoint.name)
    title = answer["title"] if answer else _TYPED_ANSWERS[endpoint.name].__name__
    content: dict[str, Any] = {"application/json": {"schema": _ref(title)}}
    if endpoint.name in _STREAMED:
        # Events have no schema of their own in OpenAPI 3.1.
        content["text/event-stream"] = {}
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "responses": {
            "200": {"description": "The answer.", "content": content},
            **{
                status: {
                    "description": text,
                    "content": {"application/json": {"schema": _ref(error["title"])}},
                }
                for status, text in _REFUSALS.items()
            },
        },
    }
    body = request.BODY_TYPES.get(endpoint.name)
    if body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _ref(body.__name__)}},
        }
    return operation


def _ref(title: str) -> dict[str, str]:
    return {"$ref": _REF.format(name=title)}


def text() -> bytes:
    """The document as it is published."""
    return msgspec.json.format(msgspec.json.encode(document()), indent=1) + b"\n"


if __name__ == "__main__":
    sys.stdout.buffer.write(text())
