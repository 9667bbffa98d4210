"""What mypyc translates otherwise than Python means it, kept out of the compiled modules."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
SOURCE = PROJECT / "src/tresor_gateway"
MODULES: list[str] = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))[
    "tool"
]["tresor"]["compiled"]


def reused_names(tree: ast.AST) -> Iterator[str]:
    """Handlers of a function that share a name but not a type: the first type is enforced."""
    for function in ast.walk(tree):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        types: dict[str, str] = {}
        for node in ast.walk(function):
            if isinstance(node, ast.ExceptHandler) and node.name and node.type:
                kind = ast.unparse(node.type)
                if types.setdefault(node.name, kind) != kind:
                    yield f"{function.name}, line {node.lineno}: {node.name} is also a {kind}"


def structs(tree: ast.AST) -> Iterator[str]:
    """Classes that msgspec reads the annotations of: compiled ones have lost them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any("Struct" in ast.unparse(b) for b in node.bases):
            yield f"line {node.lineno}: class {node.name}"


def views(tree: ast.AST) -> Iterator[str]:
    """``while view`` on a memoryview does not end where it should."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "memoryview":
            yield f"line {node.lineno}: memoryview"


@pytest.mark.parametrize("module", MODULES)
def test_compiled_module_has_nothing_that_is_translated_otherwise(module: str) -> None:
    tree = ast.parse((SOURCE / f"{module}.py").read_text(encoding="utf-8"))
    assert [*reused_names(tree), *structs(tree), *views(tree)] == []


def test_such_code_would_be_seen() -> None:
    tree = ast.parse(
        "def f():\n try: pass\n except A as e: pass\n except B as e: pass\n"
        "class C(msgspec.Struct): pass\nmemoryview(b'')\n"
    )
    found = [list(look(tree)) for look in (reused_names, structs, views)]
    assert [len(problems) for problems in found] == [1, 1, 1]
