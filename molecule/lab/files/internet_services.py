"""Answers on the ports that a host with a way out would reach first.

Any bytes sent to a TCP port get a short HTTP answer; a datagram gets itself back. So a probe
that arrives also gets its proof, whatever protocol it believes to speak.
"""

from __future__ import annotations

import asyncio
import socket
from typing import cast

TCP_PORTS = (53, 80, 443)
UDP_PORTS = (53, 123)
PATIENCE_SECONDS = 10.0
_BODY = b"You have reached the internet.\n"
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)


class Echo(asyncio.DatagramProtocol):
    """Sends every datagram back."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for the answers."""
        # asyncio's own datagram transports do not inherit from DatagramTransport.
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer one datagram."""
        self.transport.sendto(data, addr)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one TCP connection and close it."""
    try:
        if await asyncio.wait_for(reader.read(4096), PATIENCE_SECONDS):
            writer.write(_ANSWER)
            await writer.drain()
    except (OSError, TimeoutError):
        pass  # the peer left or said nothing: the connection itself was the proof
    finally:
        writer.close()


def listening(family: socket.AddressFamily, kind: socket.SocketKind, port: int) -> socket.socket:
    """Return a socket bound to a port of every address of one family."""
    bound = socket.socket(family, kind)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    bound.bind(("", port))
    return bound


async def main() -> None:
    """Listen on every port, IPv4 and IPv6, until the service is stopped."""
    loop = asyncio.get_running_loop()
    for family in (socket.AF_INET, socket.AF_INET6):
        for port in TCP_PORTS:
            await asyncio.start_server(answer, sock=listening(family, socket.SOCK_STREAM, port))
        for port in UDP_PORTS:
            await loop.create_datagram_endpoint(
                Echo, sock=listening(family, socket.SOCK_DGRAM, port)
            )
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
