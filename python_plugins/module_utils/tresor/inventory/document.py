"""Read one YAML file as plain data and remember the line of every key.

The files of an inventory are data. What makes YAML more than data (tags, anchors, merge keys,
doubled keys, values whose type depends on the YAML version) and Jinja are refused, because a
reviewer could not see from the text alone what a host would get.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from .problems import Problem, seen_text

KeyPath = tuple[str | int, ...]
Data: TypeAlias = Any
"""What a YAML file can hold: mappings, lists, texts, numbers, booleans and nothing."""

SIZE_LIMIT: Final = 1_048_576
"""Largest inventory file in bytes; a real one has a few kilobytes."""
DEPTH_LIMIT: Final = 24
_JINJA: Final = ("{{", "{%", "{#")
_PLAIN_TAGS: Final = {
    "tag:yaml.org,2002:str",
    "tag:yaml.org,2002:int",
    "tag:yaml.org,2002:float",
    "tag:yaml.org,2002:bool",
    "tag:yaml.org,2002:null",
}


@dataclass(frozen=True)
class Document:
    """The content of one file: its data, the line of each key path and the digest of its bytes."""

    file: str
    data: Data
    lines: Mapping[KeyPath, int]
    sha256: str

    def line(self, path: KeyPath) -> int:
        """Return the line of a path, or of the nearest path above it that the file has."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def value(self, path: KeyPath) -> Data:
        """Return the value at a path, or None where the file has none."""
        value = self.data
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def problem(self, path: KeyPath, wrong: str, fix: str, seen: object = None) -> Problem:
        """Return a problem at a path; the value seen is the one there unless another is given."""
        value = self.value(path) if seen is None else seen
        return Problem(self.file, self.line(path), key_text(path), wrong, seen_text(value), fix)


def key_text(path: KeyPath) -> str:
    """Return a path in the usual notation, such as `tresor_access[0].group`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "(whole file)"


def read_document(root: Path, file: str) -> tuple[Document | None, list[Problem]]:
    """Read a file below the inventory's root; return what could be read and what is wrong."""
    try:
        with (root / file).open("rb") as stream:
            raw = stream.read(SIZE_LIMIT + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        fix = "write this file; the example inventories show each one complete"
        return None, [Problem(file, 1, "(whole file)", f"cannot be read: {reason}", "nothing", fix)]
    if len(raw) > SIZE_LIMIT:
        fix = f"keep it below {SIZE_LIMIT} bytes"
        seen = f"more than {SIZE_LIMIT} bytes"
        return None, [Problem(file, 1, "(whole file)", "is too large", seen, fix)]
    return parse_document(file, raw)


def parse_document(file: str, raw: bytes) -> tuple[Document | None, list[Problem]]:
    """Parse the bytes of a file; a file that is no YAML at all gives no document."""
    try:
        text = raw.decode("utf-8")
        aliases = [
            event.start_mark.line + 1 if event.start_mark else 1
            for event in yaml.parse(text, Loader=yaml.SafeLoader)
            if isinstance(event, yaml.AliasEvent)
        ]
        if aliases:
            fix = "write the value out where it is used; aliases and merge keys are refused"
            return None, [
                Problem(file, line, "(whole file)", "uses a YAML alias", "*alias", fix)
                for line in aliases
            ]
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        seen = f"byte {error.start}"
        return None, [Problem(file, 1, "(whole file)", "is not UTF-8", seen, "save it as UTF-8")]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        reason = getattr(error, "problem", None) or "cannot be parsed"
        fix = "mend the indentation, quotes or colon at this line"
        return None, [Problem(file, line, "(whole file)", "is not YAML", str(reason), fix)]
    reader = _Reader(file)
    data = reader.read(node, (), 0) if node is not None else None
    digest = hashlib.sha256(raw).hexdigest()
    return Document(file, data, reader.lines, digest), reader.problems


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1 if node.start_mark else 1


class _Reader:
    """Turns YAML nodes into data, noting lines and what is not plain data."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []
        self._scalars = yaml.SafeLoader("")

    def read(self, node: yaml.Node, path: KeyPath, depth: int) -> Data:
        """Return the data of a node and of all below it."""
        self.lines.setdefault(path, _line(node))
        if depth > DEPTH_LIMIT:
            self._note(node, path, "is nested too deeply", "...", "flatten it")
            return None
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return dict(self._pairs(node, path, depth))
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [
                self.read(item, (*path, index), depth + 1) for index, item in enumerate(node.value)
            ]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self._note(node, path, "has a YAML tag", node.tag, "write plain data without a tag")
        return None

    def _pairs(
        self, node: yaml.MappingNode, path: KeyPath, depth: int
    ) -> Iterator[tuple[str, Data]]:
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            if key is None:
                continue
            line = _line(key_node)
            here = (*path, key)
            if key in first:
                wrong = f"stands twice, first at line {first[key]}"
                self._note(key_node, here, wrong, seen_text(key), "keep one of the two")
                continue
            first[key] = line
            self.lines[here] = line
            yield key, self.read(value_node, here, depth + 1)

    def _key(self, node: yaml.Node, path: KeyPath) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:str":
            key: str = node.value
            if not any(mark in key for mark in _JINJA):
                return key
        seen = seen_text(getattr(node, "value", "?"))
        self._note(node, path, "has a key that is not plain text", seen, "write a text key")
        return None

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Data:
        seen = seen_text(node.value)
        if node.tag not in _PLAIN_TAGS:
            wrong = f"is read as {node.tag.rsplit(':', 1)[-1]}, which is not plain data"
            self._note(node, path, wrong, seen, "put it in quotes, or write plain data")
            return None
        if node.tag == "tag:yaml.org,2002:str":
            if any(mark in node.value for mark in _JINJA):
                fix = "write the value itself: an inventory is data and is checked as it stands"
                self._note(node, path, "holds a Jinja expression", seen, fix)
            return node.value
        if node.tag == "tag:yaml.org,2002:int" and ":" in node.value:
            fix = "put it in quotes: YAML reads it as a number to base 60"
            self._note(node, path, "is ambiguous", seen, fix)
            return None
        return self._scalars.construct_object(node)

    def _note(self, node: yaml.Node, path: KeyPath, wrong: str, seen: str, fix: str) -> None:
        line = _line(node)
        self.problems.append(Problem(self.file, line, key_text(path), wrong, seen, fix))
