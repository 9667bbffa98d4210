"""The prober against real sockets on loopback."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tresor.probe import exchange as module
from tresor.probe.exchange import Outcome, exchange
from tresor.probe.targets import Probe


def probe(proto: str, port: int, family: str = "ipv4") -> Probe:
    address = "127.0.0.1" if family == "ipv4" else "::1"
    return Probe("id", "what", True, "t", family, address, proto, port, "root")


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def mute_listener() -> Iterator[int]:
    """A UDP socket that takes datagrams and says nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        yield server.getsockname()[1]


@pytest.fixture
def echo() -> Iterator[int]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)

        def answer() -> None:
            data, peer = server.recvfrom(2048)
            server.sendto(data, peer)

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def test_each_kind_of_end_in_one_call(listener: int, mute_listener: int, echo: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        closed = gone.getsockname()[1]
    outcomes = exchange(
        [probe("tcp", listener), probe("tcp", closed), probe("udp", mute_listener),
         probe("udp", echo), probe("udp", closed)],
        timeout=0.3,
    )  # fmt: skip
    assert [outcome.kind for outcome in outcomes] == [
        module.REACHED,
        module.REFUSED,
        module.SILENT,
        module.REACHED,
        module.REFUSED,
    ]


def test_more_probes_than_sockets_at_once_keep_their_order(
    listener: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    with socket.create_server(("127.0.0.1", 0)) as gone:
        closed = gone.getsockname()[1]
    outcomes = exchange([probe("tcp", p) for p in (closed, listener, closed, listener)], 1)
    assert [outcome.kind for outcome in outcomes] == [module.REFUSED, module.REACHED] * 2


def test_each_socket_has_its_own_deadline(
    mute_listener: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, open_times = module._open, []

    def slow(item: Probe) -> socket.socket:
        open_times.append(time.monotonic())
        time.sleep(0.1)  # a busy host, on which opening the many sockets takes long
        return real(item)

    monkeypatch.setattr(module, "_open", slow)
    outcomes = exchange([probe("udp", mute_listener)] * 6, 0.25)
    assert {outcome.kind for outcome in outcomes} == {module.SILENT}
    # The first is closed while others are still opened, and each says how long it really was open.
    assert all(0.25 <= outcome.seconds < 0.45 for outcome in outcomes)
    assert len({outcome.seconds for outcome in outcomes}) > 1


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EPERM, module.BLOCKED),
        (errno.EHOSTUNREACH, module.ERROR),
        (errno.ENETUNREACH, module.ERROR),
        (errno.ECONNREFUSED, module.REFUSED),
        (errno.ETIMEDOUT, module.SILENT),
    ],
)
def test_what_the_kernel_says_is_told_apart(
    number: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_probe: Probe) -> socket.socket:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module, "_open", fail)
    assert exchange([probe("udp", 53)], 0.1)[0].kind == kind


def test_questions_are_what_servers_answer() -> None:
    ntp = module.question(123)
    assert (len(ntp), ntp[0] & 7, ntp[0] >> 3 & 7) == (48, 3, 4)
    dns = module.question(53)
    assert dns[2:] == (
        b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06verify\x07invalid\x00\x00\x01\x00\x01"
    )


def test_an_outcome_survives_json() -> None:
    outcome = Outcome(module.SILENT, "x", 1.0)
    assert Outcome(*outcome.as_list()) == outcome  # type: ignore[arg-type]
