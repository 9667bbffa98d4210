"""It does not matter where an answer was cut into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.policy_gateway.tests.guardrails.support import PLANTED, VALUES, pipeline
from tresor_gateway.guardrails.stream import MAX_HELD

FRAMES = [
    ("Write to ", " for the report."),
    ("The value is ", "\n\nand more of it, 2024 too. "),
    ('{"v":"', '","w":1}'),
    ("x ", " MALT DE12 17 99"),
    ("", ""),
]


def streamed(*pieces: str) -> str:
    masker = pipeline().guard().stream()
    return "".join([masker.feed(piece) for piece in pieces]) + masker.finish()


@pytest.mark.parametrize(("kind", "value"), PLANTED)
@pytest.mark.parametrize("frame", FRAMES)
def test_planted_value_never_leaks_wherever_it_is_cut(
    kind: str, value: str, frame: tuple[str, str]
) -> None:
    text = value.join(frame)
    whole = pipeline().guard().outgoing(text)
    assert whole == f"[{kind.upper()}_1]".join(frame)
    for cut in range(len(text) + 1):
        assert streamed(text[:cut], text[cut:]) == whole, cut
    assert streamed(*text) == whole
    for size in (2, 3, 5):
        assert streamed(*(text[i : i + size] for i in range(0, len(text), size))) == whole


@given(
    st.lists(
        st.one_of(
            st.sampled_from([value for values in VALUES.values() for value in values]),
            st.sampled_from([" ", "\n", "word ", "2024 ", "MALT ", '"', "日本", "(", ", ", "ß "]),
        ),
        max_size=12,
    ),
    st.lists(st.integers(1, 9), min_size=1, max_size=8),
)
@settings(max_examples=150, deadline=None)
def test_pieces_of_any_size_hide_the_same_values(parts: list[str], sizes: list[int]) -> None:
    # A separator on both sides: what grows together is another value.
    text = " | ".join(parts)
    pieces, position, turn = [], 0, 0
    while position < len(text):
        size = sizes[turn % len(sizes)]
        pieces.append(text[position : position + size])
        position, turn = position + size, turn + 1
    out = streamed(*pieces)
    for value in [value for values in VALUES.values() for value in values]:
        assert value not in out


@pytest.mark.parametrize("length", [100, 700, 3000])
def test_long_word_is_let_go_in_parts_and_its_secret_is_not(length: int) -> None:
    secret = "ghp_" + "aB3dE5" * 6
    text = "x" * length + "/" + secret + "/" + "y" * length
    out = streamed(*text)
    assert secret not in out
    assert out.startswith("x" * length) and out.endswith(
        "y" * (length - 700 if length > 700 else 1)
    )


def test_secret_longer_than_the_buffer_is_swallowed_to_its_end() -> None:
    token = "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTYifQ" * 200 + ".sig"
    assert streamed(*f"Use {token} now") == "Use [SECRET_1] now"


def test_private_key_without_an_end_is_swallowed() -> None:
    text = "Here: -----BEGIN PRIVATE KEY-----\n" + "MIIEowIBAAKCAQEA\n" * 300
    assert streamed(*text) == "Here: [SECRET_1]"


@given(st.lists(st.text(alphabet='ab1@.- \n"日', max_size=30), max_size=60))
@settings(max_examples=150, deadline=None)
def test_hold_back_is_bounded(pieces: list[str]) -> None:
    masker = pipeline().guard().stream()
    for piece in pieces:
        masker.feed(piece)
        assert masker.held <= MAX_HELD


def test_plain_words_wait_for_one_word_only() -> None:
    masker = pipeline().guard().stream()
    assert masker.feed("The") == ""
    assert masker.feed(" serving") == "The"
    assert masker.feed(" layer") == " serving"
    assert masker.finish() == " layer"


def test_text_without_findings_is_unchanged() -> None:
    text = "Größe und Maß – „alles“ in Ordnung? 日本語のテキスト。 (siehe S. 12) 3 + 4 = 7\n\tEnde."
    assert streamed(*text) == text
