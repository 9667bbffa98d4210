"""From the configuration to a pipeline; equal configurations share one within a process."""

from __future__ import annotations

from functools import lru_cache

from tresor_gateway import config_schema as schema
from tresor_gateway.guardrails.pipeline import Pipeline
from tresor_gateway.guardrails.policy import KINDS, DirectionPolicy, Policy


@lru_cache(maxsize=8)
def pipeline(settings: schema.Guardrails) -> Pipeline:
    """Compile the patterns that the settings need (a second or two, the first time)."""
    return Pipeline(
        Policy(
            request=_incoming(settings.request),
            context=_incoming(settings.context),
            response=DirectionPolicy({kind: getattr(settings.response, kind) for kind in KINDS}),
            restore=settings.restore,
            deadline_seconds=settings.deadline_milliseconds / 1000,
            max_characters=settings.max_prompt_characters,
        )
    )


def _incoming(settings: schema.Incoming) -> DirectionPolicy:
    return DirectionPolicy({kind: getattr(settings, kind) for kind in KINDS}, settings.injection)
