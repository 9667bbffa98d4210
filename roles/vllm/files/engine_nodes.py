"""Run one host's part of an engine that spans hosts, together with the other hosts' parts.

Usage: engine_nodes.py CONFIG COMMAND [ARGUMENT ...]; without a file CONFIG it only becomes COMMAND.

vLLM's parts do not watch one another: with a dead follower the leading part still answers
``/health`` with 200 and lets requests hang, and a follower whose leader is gone waits for ever for
the next piece of work. A part that starts anew cannot join a running one either. So here each host
holds a connection to the leading host for as long as its part runs. Nobody starts before all are
there with the same settings; when one ends, loses the connection or falls silent, the others end at
once and systemd starts them all again, in whatever order.

CONFIG is JSON with ``instance``, ``rank``, ``addresses`` and ``names`` (of all hosts, by rank),
``port`` (of the leading host), ``digest`` (of what must be equal on all hosts), ``drain_seconds``,
``silence_seconds`` and ``wait_seconds``. Both sides prove themselves with the host's certificate of
the site's CA (``$CREDENTIALS_DIRECTORY``: ``tls.crt``, ``tls.key``, ``ca.crt``), and each must bear
the name that the plan gives its rank.

SIGTERM drains. On the leading host the engine ends its requests before the others end. A follower
says that it wants to leave and goes on working until the leading host has drained.

Exit status 0 after a stop that was asked for, 1 when a part was lost or refused. Standard library
only; runs as the engine's user, inside the engine's sandbox.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MESSAGE_LIMIT = 4096
_RETRY_SECONDS = 1.0
_KILL_SECONDS = 5.0
_HANDSHAKE_SECONDS = 10.0
_LISTEN_SECONDS = 0.5
_REQUESTS = ("stop", "leave")
HELLO, GO, REFUSED, BEAT, LEAVE = "hello", "go", "refused", "beat", "leave"


class LostError(Exception):
    """A part is gone, silent or refused; says which, and what to look at."""


@dataclass(frozen=True)
class Config:
    """What the role wrote for this host."""

    instance: str
    rank: int
    addresses: tuple[str, ...]
    names: tuple[str, ...]
    port: int
    digest: str
    drain_seconds: float
    silence_seconds: float
    wait_seconds: float

    @classmethod
    def read(cls, path: Path) -> Config:
        """Return the configuration of a file; raises LostError where it cannot be one."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            values |= {key: tuple(values[key]) for key in ("addresses", "names")}
            return cls(**values)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise LostError(f"{path} cannot be used ({error!r}): run the converge stage") from None


class Peer:
    """A connection to one other host: messages are lines of JSON."""

    def __init__(self, connection: ssl.SSLSocket, rank: int, config: Config) -> None:
        """Take over a connection whose certificate must bear the name of the rank."""
        self.rank = rank
        self.name = config.names[rank]
        self._connection = connection
        self._buffer = b""
        known = names_of(connection)
        if self.name not in known:
            raise LostError(f"{', '.join(known) or 'nobody'} calls itself {self.name}")

    def send(self, kind: str, **more: object) -> None:
        """Send a message; raises OSError."""
        self._connection.settimeout(_HANDSHAKE_SECONDS)
        self._connection.sendall(json.dumps({"kind": kind, **more}).encode() + b"\n")

    def receive(self, seconds: float) -> dict[str, object] | None:
        """Return the next message, None after a silence; raises LostError for an end."""
        self._connection.settimeout(seconds)
        while b"\n" not in self._buffer:
            try:
                part = self._connection.recv(_MESSAGE_LIMIT)
            except TimeoutError:
                return None
            except OSError as error:
                raise LostError(f"the connection to {self.name} broke ({error})") from None
            if not part:
                raise LostError(f"{self.name} has ended its part")
            self._buffer += part
            if len(self._buffer) > _MESSAGE_LIMIT:
                raise LostError(f"{self.name} sends what is no message")
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise LostError(f"{self.name} sends what is no message")
        return message

    def close(self) -> None:
        """End the connection."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def names_of(connection: ssl.SSLSocket) -> list[str]:
    """Return the names in the verified certificate of the other side."""
    certificate = connection.getpeercert() or {}
    entries = certificate.get("subjectAltName", ())
    return [str(entry[1]) for entry in entries if entry[0] == "DNS"]


def say(text: str) -> None:
    """Write a line for the journal."""
    print(text, file=sys.stderr, flush=True)


def context(purpose: ssl.Purpose) -> ssl.SSLContext:
    """Return TLS 1.3 with the host's certificate, asking for one of the same CA."""
    folder = Path(os.environ["CREDENTIALS_DIRECTORY"])
    found = ssl.create_default_context(purpose, cafile=str(folder / "ca.crt"))
    found.minimum_version = ssl.TLSVersion.TLSv1_3
    found.verify_mode = ssl.CERT_REQUIRED
    found.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    return found


def call(config: Config, until: float) -> Peer:
    """Return the leading host once it lets everybody start; raises LostError."""
    wrapper = context(ssl.Purpose.SERVER_AUTH)
    last, said = "nobody tried", ""
    while time.monotonic() < until:
        try:
            peer = _connect(config, wrapper)
            try:
                _await_go(peer, until)
            except (LostError, OSError):
                peer.close()
                raise
            return peer
        except (OSError, LostError) as error:
            last = str(error)
        if last != said:
            say(f"waiting for {config.names[0]} ({config.addresses[0]}, tcp {config.port}): {last}")
        said = last
        time.sleep(_RETRY_SECONDS)
    raise LostError(f"waited {config.wait_seconds:g} s in vain for {config.names[0]}: {last}")


def _connect(config: Config, wrapper: ssl.SSLContext) -> Peer:
    raw = socket.create_connection(
        (config.addresses[0], config.port),
        timeout=_HANDSHAKE_SECONDS,
        source_address=(config.addresses[config.rank], 0),
    )
    try:
        peer = Peer(wrapper.wrap_socket(raw, server_hostname=config.names[0]), 0, config)
        peer.send(HELLO, rank=config.rank, instance=config.instance, digest=config.digest)
    except (OSError, LostError):
        raw.close()
        raise
    return peer


def _await_go(peer: Peer, until: float) -> None:
    message = peer.receive(max(1.0, until - time.monotonic()))
    if message is None or message.get("kind") != GO:
        reason = "does not let this host join" if message is None else str(message.get("why"))
        raise LostError(f"{peer.name}: {reason}")


def welcome(config: Config, listener: socket.socket, until: float) -> list[Peer]:
    """Return the other hosts once all are there with the same settings; raises LostError."""
    wrapper = context(ssl.Purpose.CLIENT_AUTH)
    found: dict[int, Peer] = {}
    while len(found) < len(config.addresses) - 1:
        missing = [name for rank, name in enumerate(config.names) if rank and rank not in found]
        if time.monotonic() > until:
            raise LostError(f"waited {config.wait_seconds:g} s in vain for {', '.join(missing)}")
        listener.settimeout(_RETRY_SECONDS)
        try:
            raw, caller = listener.accept()
        except TimeoutError:
            continue
        try:
            peer = _admit(config, wrapper, raw)
        except (OSError, LostError) as error:
            raw.close()
            say(f"{caller[0]} is not let in: {error}")
            continue
        if peer.rank in found:
            found[peer.rank].close()
        found[peer.rank] = peer
        say(f"{peer.name} is there, {len(found)} of {len(config.addresses) - 1}")
    return [found[rank] for rank in sorted(found)]


def _admit(config: Config, wrapper: ssl.SSLContext, raw: socket.socket) -> Peer:
    """Return who calls; raises LostError or OSError for one that is no part of this instance."""
    raw.settimeout(_HANDSHAKE_SECONDS)
    connection = wrapper.wrap_socket(raw, server_side=True)
    known = names_of(connection)
    ranks = [rank for rank, name in enumerate(config.names) if rank and name in known]
    if not ranks:
        raise LostError(f"{', '.join(known) or 'nobody'} is no part of {config.instance}")
    peer = Peer(connection, ranks[0], config)
    hello = peer.receive(_HANDSHAKE_SECONDS) or {}
    if hello.get("kind") != HELLO or hello.get("instance") != config.instance:
        raise LostError(f"{peer.name} asks for {str(hello.get('instance'))[:80]!r}")
    if hello.get("rank") != peer.rank or hello.get("digest") != config.digest:
        why = (
            f"{peer.name} has other settings of {config.instance} (engine, model, options, rank): "
            "run the converge stage for all of its hosts"
        )
        peer.send(REFUSED, why=why)
        raise LostError(why)
    return peer


def listen(config: Config) -> socket.socket:
    """Return the socket that the other hosts call."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((config.addresses[0], config.port))
    listener.listen()
    return listener


class Part:
    """This host's part of the engine, and what ends it: whichever event is first."""

    def __init__(self, config: Config, command: list[str]) -> None:
        """Take the command of the engine."""
        self._config = config
        self._command = command
        self._events: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._engine: subprocess.Popen[bytes] | None = None
        self._leaving = threading.Event()

    def run(self, peers: list[Peer]) -> int:
        """Start the engine, watch it and the others, and return the exit status."""
        self._engine = subprocess.Popen(self._command, start_new_session=True)
        threading.Thread(target=self._await_engine, daemon=True).start()
        for peer in peers:
            threading.Thread(target=self._watch, args=(peer,), daemon=True).start()
        try:
            return self._decide()
        finally:
            self._kill()
            for peer in peers:
                peer.close()

    def ask_to_stop(self) -> None:
        """Begin to drain, as SIGTERM does."""
        self._events.put(("stop", "asked to stop"))

    def _decide(self) -> int:
        what, why = self._events.get()
        if what == "stop" and self._config.rank:
            say("asked to stop: telling the leading host, which drains first")
            self._leaving.set()
            self._await_end()
            return 0
        if what in ("stop", "leave"):
            say(f"{why}: ending what is being answered")
            self._terminate()
            self._await_end()
            return 0 if what == "stop" else 1
        say(f"{why}; every part of {self._config.instance} starts again")
        return 1

    def _await_end(self) -> None:
        """Wait until the engine has ended or another part is gone, within the time to drain."""
        until = time.monotonic() + self._config.drain_seconds
        with contextlib.suppress(queue.Empty):
            while self._events.get(timeout=max(0.0, until - time.monotonic()))[0] in _REQUESTS:
                continue

    def _await_engine(self) -> None:
        if self._engine is not None:
            status = self._engine.wait()
            self._events.put(("end", f"the engine ended with status {status}"))

    def _watch(self, peer: Peer) -> None:
        """Tell a host that this one is alive, and hear the same of it; one thread for each."""
        silence = self._config.silence_seconds
        heard, sent, told = time.monotonic(), 0.0, False
        try:
            while True:
                now = time.monotonic()
                if self._leaving.is_set() and not told:
                    peer.send(LEAVE)
                    told = True
                elif now - sent >= silence / 4:
                    peer.send(BEAT)
                    sent = now
                message = peer.receive(min(_LISTEN_SECONDS, silence / 4))
                if message is not None:
                    heard = time.monotonic()
                    if message.get("kind") == LEAVE:
                        self._events.put(("leave", f"{peer.name} wants to leave"))
                elif time.monotonic() - heard > silence:
                    raise LostError(f"{peer.name} is silent for {silence:g} s")
        except (LostError, OSError) as error:
            self._events.put(("lost", str(error)))

    def _terminate(self) -> None:
        """Let the engine drain: only its main process may know, its workers would end at once."""
        if self._engine is not None:
            self._engine.terminate()

    def _kill(self) -> None:
        """End the engine with all of its processes; nobody can answer without the others."""
        if self._engine is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._engine.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._engine.wait(_KILL_SECONDS)


@contextlib.contextmanager
def joined(config: Config) -> Iterator[list[Peer]]:
    """Yield the connections of this host once every host is there; raises LostError."""
    until = time.monotonic() + config.wait_seconds
    if config.rank == 0:
        say(f"waiting for {', '.join(config.names[1:])}")
        with listen(config) as listener:
            peers = welcome(config, listener, until)
        for peer in peers:
            peer.send(GO)
        yield peers
        return
    yield [call(config, until)]


def main() -> int:
    """Join the other hosts and run this host's part."""
    try:
        path = Path(sys.argv[1])
        if not path.exists():
            os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - the unit's own command
        config = Config.read(path)
        part = Part(config, sys.argv[2:])
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with joined(config) as peers:
            signal.signal(signal.SIGTERM, lambda *_: part.ask_to_stop())
            return part.run(peers)
    except (LostError, OSError) as error:
        say(f"engine of several hosts: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
