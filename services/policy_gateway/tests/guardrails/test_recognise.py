"""Values that prove themselves are found; what only looks like them is not."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.policy_gateway.tests.guardrails.support import PLANTED, found
from tresor_gateway.guardrails import checks


@pytest.mark.parametrize(("kind", "value"), PLANTED)
@pytest.mark.parametrize(
    "frame", ["{}", "Write to {}, please.", "({})", "x {}\n\nMore of it.", '{{"v":"{}","w":1}}']
)
def test_value_is_found_exactly_in_any_sentence(kind: str, value: str, frame: str) -> None:
    assert found(frame.format(value)) == [(kind, value)]


@pytest.mark.parametrize(
    "text",
    [
        "The card 4111 1111 1111 1112 has a wrong check digit.",
        "9999 9999 9999 9995 belongs to no range.",
        "DE03 1203 0000 0000 2020 51 has wrong check digits.",
        "XX02 1203 0000 0000 2020 51 has no country.",
        "Version 11.11.40 fixes bug 127683040 since 19.05.2026.",
        "Release 1.2.3.400 and localhost 127.0.0.1 are no hosts of ours.",
        "Order 77965160617 left on 2025-11-21 at 12:30:45.",
        "Dates such as 01.02.2025, 01/02/2025 and 2025-02-01 are no phones.",
        "std::vector<int>, foo@bar and @decorator are code.",
        "The pages 100-200 and 1,234,567.89 EUR stay.",
        "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx is an example.",
        "A task-force-with-a-long-hyphenated-name-inside is a word.",
    ],
)
def test_what_only_looks_like_a_value_stays(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("SGFsbG8gYW5uYS5rb3ZhbG92YUBleGFtcGxlLm9yZyBoZXJl", "base64 of an address"),
        ("616e6e612e6b6f76616c6f7661406578616d706c652e6f7267", "hex of an address"),
        ("anna%2Ekovalova%40example%2Eorg", "percent encoding of an address"),
        ("anna.kovalova\\u0040example.org", "escape in an address"),
    ],
)
def test_encoded_value_is_found_where_its_encoding_stands(text: str, value: str) -> None:
    assert found(f"see {text} there") == [("email", text)], value


def test_footnote_number_is_no_part_of_an_address() -> None:
    assert found("see anna@example.org2 there") == [("email", "anna@example.org")]


def test_many_candidates_are_refused_and_not_half_checked() -> None:
    from tresor_gateway.guardrails.errors import TooManyCandidatesError

    with pytest.raises(TooManyCandidatesError):
        found("7777777 " * 110_000)


def slow_cards(text: str) -> set[str]:
    """What a backtracking search and a check digit say, for runs of digits without separators."""
    return {run for run in re.findall(r"[0-9]+", text) if 13 <= len(run) <= 19 and checks.card(run)}


@given(
    st.lists(
        st.sampled_from(["4111111111111111", "x", " and ", "12", ". ", "378282246310005", ","])
    )
)
@settings(max_examples=200, deadline=None)
def test_cards_agree_with_a_slow_search(pieces: list[str]) -> None:
    text = "".join(pieces)
    cards = {value for kind, value in found(text) if kind == "card"}
    for card in slow_cards(text):
        assert any(card in value for value in cards), text


EMAIL = re.compile(r"[a-z0-9.]*[a-z0-9]@(?:[a-z0-9]+\.)+[a-z]{2,}(?![a-z0-9])")


@given(
    st.lists(
        st.sampled_from(["anna", ".", "@", "example", "org", " ", "7", ",", "\n"]), max_size=24
    )
)
@settings(max_examples=300, deadline=None)
def test_no_address_of_a_slow_search_is_left(pieces: list[str]) -> None:
    text = "".join(pieces)
    values = [value for kind, value in found(text) if kind == "email"]
    for match in EMAIL.finditer(text):
        address = match.group().lstrip(".")
        assert any(address in value or value in address for value in values), (text, address)


@given(st.text(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_text_is_judged_without_an_error(text: str) -> None:
    for _, value in found(text):
        assert value


def test_iban_of_every_length_in_the_registry_is_checked() -> None:
    random.seed(5)
    for country, length in checks.IBAN_LENGTHS.items():
        body = "".join(random.choice("0123456789") for _ in range(length - 4))  # noqa: S311
        digits = "".join(str(int(char, 36)) for char in body + country + "00")
        value = f"{country}{98 - int(digits) % 97:02d}{body}"
        assert found(f"to {value} now") == [("iban", value)]
