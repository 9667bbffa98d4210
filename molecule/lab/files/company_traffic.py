"""Users who ask all the time: one JSON line on stdout for every request, until stdin ends.

Reads one JSON line from stdin: url, ca_file, token, model, users, timeout (seconds). Half of the
users stream. A line holds the monotonic clock's seconds at the start and the end, the status (0: no
answer), whether the answer was whole, and whether it said itself that it is not.
"""

from __future__ import annotations

import http.client
import json
import ssl
import sys
import threading
import time
import urllib.parse
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Outcome:
    """What one user saw of one request; see the module for the meaning of the fields."""

    user: int
    stream: bool
    start: float
    end: float = 0.0
    status: int = 0
    whole: bool = False
    told: bool = False
    problem: str = ""


def read_stream(answer: http.client.HTTPResponse, outcome: Outcome) -> None:
    """Read events up to the end; whole means that the end mark came after the last piece."""
    for raw in answer:
        line = raw.decode().strip()
        if line == "data: [DONE]":
            outcome.whole = True
        elif line.startswith("data: ") and "error" in json.loads(line[6:]):
            outcome.told = True


def read_whole(answer: http.client.HTTPResponse, outcome: Outcome) -> None:
    """Read one JSON object; whole means that a model's words are in it."""
    content = json.loads(answer.read())
    outcome.told = "error" in content
    outcome.whole = bool(content.get("choices"))


def ask(outcome: Outcome, wanted: dict[str, Any], context: ssl.SSLContext) -> None:
    """Ask once and write down what came of it."""
    parts = urllib.parse.urlsplit(wanted["url"])
    body = {
        "model": wanted["model"],
        "messages": [{"role": "user", "content": f"Say hello number {time.monotonic_ns()}."}],
        "max_tokens": 8,
        "stream": outcome.stream,
    }
    connection = http.client.HTTPSConnection(
        parts.hostname or "", timeout=wanted["timeout"], context=context
    )
    try:
        connection.request(
            "POST",
            "/v1/chat/completions",
            json.dumps(body),
            {
                "Authorization": f"Bearer {wanted['token']}",
                "Content-Type": "application/json",
            },
        )
        answer = connection.getresponse()
        outcome.status = answer.status
        if outcome.stream and answer.status == http.HTTPStatus.OK:
            read_stream(answer, outcome)
        else:
            read_whole(answer, outcome)
    except (OSError, http.client.HTTPException, ValueError) as error:
        outcome.problem = f"{type(error).__name__}: {error}"
    finally:
        connection.close()
        outcome.end = time.monotonic()


def user(
    number: int, wanted: dict[str, Any], context: ssl.SSLContext, stop: threading.Event
) -> None:
    """One user: ask, wait a moment, ask again."""
    while not stop.is_set():
        outcome = Outcome(number, number % 2 == 0, time.monotonic())
        ask(outcome, wanted, context)
        sys.stdout.write(json.dumps(asdict(outcome)) + "\n")
        sys.stdout.flush()
        stop.wait(0.2)


def main() -> None:
    """Run the users until stdin is closed."""
    wanted = json.loads(sys.stdin.readline())
    context = ssl.create_default_context(cafile=wanted["ca_file"])
    stop = threading.Event()
    users = [
        threading.Thread(target=user, args=(number, wanted, context, stop))
        for number in range(wanted["users"])
    ]
    for thread in users:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in users:
        thread.join()


if __name__ == "__main__":
    main()
