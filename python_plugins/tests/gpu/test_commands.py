"""A reading command ends in time, and what went wrong is said."""

from __future__ import annotations

from tresor.gpu.commands import run_command


def test_command_that_hangs_is_stopped() -> None:
    outcome = run_command(("sleep", "60"), timeout_s=0.2)

    assert (outcome.status, outcome.ok) == (None, False)
    assert outcome.problem == "no answer within 0.2 s"


def test_missing_program_is_told_from_a_failing_one() -> None:
    absent = run_command(("tresor-no-such-program",), timeout_s=5)
    failing = run_command(("sh", "-c", "echo first; echo second; echo third; exit 9"), timeout_s=5)

    assert (absent.absent, failing.absent) == (True, False)
    assert failing.problem == "exit status 9: first second"


def test_output_is_kept() -> None:
    outcome = run_command(("sh", "-c", "echo $LC_ALL"), timeout_s=5)

    assert (outcome.ok, outcome.stdout) == (True, "C\n")
