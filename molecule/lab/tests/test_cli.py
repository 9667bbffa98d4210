"""The command line refuses what it cannot do, and says what to do."""

from __future__ import annotations

import os

import pytest

from lab import cli


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def test_ordinary_user_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main(["down"]) == cli.EXIT_PREFLIGHT
    message = capsys.readouterr().err
    assert "user id 1000 is not root" in message
    assert "nothing was changed" in message


def test_unfit_name_is_refused_by_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--name", "Bad_Name", "destroy"]) == cli.EXIT_PREFLIGHT
    assert "'Bad_Name' is not a name" in capsys.readouterr().err


def test_unknown_host_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--name", "unit-test-none", "reboot", "gpu7"]) == cli.EXIT_FAILED
    message = capsys.readouterr().err
    assert "'gpu7' is not in the lab" in message
    assert "bastion" in message


def test_host_that_does_not_run_says_how_to_start_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--name", "unit-test-none", "exec", "gpu1", "true"]) == cli.EXIT_FAILED
    assert "labctl up gpu1" in capsys.readouterr().err


def test_ssh_config_of_a_lab_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--name", "unit-test-none", "ssh-config"]) == cli.EXIT_FAILED
    assert "does not exist" in capsys.readouterr().err


def test_status_of_a_lab_that_does_not_exist_is_absent(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--name", "unit-test-none", "status"]) == 0
    assert "unit-test-none: absent" in capsys.readouterr().out


def test_every_verb_of_the_manual_exists() -> None:
    verbs = "up down destroy status exec wait ssh-config internet-counter reboot mount-medium"
    text = cli.parser().format_help()
    for verb in [*verbs.split(), "unmount-medium", "gc", "company-up", "token", "trees"]:
        assert f" {verb} " in text.replace("\n", " ") + " "
