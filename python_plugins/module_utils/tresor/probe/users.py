"""Run a function as another user in a forked child, several users at once."""

from __future__ import annotations

import json
import os
import pwd
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_LIMIT = 32 * 1024 * 1024
"""Bytes a child may answer; more is a bug."""


@dataclass(frozen=True)
class Answer:
    """What a child gave back: a value, or the reason why there is none."""

    value: Any
    error: str | None


@dataclass(frozen=True)
class _Child:
    pid: int
    pipe: int


def run_as_users(work: Mapping[str, Callable[[], Any]], timeout: float) -> dict[str, Answer]:
    """Call each function in a child that has become the user named by its key.

    The children run at the same time and have ``timeout`` seconds together. The functions must
    return what JSON can carry. A user that does not exist, a child that dies or one that takes
    too long gives an ``Answer`` with an error, never an exception.
    """
    answers: dict[str, Answer] = {}
    children: dict[str, _Child] = {}
    for user, function in work.items():
        try:
            account = pwd.getpwnam(user)
        except KeyError:
            answers[user] = Answer(None, f"there is no user {user} on this host")
            continue
        children[user] = _start(account, function)
    deadline = time.monotonic() + timeout
    for user, child in children.items():
        answers[user] = _collect(user, child, deadline)
    return answers


def _start(account: pwd.struct_passwd, function: Callable[[], Any]) -> _Child:
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return _Child(pid, reader)
    status = 1
    try:  # the child: it must not return into the caller's code
        os.close(reader)
        _become(account)
        answer = {"value": function(), "error": None}
        status = 0
    except BaseException as error:
        answer = {"value": None, "error": f"{type(error).__name__}: {error}"}
    finally:
        try:
            with os.fdopen(writer, "w") as stream:
                json.dump(answer, stream)
        finally:
            os._exit(status)


def _become(account: pwd.struct_passwd) -> None:
    """Give up root for good; a no-op where the process already is that user."""
    if os.geteuid() == account.pw_uid:
        return
    os.initgroups(account.pw_name, account.pw_gid)
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)


def _collect(user: str, child: _Child, deadline: float) -> Answer:
    data = b""
    timed_out = False
    while len(data) <= _LIMIT:
        ready, _, _ = select.select([child.pipe], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            timed_out = True
            break
        part = os.read(child.pipe, 65536)
        if not part:
            break
        data += part
    os.close(child.pipe)
    if timed_out or len(data) > _LIMIT:
        os.kill(child.pid, signal.SIGKILL)
    os.waitpid(child.pid, 0)
    if timed_out:
        return Answer(None, f"the work as {user} did not end in time")
    try:
        answer = json.loads(data)
    except ValueError:
        return Answer(None, f"the work as {user} ended without an answer")
    return Answer(answer["value"], answer["error"])
