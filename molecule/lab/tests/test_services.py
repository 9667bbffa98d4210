"""The programs that run on the hosts outside the site."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FILES = Path(__file__).resolve().parents[1] / "files"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"lab_file_{name}", FILES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_any_bytes_get_an_http_answer() -> None:
    services = load("internet_services")

    async def probe() -> bytes:
        server = await asyncio.start_server(services.answer, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"\x16\x03\x01")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
        return answer

    assert asyncio.run(probe()).startswith(b"HTTP/1.1 200 OK")


def test_datagram_comes_back() -> None:
    services = load("internet_services")

    class Probe(asyncio.DatagramProtocol):
        def __init__(self, done: asyncio.Future[bytes]) -> None:
            self.done = done

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            self.done.set_result(data)

    async def probe() -> bytes:
        loop = asyncio.get_running_loop()
        echo, _ = await loop.create_datagram_endpoint(services.Echo, local_addr=("127.0.0.1", 0))
        done: asyncio.Future[bytes] = loop.create_future()
        address = echo.get_extra_info("sockname")
        client, _ = await loop.create_datagram_endpoint(lambda: Probe(done), remote_addr=address)
        client.sendto(b"hello")
        try:
            return await asyncio.wait_for(done, 5)
        finally:
            client.close()
            echo.close()

    assert asyncio.run(probe()) == b"hello"


CREDENTIALS = {
    "token_uri": "https://idp.example/token",
    "entries": {
        "alice": {"grant": "password", "client": "cli", "secret": "p w"},
        "batch": {"grant": "client_credentials", "secret": "s:1"},
    },
}


def test_person_asks_with_password_through_the_public_client() -> None:
    request = load("company_token").request("alice", CREDENTIALS)
    assert request.data == b"grant_type=password&client_id=cli&username=alice&password=p+w"
    assert request.get_header("Authorization") is None


def test_client_asks_with_its_secret_in_the_header() -> None:
    request = load("company_token").request("batch", CREDENTIALS)
    assert request.data == b"grant_type=client_credentials"
    assert request.get_header("Authorization") == "Basic YmF0Y2g6cyUzQTE="


def test_unknown_subject_lists_the_known_ones() -> None:
    with pytest.raises(SystemExit, match="alice, batch"):
        load("company_token").request("mallory", CREDENTIALS)
