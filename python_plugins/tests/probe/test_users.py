"""Work done in children as other users."""

from __future__ import annotations

import os
import pwd
import time

import pytest

from tresor.probe.users import run_as_users

ME = pwd.getpwuid(os.geteuid()).pw_name


def test_the_value_comes_back() -> None:
    answer = run_as_users({ME: lambda: {"uid": os.getuid()}}, 10)[ME]
    assert (answer.value, answer.error) == ({"uid": os.getuid()}, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")
def test_the_child_is_the_user_for_good() -> None:
    def work() -> list[object]:
        try:
            os.setuid(0)
        except PermissionError:
            return [os.getresuid(), os.getresgid(), 0 in os.getgroups()]
        return ["became root again"]

    nobody = pwd.getpwnam("nobody")
    answer = run_as_users({"nobody": work}, 10)["nobody"]
    assert answer.value == [[nobody.pw_uid] * 3, [nobody.pw_gid] * 3, False]


def test_users_work_at_the_same_time_and_failures_stay_apart() -> None:
    def broken() -> None:
        raise ValueError("no such thing")

    answers = run_as_users({ME: broken, "no-such-user": lambda: 1}, 10)
    assert answers[ME].error == "ValueError: no such thing"
    assert answers["no-such-user"].error == "there is no user no-such-user on this host"


def test_a_child_that_hangs_is_ended() -> None:
    started = time.monotonic()
    answer = run_as_users({ME: lambda: time.sleep(60)}, 0.2)[ME]
    assert answer.error == f"the work as {ME} did not end in time"
    assert time.monotonic() - started < 10


def test_a_child_that_dies_gives_an_error() -> None:
    answer = run_as_users({ME: lambda: os._exit(3)}, 10)[ME]
    assert answer.error == f"the work as {ME} ended without an answer"
