"""Placeholders are consistent, reversible for the sender, and never forged."""

from __future__ import annotations

import pytest

from services.policy_gateway.tests.guardrails.support import FAR, pipeline
from services.policy_gateway.tests.support import replaces_methods
from tresor_gateway.guardrails.errors import BlockedError, GuardrailError, GuardrailTimeoutError
from tresor_gateway.guardrails.pipeline import Part, Pipeline
from tresor_gateway.guardrails.policy import KINDS, DirectionPolicy, Policy

MAIL = "anna.kovalova@example.org"
CARD = "4111 1111 1111 1111"


def test_same_value_gets_the_same_name_within_a_request() -> None:
    guard = pipeline().guard()
    texts = guard.incoming([Part(f"{MAIL} and {CARD}"), Part(f"again {MAIL}, 4111111111111111")])
    assert texts == ["[EMAIL_1] and [CARD_1]", "again [EMAIL_1], [CARD_1]"]
    assert guard.verdicts["request"].action == "mask"
    assert guard.verdicts["request"].findings == {"email": 2, "card": 2}


def test_answer_shows_the_sender_what_was_sent() -> None:
    guard = pipeline().guard()
    guard.incoming([Part(f"Write to {MAIL}")])
    assert guard.outgoing("I wrote to [EMAIL_1].") == f"I wrote to {MAIL}."
    stream = guard.stream()
    pieces = [stream.feed(piece) for piece in ("I wrote to [EM", "AIL_", "1]", ", twice.")]
    assert "".join(pieces) + stream.finish() == f"I wrote to {MAIL}, twice."


def test_another_request_knows_nothing_of_it() -> None:
    pipeline().guard().incoming([Part(f"Write to {MAIL}")])
    assert pipeline().guard().outgoing("I wrote to [EMAIL_1].") == "I wrote to [EMAIL_1]."


def test_value_that_the_model_made_up_is_masked_for_good() -> None:
    guard = pipeline().guard()
    guard.incoming([Part(f"Write to {MAIL}")])
    assert guard.outgoing("Or to bob@example.com") == "Or to [EMAIL_2]"
    assert guard.outgoing("[EMAIL_2]") == "[EMAIL_2]"


def test_placeholder_in_the_request_is_nobodys_name() -> None:
    guard = pipeline().guard()
    [text] = guard.incoming([Part(f"[EMAIL_1] is not {MAIL}")]) or []
    assert text == "[EMAIL_1] is not [EMAIL_2]"
    assert guard.outgoing("[EMAIL_1] [EMAIL_2]") == f"[EMAIL_1] {MAIL}"


def test_values_of_retrieved_context_are_not_put_back() -> None:
    guard = pipeline().guard()
    assert guard.incoming([Part(f"Contact {MAIL}")], "context") == ["Contact [EMAIL_1]"]
    assert guard.outgoing("[EMAIL_1]") == "[EMAIL_1]"


def test_nothing_is_put_back_when_the_policy_says_so() -> None:
    kinds = DirectionPolicy(dict.fromkeys(KINDS, "mask"))
    strict = Pipeline(Policy(kinds, kinds, kinds, restore=False, deadline_seconds=FAR))
    guard = strict.guard()
    guard.incoming([Part(f"Write to {MAIL}")])
    assert guard.outgoing("[EMAIL_1]") == "[EMAIL_1]"


def test_flag_leaves_the_text_alone_and_allow_does_not_look() -> None:
    flagging = pipeline(request="flag").guard()
    assert flagging.incoming([Part(f"Write to {MAIL}")]) == [f"Write to {MAIL}"]
    assert flagging.verdicts["request"].action == "flag"
    looking_away = pipeline(request="allow").guard()
    assert looking_away.incoming([Part(f"Write to {MAIL}")]) is None
    assert looking_away.verdicts == {}


def test_block_is_the_gravest_verdict() -> None:
    policy = DirectionPolicy({"email": "mask", "card": "block"})
    guard = Pipeline(Policy(policy, policy, policy, deadline_seconds=FAR)).guard()
    with pytest.raises(BlockedError, match="card, email"):
        guard.incoming([Part(f"{MAIL} {CARD}")])
    assert guard.verdicts["request"].action == "block"


def test_spent_time_is_an_error_and_not_a_verdict() -> None:
    ticks = iter(range(1000))
    policy = DirectionPolicy(dict.fromkeys(KINDS, "mask"))
    slow = Pipeline(
        Policy(policy, policy, policy, deadline_seconds=0.5), clock=lambda: float(next(ticks))
    )
    with pytest.raises(GuardrailTimeoutError):
        slow.guard().incoming([Part("Nothing to see here. " * 100)])
    with pytest.raises(GuardrailError):
        slow.guard().outgoing("Nothing to see here. " * 100)


@replaces_methods
def test_engine_failure_is_an_error_and_not_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    from tresor_gateway.guardrails.engine import Matcher

    def broken(self: Matcher, data: bytes) -> list[tuple[int, int]]:
        raise GuardrailError("scan failed")

    monkeypatch.setattr(Matcher, "scan", broken)
    with pytest.raises(GuardrailError):
        pipeline().guard().incoming([Part("x")])
    stream = pipeline().guard().stream()
    with pytest.raises(GuardrailError):
        stream.feed("a 1 2 ")
        stream.finish()


def test_blocked_value_stops_an_answer() -> None:
    guard = pipeline(response="block").guard()
    with pytest.raises(BlockedError, match="email"):
        guard.outgoing(f"Write to {MAIL}")
    stream = pipeline(response="block").guard().stream()
    with pytest.raises(BlockedError):
        stream.feed(f"Write to {MAIL} now")


@replaces_methods
def test_text_of_the_same_tenant_is_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from tresor_gateway.guardrails.inspector import Inspector

    kinds = DirectionPolicy(dict.fromkeys(KINDS, "mask"))
    fresh = Pipeline(Policy(kinds, kinds, kinds, deadline_seconds=FAR))
    text = f"Write to {MAIL}, and please do it before the office closes for the long weekend."
    real, seen = Inspector.inspect, []

    def counting(self: Inspector, text: str, *more: object) -> object:
        seen.append(text)
        return real(self, text, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Inspector, "inspect", counting)
    for tenant, judged in ((b"a", 1), (b"a", 1), (b"b", 2), (b"", 3), (b"", 4)):
        guard = fresh.guard(tenant)
        assert guard.incoming([Part(text)]) == [text.replace(MAIL, "[EMAIL_1]")]
        assert guard.verdicts["request"].findings == {"email": 1}
        assert len(seen) == judged
    fresh.guard(b"a").incoming([Part(text + " Thanks.")])
    assert len(seen) == 5
