"""The checks of one vector database; what is run and connected is given by the caller."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from ..evidence.check import Check

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_HEADERS, _RESET, _GO_AWAY = 1, 3, 7
_FRAME: Final = 9
_REFUSALS: Final = ("auth", "illegal connection params")
"""Of pymilvus 3.0: by the call that is refused, the first or a later one."""


@dataclass(frozen=True)
class Target:
    """The database and who asks; ``timeout`` in seconds."""

    source: str
    host: str
    server_name: str
    port: int
    closed_ports: tuple[int, ...]
    ca_file: str
    timeout: float = 3.0


@dataclass(frozen=True)
class Ran:
    """A finished program."""

    rc: int
    out: str
    err: str


def serves(target: Target, run: Callable[[], Ran]) -> Check:
    """Describe and search with the host's certificate."""
    began = time.monotonic()
    done = run()
    ok, seen = False, (done.err or done.out).strip()[-300:] or f"exit code {done.rc}"
    if done.rc == 0:
        found: dict[str, Any] = json.loads(done.out)
        seen = (
            f"{found['version']}, {len(found['collections'])} collections, described "
            f"{found['described'] or 'none'}, hits {found['searched']}"
        )
        ok = bool(found["version"])
    return _check(target, "serves", "a client with a certificate is served", "version and "
                  "collections", seen, ok, began)  # fmt: skip


def default_password(target: Target, run: Callable[[], Ran], own: Callable[[], Ran]) -> Check:
    """Try the password that everybody knows; with ``own`` the server must answer right after.

    The client reports a refused password as if the server might be away, so only an answer to the
    right one tells the two apart.
    """
    began = time.monotonic()
    done = run()
    said = (done.err or done.out).strip()[-200:]
    refused = done.rc != 0 and any(word in said.lower() for word in _REFUSALS)
    ok = refused and own().rc == 0
    if refused and not ok:
        said = f"no answer to the right password either: {said}"
    return _check(target, "default-password", "the default password is refused", "refused by the "
                  "server", said, ok, began)  # fmt: skip


def no_certificate(target: Target, ask: Callable[[Target], str] | None = None) -> Check:
    """Speak to the port without a certificate: no request may be answered."""
    began = time.monotonic()
    seen = (ask or ask_without_certificate)(target)
    ok = seen.startswith("refused")
    return _check(target, "no-certificate", "nothing answers without a certificate",
                  "the connection is refused", seen, ok, began)  # fmt: skip


def closed(target: Target, connect: Callable[[str, int, float], str] | None = None) -> Check:
    """Try management and internal ports from here."""
    began = time.monotonic()
    dial = connect or tcp
    ports = target.closed_ports
    # Side by side: each takes its whole time where a firewall drops.
    with ThreadPoolExecutor(max(len(ports), 1)) as pool:
        said = pool.map(lambda port: dial(target.server_name, port, target.timeout), ports)
        answered = [str(port) for port, one in zip(ports, said, strict=True) if one == "open"]
    seen = f"open: {', '.join(answered)}" if answered else "none answers"
    return _check(target, "management-closed", "management ports do not answer from outside",
                  f"none of {', '.join(map(str, target.closed_ports))} answers", seen,
                  not answered, began)  # fmt: skip


def tcp(host: str, port: int, timeout: float) -> str:
    """Return ``open`` when a connection comes about."""
    try:
        socket.create_connection((host, port), timeout).close()
    except OSError as error:
        return f"closed ({error})"
    return "open"


def ask_without_certificate(target: Target) -> str:
    """Return ``refused ...``, or what came instead."""
    context = ssl.create_default_context(cafile=target.ca_file)
    context.set_alpn_protocols(["h2"])
    try:
        raw = socket.create_connection((target.server_name, target.port), target.timeout)
    except OSError as error:
        return f"not reached: {error}"
    with raw:
        try:
            with context.wrap_socket(raw, server_hostname=target.server_name) as tls:
                # An answer to this request would begin with a HEADERS frame.
                tls.sendall(_PREFACE + request(target.server_name))
                answer = _read(tls)
        except ssl.SSLCertVerificationError as error:
            return f"not asked: {error.verify_message}"
        except TimeoutError:
            return "no refusal within the time"
        except OSError as error:
            return f"refused: {error}"
    seen = frame_types(answer)
    if _HEADERS in seen:
        return "answered with headers"
    return "refused: request reset" if _RESET in seen else "refused: connection ended"


def request(name: str) -> bytes:
    """Return the frame of a whole request for / of ``name``: GET, https, and the name itself."""
    fields = b"\x82\x84\x87\x41" + bytes((len(name),)) + name.encode("ascii")
    return len(fields).to_bytes(3, "big") + bytes((_HEADERS, 5, 0, 0, 0, 1)) + fields


def _read(tls: ssl.SSLSocket) -> bytes:
    content = b""
    while len(content) < 65536 and (piece := tls.recv(4096)):
        content += piece
        if frame_types(content) & {_HEADERS, _RESET, _GO_AWAY}:
            break
    return content


def frame_types(content: bytes) -> set[int]:
    """Return the types of the HTTP/2 frames whose head is there."""
    found: set[int] = set()
    at = 0
    while at + _FRAME <= len(content):
        found.add(content[at + 3])
        at += _FRAME + int.from_bytes(content[at : at + 3], "big")
    return found


def _check(  # noqa: PLR0917 # the fields of one check, in the order of the report
    target: Target, name: str, what: str, expected: str, seen: str, ok: bool, began: float
) -> Check:
    return Check(
        f"vector.{name}.{target.host}", what, target.source, target.host, expected, seen, ok,
        time.monotonic() - began,
    )  # fmt: skip


def message(checks: Sequence[Check]) -> str:
    """Return one line for the report."""
    failed = [check.id for check in checks if not check.ok]
    return f"failed: {', '.join(failed)}" if failed else f"{len(checks)} checks passed"
