"""Why an evaluation ends without a verdict."""

from __future__ import annotations


class EvaluateError(ValueError):
    """The evaluation cannot be carried out; the text says the thing, the value, what to do."""


class PromptsError(EvaluateError):
    """The file of prompts is wrong; the text has every problem with its line, a line each."""


class InstanceError(EvaluateError):
    """An instance is unknown, does not answer, is of another model, or changed meanwhile."""


def shown(value: object, most: int = 80) -> str:
    """Return a value for a message: its Python form, cut."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."
