"""Every parser with bytes that are nearly right: a value, or the error it promises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.policy_gateway.fuzz.targets import TARGETS
from services.policy_gateway.tests.support import FUZZ

PIECES = st.binary(max_size=12) | st.sampled_from(
    [b"\xff", b"\0", b"\r\n", b"\n\n", b"0", b"-1", b"1e999", b'"', b"\\u", b"[", b"{", b"}", b":"]
)


# The library would like another name for the algorithm; providers use this one.
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@pytest.mark.parametrize("name", sorted(TARGETS))
@FUZZ
@given(data=st.data())
def test_parser_keeps_its_promise(name: str, data: st.DataObject) -> None:
    target, seeds = TARGETS[name]
    value = data.draw(st.sampled_from(seeds))
    for _ in range(data.draw(st.integers(0, 4))):
        start = data.draw(st.integers(0, len(value)))
        end = start + data.draw(st.integers(0, 9))
        value = value[:start] + data.draw(PIECES) + value[end:]
    target(value)
