"""Cut an engine's event stream into whole events without looking into most of them."""

from __future__ import annotations

from typing import Final

import msgspec

from tresor_gateway.api.answers import CHUNK, Chunk, Tokens

MAX_EVENT_BYTES: Final = 4 << 20
DONE: Final = b"data: [DONE]\n\n"
_END: Final = b"\n\n"
_DATA: Final = b"data:"


class StreamFaultError(Exception):
    """The engine sent something that is not an event stream, or an error event."""


class EventFilter:
    """Passes events through; takes out the end mark and the usage the client did not ask for."""

    def __init__(self, *, usage_wanted: bool) -> None:
        self._usage_wanted = usage_wanted
        self._carry = b""
        self.done = False
        self.tokens: Tokens | None = None

    def feed(self, data: bytes) -> bytes:
        """The whole events among the bytes so far; an unfinished one waits.

        Raises:
            StreamFaultError: an event is too large, malformed, an error, or behind the end.
        """
        if self._carry:
            data = self._carry + data
            self._carry = b""
        if not data.endswith(_END):
            cut = data.rfind(_END)
            end = 0 if cut < 0 else cut + len(_END)
            self._carry = data[end:]
            if len(self._carry) > MAX_EVENT_BYTES:
                raise StreamFaultError("event larger than the limit")
            data = data[:end]
        # Inside a JSON string a quote is escaped, so these marks are never part of a text.
        if b'"usage"' in data or b'"error"' in data or b"[DONE]" in data or self.done:
            return b"".join([self._event(event) for event in data.split(_END) if event])
        return data

    def _event(self, event: bytes) -> bytes:
        # A line too many between two events, or behind the last one, belongs to neither.
        event = event.lstrip(b"\n")
        if not event:
            return b""
        if self.done:
            raise StreamFaultError("event after the end of the stream")
        if not event.startswith(_DATA):
            return event + _END
        payload = event[len(_DATA) :].strip()
        if payload == b"[DONE]":
            self.done = True
            return b""
        if payload.startswith((b'{"error"', b'{"object":"error"')):
            raise StreamFaultError("error event")
        if b'"usage"' in payload:
            chunk = _decode(payload)
            if chunk.usage is not None:
                self.tokens = Tokens.of(chunk.usage)
                if not chunk.choices and not self._usage_wanted:
                    return b""
        return event + _END


def _decode(payload: bytes) -> Chunk:
    try:
        return CHUNK.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StreamFaultError("event is not JSON") from error
