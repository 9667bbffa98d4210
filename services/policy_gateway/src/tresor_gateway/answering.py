"""What stands behind the guardrails: the call itself, or somebody between it and them."""

from __future__ import annotations

from typing import Protocol

from tresor_gateway.api.errors import ApiError
from tresor_gateway.http.exchange import Exchange
from tresor_gateway.upstream.forward import Forward, Receiver


class Answering(Receiver, Protocol):
    """Takes what may pass, and can say no."""

    @property
    def exchange(self) -> Exchange:
        """The request that is answered."""

    @property
    def forward(self) -> Forward | None:
        """The request on its way to an engine."""

    @property
    def streaming(self) -> bool:
        """Whether the client has seen the beginning of a stream."""

    def refuse(self, error: ApiError) -> None:
        """An answer that is not the one asked for."""
