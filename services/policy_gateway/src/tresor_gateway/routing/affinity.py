"""The same conversation goes to the same replica, whose prefix cache knows it already."""

from __future__ import annotations

import hashlib
import math
from typing import Final

from tresor_gateway.api.parameters import ChatRequest, CompletionRequest, TextPart
from tresor_gateway.api.texts import Request

_PREFIX: Final = 512
_MESSAGES: Final = 2


def key(request: Request, tenant: str) -> bytes:
    """What stays the same while a conversation grows: the tenant and how it began."""
    digest = hashlib.blake2b(tenant.encode(), digest_size=16)
    if isinstance(request, ChatRequest):
        for message in request.messages[:_MESSAGES]:
            content = message.content
            if isinstance(content, list):
                content = next((p.text for p in content if isinstance(p, TextPart)), "")
            if isinstance(content, str):
                digest.update(content[:_PREFIX].encode("utf-8", "replace"))
            # An answer comes second in a conversation without a system message.
            if message.role == "user":
                break
    elif isinstance(request, CompletionRequest):
        prompt = request.prompt if isinstance(request.prompt, str) else request.prompt[0]
        digest.update(prompt[:_PREFIX].encode("utf-8", "replace"))
    return digest.digest()


def score(key_bytes: bytes, address: str, weight: int) -> float:
    """Weighted rendezvous: the highest score wins; shares of keys follow the weights.

    When a replica comes or goes, only its own keys move.
    """
    digest = hashlib.blake2b(key_bytes, digest_size=8, salt=_salt(address)).digest()
    draw = (int.from_bytes(digest, "big") + 1) / (2**64 + 1)
    return -weight / math.log(draw)


def _salt(address: str) -> bytes:
    return hashlib.blake2b(address.encode(), digest_size=16).digest()
