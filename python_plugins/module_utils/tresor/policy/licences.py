"""Gate ``licences``: every component has a licence that the site accepts; models as well."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from . import sbom
from .rules import ALLOWED_EXCEPTIONS, ALLOWED_LICENCES
from .verdict import NOTE, REFUSE, RefusalError, Verdict, refusal, verdict
from .view import BundleView

GATE = "licences"
_TOKEN = re.compile(r"\s*(\(|\)|[A-Za-z0-9][A-Za-z0-9.+:-]*)")
_DECIDE = "Read its licence; then add it to the spec's policy with a reason, or leave it out"
_MAX_TOKENS = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether an expression is accepted, and which licence decided it."""

    accepted: bool
    deciding: tuple[str, ...]


def judge(expression: str, allowed: frozenset[str]) -> Answer:
    """Evaluate an SPDX expression: OR needs one side, AND both, WITH an accepted exception.

    Raises:
        ValueError: not an SPDX licence expression.
    """
    tokens = _tokens(expression)
    answer, rest = _either(tokens, allowed)
    if rest:
        raise ValueError(f"{rest[0]!r} is out of place")
    return answer


def _tokens(expression: str) -> list[str]:
    found: list[str] = []
    position = 0
    text = expression.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or len(found) > _MAX_TOKENS:
            raise ValueError(f"{text[position : position + 20]!r} is no part of an SPDX expression")
        found.append(match[1])
        position = match.end()
    return found


def _either(tokens: list[str], allowed: frozenset[str]) -> tuple[Answer, list[str]]:
    left, rest = _both(tokens, allowed)
    while rest[:1] == ["OR"]:
        right, rest = _both(rest[1:], allowed)
        if left.accepted or right.accepted:
            left = left if left.accepted else right
        else:
            left = Answer(False, left.deciding + right.deciding)
    return left, rest


def _both(tokens: list[str], allowed: frozenset[str]) -> tuple[Answer, list[str]]:
    left, rest = _one(tokens, allowed)
    while rest[:1] == ["AND"]:
        right, rest = _one(rest[1:], allowed)
        bad = tuple(name for side in (left, right) if not side.accepted for name in side.deciding)
        left = Answer(not bad, bad or left.deciding + right.deciding)
    return left, rest


def _one(tokens: list[str], allowed: frozenset[str]) -> tuple[Answer, list[str]]:
    if not tokens or tokens[0] in ("OR", "AND", "WITH", ")"):
        raise ValueError("a licence is missing")
    if tokens[0] == "(":
        answer, rest = _either(tokens[1:], allowed)
        if rest[:1] != [")"]:
            raise ValueError("a bracket is not closed")
        return answer, rest[1:]
    name, rest = tokens[0], tokens[1:]
    if rest[:1] == ["WITH"]:
        if len(rest) < 2:
            raise ValueError("an exception is missing")
        name, exception, rest = f"{name} WITH {rest[1]}", rest[1], rest[2:]
        accepted = name in allowed or (tokens[0] in allowed and exception in ALLOWED_EXCEPTIONS)
        return Answer(accepted, (name,)), rest
    return Answer(name in allowed, (name,)), rest


def gate(view: BundleView) -> Iterator[Verdict]:
    """Judge the licences of every component and of every model of the manifest."""
    if view.advisory_only:
        return
    allowed = (ALLOWED_LICENCES | frozenset(view.declared.licences)) - view.rules.licences_denied
    raw = view.document("sbom", sbom.FILE, "licences", sbom.MAX_BYTES)
    if raw is None:
        yield verdict("licences.unknown", REFUSE, sbom.FILE, "absent", "Build the bundle again")
        return
    listed: dict[str, tuple[str, ...]] = {}
    try:
        for component in sbom.parse(raw):
            yield from _component(component, allowed, view)
            if component.type == "machine-learning-model":
                listed[component.name] = component.licences
    except RefusalError as error:
        yield refusal(error)
        return
    for model in view.manifest.models:
        if listed.get(model.name) != (model.license,):
            yield verdict(
                "licences.model",
                REFUSE,
                model.name,
                f"{model.license} in the manifest, {listed.get(model.name)} in the SBOM",
                "Build the bundle again",
            )


def _component(
    component: sbom.Component, allowed: frozenset[str], view: BundleView
) -> Iterator[Verdict]:
    if not component.licences:
        yield verdict("licences.unknown", REFUSE, component.purl, "no licence is known", _DECIDE)
    for expression in component.licences:
        try:
            answer = judge(expression, allowed)
        except ValueError as error:
            yield verdict(
                "licences.unknown", REFUSE, component.purl, f"{expression}: {error}", _DECIDE
            )
            continue
        if not answer.accepted:
            denied = sorted({*answer.deciding} & view.rules.licences_denied)
            seen = ", ".join(denied or answer.deciding)
            action = "This site's rules deny it: leave the component out" if denied else _DECIDE
            yield verdict("licences.refused", REFUSE, component.purl, seen, action)
            continue
        for name in answer.deciding:
            if name not in ALLOWED_LICENCES and name in view.declared.licences:
                yield verdict(
                    "licences.declared",
                    NOTE,
                    component.purl,
                    f"{name}: {view.declared.licences[name]}",
                )
