"""A small reader of XML that takes no risks: no entities, no internal DTD, bounded size and depth.

`nvidia-smi -q -x` names its DTD in the doctype, which is allowed by name and never fetched. What
could grow or reach out while it is parsed is refused before it has an effect.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

from .values import ReadingError

SIZE_LIMIT: Final = 16 * 1024 * 1024
"""Characters; 16 GPUs with their lists of clocks have about 1.5 million."""
DEPTH_LIMIT: Final = 32
ELEMENT_LIMIT: Final = 400_000


@dataclass
class Node:
    """One element: its name, attributes, own text and children, in the order of the file."""

    name: str
    attributes: dict[str, str]
    text: str = ""
    children: list[Node] = field(default_factory=list)

    def all(self, name: str) -> list[Node]:
        """Return the children of a name."""
        return [child for child in self.children if child.name == name]

    def find(self, path: str) -> Node | None:
        """Return the first element at a path of names such as `ecc_mode/current_ecc`."""
        node = self
        for name in path.split("/"):
            found = next((child for child in node.children if child.name == name), None)
            if found is None:
                return None
            node = found
        return node

    def value(self, *paths: str) -> str | None:
        """Return the text at the first path that tells something.

        The driver writes `N/A`, `[N/A]` and a few sentences where a board has nothing to tell.
        """
        for path in paths:
            node = self.find(path)
            text = node.text.strip() if node else ""
            if text and text.strip("[]") not in _NOTHING:
                return text
        return None


_NOTHING: Final = frozenset(
    {"N/A", "Not Supported", "Unknown Error", "Requested functionality has been deprecated"}
)


def parse_xml(text: str, root_name: str) -> Node:
    """Return the root element of a document; raises ReadingError if it is not one to trust."""
    if len(text) > SIZE_LIMIT:
        raise ReadingError(f"the XML has {len(text)} characters, more than {SIZE_LIMIT}")
    reader = _Reader(root_name)
    parser = expat.ParserCreate()
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = reader.doctype
    parser.EntityDeclHandler = reader.entity
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise ReadingError(f"the XML cannot be parsed: {error}") from None
    if reader.root is None or reader.root.name != root_name:
        seen = reader.root.name if reader.root else "nothing"
        raise ReadingError(f"expected the element {root_name}, saw {seen}")
    return reader.root


class _Reader:
    def __init__(self, root_name: str) -> None:
        self.root: Node | None = None
        self._root_name = root_name
        self._open: list[Node] = []
        self._elements = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if self._elements > ELEMENT_LIMIT or len(self._open) >= DEPTH_LIMIT:
            raise ReadingError(
                f"the XML has more than {ELEMENT_LIMIT} elements or is nested deeper than "
                f"{DEPTH_LIMIT}"
            )
        node = Node(name, attributes)
        if self._open:
            self._open[-1].children.append(node)
        else:
            self.root = node
        self._open.append(node)

    def end(self, _name: str) -> None:
        self._open.pop()

    def text(self, data: str) -> None:
        if self._open:
            self._open[-1].text += data

    def doctype(self, name: str, _system: str | None, _public: str | None, internal: int) -> None:
        if internal or name != self._root_name:
            raise ReadingError(f"the doctype {name} is not that of the driver, or declares things")

    def entity(self, name: str, *_rest: object) -> None:
        raise ReadingError(f"the XML declares the entity {name}; none is allowed")
