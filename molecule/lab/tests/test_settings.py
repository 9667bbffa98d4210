"""Names and places of labs."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.settings import Settings, default_name, name_problem


def test_checkouts_get_different_default_names() -> None:
    names = {default_name(Path(path)) for path in ("/a", "/b", "/a/b")}
    assert len(names) == 3
    assert all(name_problem(name) is None for name in names)


def test_default_name_is_stable() -> None:
    assert default_name(Path("/srv/x")) == default_name(Path("/srv/x"))


@pytest.mark.parametrize(
    "name", ["", "A", "1a", "a_b", "a-", "-a", "a/b", "..", "a" * 31, "a b", "x-gpu1", "a\n"]
)
def test_unfit_names_are_refused(name: str) -> None:
    problem = name_problem(name)
    assert problem is not None
    assert repr(name)[1:-1] in repr(str(problem))


def test_option_wins_over_environment_and_environment_over_default() -> None:
    environment = {"TRESOR_LAB": "fromenv", "TRESOR_CACHE": "/c"}
    assert Settings.from_environment(environment, "option").name == "option"
    assert Settings.from_environment(environment, None).name == "fromenv"
    assert Settings.from_environment({}, None).name == default_name(Settings("x").checkout)
    assert Settings.from_environment(environment, None).trees == Path("/c/base")
