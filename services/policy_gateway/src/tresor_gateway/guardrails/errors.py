"""Ways in which the guardrails themselves can fail; every one of them ends in a refusal."""

from __future__ import annotations


class GuardrailError(Exception):
    """A stage could not do its work; the text it was given must not pass."""


class GuardrailTimeoutError(GuardrailError):
    """The time for judging a text was used up before a verdict."""


class TooManyCandidatesError(GuardrailError):
    """A text has more possible findings than can be checked in reasonable time."""


class BlockedError(GuardrailError):
    """Not a failure: the policy does not let this text pass."""
