"""What the engine says: a text with planted values, cut at every byte position.

Four variants of the same text are cut every four characters, each one character later than the
one before. So over the variants every value is split between every two of its characters.
"""

from __future__ import annotations

import json
from typing import Any, Final

MODEL: Final = "bench-model"
TOKEN_CHARACTERS: Final = 4
VARIANTS: Final = TOKEN_CHARACTERS
# Made up, and valid by their check digits.
SECRETS: Final = (
    "anna.kovalova@example.org",
    "+420 601 234 567",
    "4111 1111 1111 1111",
    "DE89 3704 0044 0532 0130 00",
    "ghp_aB3dE5aB3dE5aB3dE5aB3dE5aB3dE5aB3dE5",
)
TEXT: Final = (
    "The report is due when the queue is short and the batch is full. Write to {} about it, or "
    "call {} after nine. The card {} was refused at the desk, so the order waits for a transfer "
    "to {}. We keep one record for every call, and the old key {} is no longer in use."
).format(*SECRETS)


def pieces(variant: int) -> list[str]:
    """The text as tokens."""
    first = TEXT[: variant + 1]
    rest = TEXT[variant + 1 :]
    cut = range(0, len(rest), TOKEN_CHARACTERS)
    return [first, *(rest[start : start + TOKEN_CHARACTERS] for start in cut)]


TOKENS: Final = min(len(pieces(variant)) for variant in range(VARIANTS))


def events(variant: int) -> list[bytes]:
    """One stream's events as HTTP chunks: role, tokens, end, mark."""
    out = [_event({"role": "assistant", "content": ""}, None)]
    out += [_event({"content": piece}, None) for piece in pieces(variant)]
    out.append(_event({}, "stop"))
    out.append(b"data: [DONE]\n\n")
    return [b"%x\r\n%b\r\n" % (len(event), event) for event in out]


def answer() -> bytes:
    """A whole answer."""
    message = {"role": "assistant", "content": TEXT}
    return _encode(
        {
            "id": "chatcmpl-00000000000000000000000000000000",
            "object": "chat.completion",
            "created": 1770000000,
            "model": MODEL,
            "choices": [
                {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
            ],
            "usage": {"prompt_tokens": 250, "completion_tokens": 96, "total_tokens": 346},
        }
    )


def question(*, stream: bool, number: int = 0) -> bytes:
    """A request of about one kilobyte with two values to mask; no two numbers ask the same."""
    words = "Sum up the notes of the meeting about the new warehouse and its opening hours. " * 11
    text = f"Case {number:08}. {words}Ask {SECRETS[0]} or call {SECRETS[1]}."
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": text},
    ]
    return _encode({"model": MODEL, "messages": messages, "max_tokens": 128, "stream": stream})


def _event(delta: dict[str, Any], finish: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    value = {
        "id": "chatcmpl-00000000000000000000000000000000",
        "object": "chat.completion.chunk",
        "created": 1770000000,
        "model": MODEL,
        "choices": [choice],
    }
    return b"data: " + _encode(value) + b"\n\n"


def _encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
