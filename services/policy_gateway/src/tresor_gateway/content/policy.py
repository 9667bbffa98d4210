"""Whose content is kept, and in which form: the first rule that fits decides, else nothing is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Literal

from tresor_gateway import config_schema as schema
from tresor_gateway.guardrails.policy import KINDS

Kept = Literal["masked", "full"]
NONE: Final = "none"


def mode(
    rules: Iterable[schema.ContentRule], groups: Iterable[str], endpoint: str, model: str
) -> Kept | None:
    """What is kept of a request; nothing unless a rule says so."""
    own = frozenset(groups)
    for rule in rules:
        if (
            (rule.groups is None or own.intersection(rule.groups))
            and (rule.endpoints is None or endpoint in rule.endpoints)
            and (rule.models is None or model in rule.models)
        ):
            return None if rule.keep == NONE else rule.keep
    return None


def problems(config: schema.Config) -> Iterator[str]:
    """What is wrong with the section content, or does not fit the others."""
    content = config.content
    if content is None:
        return
    if not Path(content.directory).is_absolute():
        yield f"content.directory: value {content.directory!r}: write an absolute path"
    groups = {rule.group for rule in config.access if rule.group is not None}
    models = {model.name for model in config.models}
    for index, rule in enumerate(content.rules):
        where = f"content.rules[{index}]"
        for name in rule.models or ():
            if name not in models:
                yield f"{where}.models: {name!r} is no model; known are {', '.join(sorted(models))}"
        for name in rule.groups or ():
            if name not in groups:
                known = ", ".join(sorted(groups))
                yield f"{where}.groups: {name!r} has no access rule; known are {known}"
        if rule.keep == "masked":
            yield from _unmasked(config.guardrails, where)


def _unmasked(guardrails: schema.Guardrails, where: str) -> Iterator[str]:
    """What is called masked must be."""
    for section in ("request", "response"):
        settings = getattr(guardrails, section)
        bare = [kind for kind in KINDS if getattr(settings, kind) in ("allow", "flag")]
        if bare:
            yield (
                f"{where}.keep: value 'masked': guardrails.{section} lets {', '.join(bare)} pass "
                "unmasked, so it would be kept; mask or block it, or write full"
            )
