"""Names that stand for several models: rules about the request choose one (``auto``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from tresor_gateway import config_schema as schema
from tresor_gateway.api.parameters import ChatRequest, ResponseFormat
from tresor_gateway.api.texts import Request, change_texts

_SAMPLE: Final = 4000
_MIN_WORDS: Final = 3
# Frequent words that the other language does not have.
_GERMAN: Final = """
der die das und ist nicht ich ein eine zu mit auf für von dem den wie wir sie bitte
"""
_ENGLISH: Final = """
the and is not you a of to in with for that how what please it are this be on
"""
_WORDS: Final = {"de": frozenset(_GERMAN.split()), "en": frozenset(_ENGLISH.split())}
_CODE: Final = ("```", "def ", "class ", "SELECT ", "#include", "function ", "import ", "</")


@dataclass(frozen=True)
class Facts:
    """What rules may ask about a request; nothing is computed before a rule wants it."""

    request: Request
    groups: frozenset[str]

    @cached_property
    def texts(self) -> list[str]:
        """All texts, in order."""
        texts: list[str] = []

        def collect(text: str, _screened: bool) -> str:
            texts.append(text)
            return text

        change_texts(self.request, collect)
        return texts

    @cached_property
    def characters(self) -> int:
        """Length of all texts."""
        return sum(map(len, self.texts))

    @cached_property
    def language(self) -> str | None:
        """``de`` or ``en``, when frequent words say so."""
        words = " ".join(self.texts)[-_SAMPLE:].lower().split()
        counts = {name: sum(word in known for word in words) for name, known in _WORDS.items()}
        best = max(counts, key=lambda name: counts[name])
        return best if counts[best] >= _MIN_WORDS else None

    @cached_property
    def hints(self) -> frozenset[str]:
        """``tools``, ``json`` and ``code``, as far as they apply."""
        found: set[str] = set()
        request = self.request
        if isinstance(request, ChatRequest):
            if isinstance(request.tools, list) and request.tools:
                found.add("tools")
            form = request.response_format
            if isinstance(form, ResponseFormat) and form.type != "text":
                found.add("json")
        if any(sign in text for text in self.texts for sign in _CODE):
            found.add("code")
        return frozenset(found)


class Routes:
    """The routes of the configuration."""

    def __init__(self, routes: Iterable[schema.Route]) -> None:
        self._routes = {route.name: route for route in routes}

    @property
    def names(self) -> Iterable[str]:
        """All of them."""
        return self._routes

    def targets(self, name: str) -> list[str]:
        """The models a route may choose, in the order of its rules; empty for no route."""
        route = self._routes.get(name)
        if route is None:
            return []
        return [*(rule.model for rule in route.rules), route.default]

    def choose(self, name: str, facts: Facts, allowed: Callable[[str], bool]) -> str | None:
        """The model of the first rule that fits and that the user may use."""
        route = self._routes[name]
        for rule in route.rules:
            if allowed(rule.model) and _fits(rule, facts):
                return rule.model
        return route.default if allowed(route.default) else None


def _fits(rule: schema.RouteRule, facts: Facts) -> bool:
    if rule.groups is not None and facts.groups.isdisjoint(rule.groups):
        return False
    if rule.min_characters is not None and facts.characters < rule.min_characters:
        return False
    if rule.max_characters is not None and facts.characters > rule.max_characters:
        return False
    if rule.languages is not None and facts.language not in rule.languages:
        return False
    return rule.hints is None or facts.hints >= set(rule.hints)
