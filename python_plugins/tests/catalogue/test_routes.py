"""The route `auto`: short work to small models, by what the catalogue knows of them."""

from __future__ import annotations

from tresor.catalogue.routes import LONG, SHORT, Candidate, auto_route


def one(name: str, part: str, **more: bool | int) -> Candidate:
    given = {"german": True, "tools": True, "context_tokens": 32768, **more}
    return Candidate(name, part, **given)  # type: ignore[arg-type]


def test_one_class_is_nothing_to_choose_from() -> None:
    assert auto_route([]) == []
    assert auto_route([one("a", "small"), one("b", "small")]) == []


def test_short_requests_go_to_the_small_model_and_long_ones_to_the_large() -> None:
    (route,) = auto_route([one("l", "large"), one("m", "medium"), one("s", "small")])

    assert route == {
        "name": "auto",
        "default": "m",
        "rules": [
            {"model": "m", "hints": ["tools"]},
            {"model": "s", "max_characters": SHORT},
            {"model": "l", "min_characters": LONG},
        ],
    }


def test_small_model_without_stated_german_gets_english_only() -> None:
    (route,) = auto_route([one("l", "large", tools=False), one("s", "small", german=False)])

    assert route["default"] == "l"
    assert route["rules"] == [{"model": "s", "max_characters": SHORT, "languages": ["en"]}]


def test_code_goes_to_the_code_model_first() -> None:
    (route,) = auto_route([one("m", "medium"), one("c", "code")])

    assert route["rules"] == [{"model": "c", "hints": ["code"]}]


def test_large_model_with_less_context_gets_no_long_requests() -> None:
    models = [one("l", "large", context_tokens=8192), one("m", "medium"), one("s", "small")]
    (route,) = auto_route(models)

    assert {rule["model"] for rule in route["rules"]} == {"m", "s"}
