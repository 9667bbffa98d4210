"""The exact list of what exists towards clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Endpoint:
    """One method and path, and the name that access rules, audit and metrics use for it."""

    name: str
    method: bytes
    target: bytes
    # Of the models that answer it; empty: the gateway answers itself.
    tasks: tuple[str, ...] = ()
    # The engine's own path, where it is another one.
    engine_target: bytes = b""
    anthropic: bool = False

    @property
    def translated(self) -> bool:
        """Whether an engine is asked for a chat completion instead."""
        return bool(self.engine_target)

    @property
    def upstream(self) -> bytes:
        """What an engine is asked."""
        return self.engine_target or self.target


MODELS: Final = Endpoint("models", b"GET", b"/v1/models")
CHAT: Final = Endpoint("chat.completions", b"POST", b"/v1/chat/completions", ("chat",))
COMPLETIONS: Final = Endpoint("completions", b"POST", b"/v1/completions", ("chat",))
EMBEDDINGS: Final = Endpoint("embeddings", b"POST", b"/v1/embeddings", ("embedding",))
MESSAGES: Final = Endpoint(
    "messages", b"POST", b"/v1/messages", ("chat",), CHAT.target, anthropic=True
)
RESPONSES: Final = Endpoint("responses", b"POST", b"/v1/responses", ("chat",), CHAT.target)
# An engine ranks with an embedding model too, by the cosine between question and text.
RERANK: Final = Endpoint("rerank", b"POST", b"/v1/rerank", ("rerank", "embedding"))
PUBLIC: Final = (MODELS, CHAT, COMPLETIONS, MESSAGES, RESPONSES, EMBEDDINGS, RERANK)
AUTHORIZE: Final = Endpoint("authorize", b"GET", b"/internal/authorize")


class EndpointTable:
    """Looks a request up by exact method and target; a query string is part of the target."""

    def __init__(self, tasks: frozenset[str], *, internal: bool) -> None:
        public = [e for e in PUBLIC if not e.tasks or not tasks.isdisjoint(e.tasks)]
        self._names = {endpoint.name: endpoint for endpoint in public}
        routes = [*public, AUTHORIZE] if internal else public
        self._routes = {(endpoint.method, endpoint.target): endpoint for endpoint in routes}

    def find(self, method: bytes, target: bytes) -> Endpoint | None:
        """The endpoint, or none: then it does not exist."""
        return self._routes.get((method, target))

    def named(self, name: str) -> Endpoint | None:
        """The public endpoint with this name."""
        return self._names.get(name)
