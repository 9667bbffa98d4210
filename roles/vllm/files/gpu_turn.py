"""Let engines that share a GPU start one after the other.

An engine takes what memory is free while it starts, so two that start at once on one GPU take each
other's, or one dies. Whoever starts holds a lock for each of its GPUs until it answers.

Usage: gpu_turn.py wait SETTINGS            return when it is this engine's turn
       gpu_turn.py run SETTINGS -- PROGRAM  take the turn, then become PROGRAM

SETTINGS is a JSON object: instance, gpus (names), rank (a lower one goes first), wait (seconds,
then exit status 75), settle (seconds after an engine that died while it started: its memory returns
late), folder (of the locks, shared by the engines), server_name, address, port (where it answers).

The locks are the kernel's: they end with the process that holds them. That is a child beside the
engine, in the same unit, so it dies with it. It ends when the engine answers over TLS (credentials
in $CREDENTIALS_DIRECTORY), and it never gives up before: an engine that still loads still takes
memory. Standard library only; runs as the engine's user, inside the engine's sandbox.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import re
import select
import socket
import ssl
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_EX_TEMPFAIL = 75
_POLL = 0.5  # seconds between two looks at the locks
_ASK = 1.0  # seconds between two questions to the engine
_TIMEOUT = 5.0  # seconds for one question
_LOADED = b"\nvllm:num_requests_running{"


class WaitedTooLongError(Exception):
    """The turn did not come in time; the message says who has it."""


@dataclass(frozen=True)
class Settings:
    """What SETTINGS holds."""

    instance: str
    gpus: tuple[str, ...]
    rank: int
    wait: float
    settle: float
    folder: Path
    server_name: str
    address: str
    port: int

    @classmethod
    def read(cls, path: Path) -> Settings:
        """Read the file."""
        data = json.loads(path.read_text(encoding="utf-8"))
        data["gpus"] = tuple(data["gpus"])
        data["folder"] = Path(data["folder"])
        return cls(**data)


class Lock:
    """A file that one process holds; its text says who, or is empty after a proper end."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(
            path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )

    def take(self, how: int = fcntl.LOCK_EX | fcntl.LOCK_NB) -> bool:
        """Try to hold it."""
        try:
            fcntl.flock(self.descriptor, how)
        except BlockingIOError:
            return False
        return True

    def text(self) -> str:
        """Return what stands in it."""
        return os.pread(self.descriptor, 65536, 0).decode("utf-8", "replace")

    def write(self, text: str) -> None:
        """Replace what stands in it."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, text.encode(), 0)

    def close(self) -> None:
        """Let it go."""
        os.close(self.descriptor)


def _say(settings: Settings, text: str) -> None:
    print(f"{settings.instance}: {text}", file=sys.stderr, flush=True)


def _lock_path(settings: Settings, gpu: str) -> Path:
    return settings.folder / f"gpu-{re.sub(r'[^0-9A-Za-z-]', '_', gpu)}.lock"


def _queue(settings: Settings) -> Lock:
    """Stand in the queue: a file that is held as long as its owner waits."""
    ticket = Lock(settings.folder / f"waiting-{settings.rank:04d}-{settings.instance}")
    ticket.take(fcntl.LOCK_EX)  # who looks at it holds it for a moment
    ticket.write(json.dumps(list(settings.gpus)))
    return ticket


def _ahead(settings: Settings) -> str | None:
    """Return a waiting engine that goes first and wants one of the same GPUs."""
    own = f"waiting-{settings.rank:04d}-{settings.instance}"
    for path in sorted(settings.folder.glob("waiting-*")):
        if path.name >= own:
            return None
        ticket = Lock(path)
        try:
            if ticket.take(fcntl.LOCK_SH | fcntl.LOCK_NB):
                continue  # nobody holds it: a leftover
            text = ticket.text()
        finally:
            ticket.close()
        try:
            shared = not set(settings.gpus).isdisjoint(json.loads(text))
        except ValueError:
            shared = True  # it is being written
        if shared:
            return path.name.split("-", 2)[2]
    return None


def _try_all(settings: Settings) -> tuple[list[Lock], str | None]:
    """Hold the locks of all GPUs, or none and say what is in the way."""
    held: list[Lock] = []
    for gpu in settings.gpus:
        lock = Lock(_lock_path(settings, gpu))
        if lock.take():
            held.append(lock)
            continue
        who = lock.text() or "an engine"
        for one in [*held, lock]:
            one.close()
        return [], f"{who} starts on GPU {gpu}"
    return held, None


def take(settings: Settings) -> list[Lock]:
    """Wait for the turn and return its locks, held.

    Raises:
        WaitedTooLongError: it did not come within ``settings.wait`` seconds.
    """
    deadline = time.monotonic() + settings.wait
    ticket, told = _queue(settings), None
    try:
        while True:
            first = _ahead(settings)
            held, why = _try_all(settings) if first is None else ([], f"{first} goes first")
            if held:
                break
            if why != told:
                _say(settings, f"waits for its turn: {why}")
                told = why
            if time.monotonic() >= deadline:
                raise WaitedTooLongError(
                    f"no turn within {settings.wait:.0f} s: {why}. Look why that engine does not "
                    "answer (journalctl -u tresor-vllm@NAME), or stop it"
                )
            time.sleep(_POLL)
    finally:
        ticket.close()
    dead = sorted({text for lock in held if (text := lock.text())})
    if dead:
        _say(settings, f"{', '.join(dead)} ended before it answered, {settings.settle:.0f} s pause")
        time.sleep(settings.settle)
        for lock in held:
            lock.write("")
    return held


def answers(settings: Settings) -> bool:
    """Return whether the engine serves: healthy, with the figures of a loaded model."""
    folder = Path(os.environ["CREDENTIALS_DIRECTORY"])
    try:
        context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        return all(_get(settings, context, path) for path in ("/health", "/metrics"))
    except (OSError, http.client.HTTPException, ValueError):
        return False


def _get(settings: Settings, context: ssl.SSLContext, path: str) -> bool:
    connection = http.client.HTTPConnection(settings.server_name, settings.port, timeout=_TIMEOUT)
    with socket.create_connection((settings.address, settings.port), _TIMEOUT) as plain:
        connection.sock = context.wrap_socket(plain, server_hostname=settings.server_name)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = b"\n" + response.read()
        finally:
            connection.close()
    return response.status == 200 and (path != "/metrics" or _LOADED in body)


def _hold(settings: Settings, locks: Sequence[Lock], engine: int) -> None:
    """Keep the locks until the engine answers or is gone."""
    ended = select.poll()
    ended.register(engine, select.POLLIN)
    started = time.monotonic()
    while not ended.poll(_ASK * 1000):
        if answers(settings):
            for lock in locks:
                lock.write("")
            took = time.monotonic() - started
            _say(settings, f"answers after {took:.0f} s, the next engine may start")
            return
    # What stands in the locks stays: it tells the next one that an engine died here.


def _beside(settings: Settings, locks: Sequence[Lock]) -> None:
    """Start the process that holds the locks, as nobody's child: the engine would not reap it."""
    engine = os.pidfd_open(os.getpid())
    middle = os.fork()
    if middle:
        os.waitpid(middle, 0)
        os.close(engine)
        return
    if os.fork():
        os._exit(0)
    status = 1
    with suppress(BaseException):
        _hold(settings, locks, engine)
        status = 0
    os._exit(status)


def main(arguments: Sequence[str]) -> int:
    """Wait, or take the turn and become the engine."""
    settings = Settings.read(Path(arguments[1]))
    try:
        locks = take(settings)
    except WaitedTooLongError as error:
        _say(settings, str(error))
        return _EX_TEMPFAIL
    if arguments[0] == "wait":
        return 0
    for lock in locks:
        lock.write(settings.instance)
    _beside(settings, locks)
    program = list(arguments[3:])
    os.execv(program[0], program)  # noqa: S606 - it becomes the engine
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
