"""What the site wants: which kinds of findings there are, and what each of them means."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from tresor_gateway.guardrails.recognise import CARD, EMAIL, IBAN, IP, PHONE
from tresor_gateway.guardrails.secrets import SECRET

Action = Literal["allow", "flag", "mask", "block"]
Direction = Literal["request", "context", "response"]

DIRECTIONS: Final[tuple[Direction, ...]] = ("request", "context", "response")

# From harmless to final; the verdict on a text is the gravest of its findings.
ORDER: Final[tuple[Action, ...]] = ("allow", "flag", "mask", "block")
KINDS: Final = (EMAIL, IBAN, CARD, PHONE, IP, SECRET)
INJECTION: Final = "injection"


def graver(first: Action, second: Action) -> Action:
    """The one that leaves less through."""
    return first if ORDER.index(first) >= ORDER.index(second) else second


@dataclass
class DirectionPolicy:
    """Actions of one direction, by kind of personal data, and for injection; not to be changed.

    ``wanted`` are the kinds that are looked for, ``active`` says whether anything is. Asked for
    with every text, so they are worked out once: a compiled class has no cached properties.
    """

    kinds: dict[str, Action] = field(default_factory=dict)
    injection: Action = "allow"
    wanted: frozenset[str] = field(init=False, default=frozenset())
    active: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        """Work out what follows from the actions."""
        wanted = [kind for kind, action in self.kinds.items() if action != "allow"]
        self.wanted = frozenset(wanted)
        self.active = bool(wanted) or self.injection != "allow"


@dataclass(frozen=True)
class Policy:
    """All directions, and the bounds of the work (seconds, characters of a request)."""

    request: DirectionPolicy
    context: DirectionPolicy
    response: DirectionPolicy
    restore: bool = True
    deadline_seconds: float = 0.25
    max_characters: int = 2_000_000

    def of(self, direction: Direction) -> DirectionPolicy:
        """The part for a direction."""
        if direction == "request":
            return self.request
        return self.context if direction == "context" else self.response
