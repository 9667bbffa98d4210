"""What a JSON Schema of a client's may cost, counted before an answer is compared with it.

A validator follows every reference as if its target stood there. References that double from one
definition to the next make 2**n places out of n lines, and an answer is compared with all of them.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from tresor_gateway.guardrails.errors import GuardrailError

MAX_PLACES: Final = 10_000
MAX_DEPTH: Final = 128
# Other ways to refer to a place; what they mean depends on who asks.
_REFUSED: Final = ("$dynamicRef", "$recursiveRef")


class SchemaError(GuardrailError):
    """The schema itself cannot be used."""


class Weight(NamedTuple):
    """How many places an answer is compared with, and whether some contain themselves."""

    places: int
    recursive: bool


def weigh(schema: dict[str, Any]) -> Weight:
    """Count the places of a schema with its references followed.

    Raises:
        SchemaError: too many, too deep, or a reference that is none within the schema.
    """
    scale = _Scale(schema)
    scale.visit(schema, (), MAX_DEPTH)
    return Weight(scale.places, scale.recursive)


class _Scale:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self.places = 0
        self.recursive = False

    def visit(self, node: Any, open_references: tuple[str, ...], depth: int) -> None:  # noqa: ANN401 - JSON
        """Count ``node``; ``open_references`` are those it stands in."""
        self.places += 1
        if self.places > MAX_PLACES:
            raise SchemaError(f"with its references it has more than {MAX_PLACES} places")
        if depth == 0:
            raise SchemaError(f"with its references it is nested more than {MAX_DEPTH} levels")
        if isinstance(node, list):
            for item in node:
                self.visit(item, open_references, depth - 1)
            return
        if not isinstance(node, dict):
            return
        for name, item in node.items():
            if name in _REFUSED:
                raise SchemaError(f"{name} is not supported; use $ref")
            if name == "$ref" and isinstance(item, str):
                self._follow(item, open_references, depth)
            else:
                # Data of const or enum counts too: a property may have such a name.
                self.visit(item, open_references, depth - 1)

    def _follow(self, reference: str, open_references: tuple[str, ...], depth: int) -> None:
        if reference in open_references:
            self.recursive = True
            return
        self.visit(self._target(reference), (*open_references, reference), depth - 1)

    def _target(self, reference: str) -> Any:  # noqa: ANN401 - JSON
        if reference != "#" and not reference.startswith("#/"):
            raise SchemaError(f"the reference {reference[:80]!r} must begin with #/")
        node: Any = self._root
        for step in reference.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(node, list) and name.isascii() and name.isdigit():
                node = dict(enumerate(node)).get(int(name), _NOTHING)
            else:
                node = node.get(name, _NOTHING) if isinstance(node, dict) else _NOTHING
            if node is _NOTHING:
                raise SchemaError(f"the reference {reference[:80]!r} leads nowhere")
        return node


_NOTHING: Final = object()
