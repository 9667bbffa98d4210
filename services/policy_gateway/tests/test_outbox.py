"""Writes of one turn of the loop leave together, in order, and never to who was cut off."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from tresor_gateway.outbox import Outbox


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closing = False

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.closing

    def write(self, data: bytes) -> None:
        """One write to the kernel."""
        self.written.append(data)


def _as_transport(transport: Transport) -> asyncio.Transport:
    return cast("asyncio.Transport", transport)


@pytest.mark.asyncio
async def test_writes_leave_at_the_end_of_the_turn() -> None:
    outbox, one, other = Outbox(asyncio.get_running_loop()), Transport(), Transport()
    outbox.write(_as_transport(one), b"a")
    outbox.write(_as_transport(other), b"b")
    outbox.write(_as_transport(one), b"c")
    assert (one.written, other.written) == ([], [])
    await asyncio.sleep(0)
    assert (one.written, other.written) == ([b"a", b"c"], [b"b"])
    outbox.write(_as_transport(one), b"d")
    await asyncio.sleep(0)
    assert one.written == [b"a", b"c", b"d"]


@pytest.mark.asyncio
async def test_flush_sends_now_and_only_once() -> None:
    outbox, transport = Outbox(asyncio.get_running_loop()), Transport()
    outbox.write(_as_transport(transport), b"a")
    outbox.flush()
    assert transport.written == [b"a"]
    await asyncio.sleep(0)
    assert transport.written == [b"a"]


@pytest.mark.asyncio
async def test_who_was_cut_off_gets_nothing() -> None:
    outbox, gone, here = Outbox(asyncio.get_running_loop()), Transport(), Transport()
    outbox.write(_as_transport(gone), b"a")
    outbox.write(_as_transport(here), b"b")
    gone.closing = True
    await asyncio.sleep(0)
    assert (gone.written, here.written) == ([], [b"b"])
