"""Lexical allow-list for chat templates (Jinja), without Jinja.

The importer has no Jinja, so it reads a template's tokens and allows only what chat templates use:
no imports, no private names, no way to spell one. What only a parser can see is looked at on the
connected side, which parses each template in Jinja's immutable sandbox, and the engine renders in
that sandbox too: three walls, none of which trusts the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .verdict import RefusalError, words

MAX_BYTES = 128 * 1024
_MAX_NESTED_LOOPS = 4
_RULE = "models.template"
_ASK = "Use the template of the model's maker, or have a person simplify it"

_OPEN = re.compile(r"\{[#{%]")
_CLOSE = {"{{": re.compile(r"-?\}\}"), "{%": re.compile(r"[-+]?%\}")}
_PAIRS = {")": "(", "]": "[", "}": "{"}
_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
    | (?P<text>'(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*")
    | (?P<number>\d[\d_]*(?:\.\d+)?)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<operator>==|!=|<=|>=|//|[-+*/%~|.,:()\[\]{}<>=])
    """,
    re.X | re.S,
)
_STATEMENTS = words(
    """
    if elif else endif for endfor set endset macro endmacro call endcall filter endfilter
    generation endgeneration break continue
    """
)
_FILTERS = words(
    """
    abs batch capitalize count d default dictsort e escape first float format groupby indent int
    items join last length list lower map max min reject rejectattr replace reverse round safe
    select selectattr slice sort string sum title tojson trim truncate unique upper urlencode
    wordcount from_json
    """
)
_TESTS = words(
    """
    boolean callable defined divisibleby eq equalto even false float ge greaterthan gt in
    integer iterable le lessthan lower lt mapping ne none None null number odd sameas sequence
    string true undefined upper
    """
)
_CALLABLE = words(
    """
    range namespace raise_exception strftime_now dict joiner cycler loop caller
    """
)
_METHODS = words(
    """
    append capitalize count endswith extend find format get index insert items join keys lower
    lstrip pop rfind replace rstrip split splitlines startswith strip title update upper values
    cycle isdigit isspace isalpha isalnum isupper islower removeprefix removesuffix rsplit
    partition rpartition
    """
)
_FORBIDDEN_NAMES = words(
    """
    self lipsum import include extends from block getattr setattr eval exec
    """
)
_SPELLED = words(
    """
    base bases builtins class code dict globals import init mro reduce subclasses
    """
)
_MAX_NUMBER = 1_000_000
_CHARACTER = re.compile(r"%[-+ 0#]*\d*c")  # formats a number as a character
_ESCAPES = re.compile(r"\\[^nrt\\'\"/]")


def check(template: str, where: str) -> None:
    """Check one template.

    Raises:
        RefusalError: rule ``models.template``.
    """
    if len(template.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise RefusalError(_RULE, where, f"more than {MAX_BYTES} bytes", _ASK)
    names = _macros(template)
    depth = 0
    for mark, tokens in _blocks(template, where):
        if mark == "{%":
            depth += _statement(tokens, where)
            if depth > _MAX_NESTED_LOOPS:
                raise _wrong(where, f"loops nested more than {_MAX_NESTED_LOOPS} deep")
        _expression(tokens, names, where)


def _macros(template: str) -> frozenset[str]:
    """Return what a template may call beside methods: built-in functions and its own macros."""
    found = re.findall(r"\{%[-+]?\s*macro\s+([A-Za-z]\w*)\s*\(", template)
    return frozenset(found) | _CALLABLE


def _blocks(template: str, where: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield (opening mark, tokens) per block, cut where Jinja's own lexer cuts."""
    position = 0
    while match := _OPEN.search(template, position):
        mark = match[0]
        position = match.end()
        if mark == "{#":
            end = template.find("#}", position)
            if end < 0:
                raise _wrong(where, "a comment without its end")
            position = end + 2
            continue
        if template[position : position + 1] in ("-", "+"):
            position += 1
        tokens: list[tuple[str, str]] = []
        stack: list[str] = []
        while True:
            # An end mark inside brackets is no end: {{ {"a": {}} }}.
            end_mark = None if stack else _CLOSE[mark].match(template, position)
            if end_mark:
                position = end_mark.end()
                break
            token = _TOKEN.match(template, position)
            if token is None:
                raise _wrong(where, f"{template[position : position + 40]!r}")
            position = token.end()
            kind, text = str(token.lastgroup), token[0]
            if kind == "operator" and text in "([{":
                stack.append(text)
            elif text in _PAIRS and (not stack or stack.pop() != _PAIRS[text]):
                raise _wrong(where, f"unbalanced {text}")
            if kind != "space":
                tokens.append((kind, text))
        yield mark, tokens


def _statement(tokens: list[tuple[str, str]], where: str) -> int:
    """Check the statement's word, drop it, and return how much deeper loops are nested."""
    if not tokens or tokens[0][0] != "name" or tokens[0][1] not in _STATEMENTS:
        raise _wrong(where, f"statement {tokens[0][1] if tokens else ''!r}")
    word = tokens.pop(0)[1]
    if word in ("filter", "call"):
        tokens.insert(0, ("operator", "|" if word == "filter" else ":"))
    if word == "macro" and tokens:
        _name(tokens[0][1], where)
        tokens.pop(0)
        tokens.insert(0, ("operator", ":"))
    return {"for": 1, "endfor": -1}.get(word, 0)


def _expression(tokens: list[tuple[str, str]], callables: frozenset[str], where: str) -> None:
    before, earlier = "", ""
    for index, (kind, text) in enumerate(tokens):
        after = tokens[index + 1][1] if index + 1 < len(tokens) else ""
        if kind == "text":
            _literal(text, where)
            known = {"map": _FILTERS, "select": _TESTS, "reject": _TESTS}.get(earlier)
            if before == "(" and known is not None and text[1:-1] not in known:
                raise _wrong(where, f"{earlier}({text})")
        elif kind == "number" and float(text.replace("_", "")) > _MAX_NUMBER:
            raise _wrong(where, f"number {text}")
        elif kind == "operator" and text == "*" and after == "*":
            raise _wrong(where, "operator **")
        elif kind == "name":
            _name(text, where)
            if before == "|" and text not in _FILTERS:
                raise _wrong(where, f"filter {text!r}")
            if before == "is" and text != "not" and text not in _TESTS:
                raise _wrong(where, f"test {text!r}")
            if after == "(" and before != "|":
                known = _METHODS if before == "." else callables | _TESTS | _WORDS
                if text not in known:
                    raise _wrong(where, f"call of {text!r}")
        elif text == "(" and before in (")", "]"):
            raise _wrong(where, "call of a computed value")
        earlier = before
        before = "is" if before == "is" and text == "not" else text


# After these a parenthesis groups; it does not call.
_WORDS = words(
    """
    and or not in is if else elif return for set recursive
    """
)


def _name(text: str, where: str) -> None:
    if text.startswith("_") or text.endswith("__") or text in _FORBIDDEN_NAMES:
        raise _wrong(where, f"name {text!r}")


def _literal(text: str, where: str) -> None:
    body = text[1:-1]
    spelled = "_" in body and body.strip("_") in _SPELLED
    if "__" in body or spelled or _CHARACTER.search(body) or _ESCAPES.search(body):
        raise _wrong(where, f"text {text[:60]!r}")


def _wrong(where: str, seen: str) -> RefusalError:
    return RefusalError(_RULE, where, f"{seen} is not what chat templates need", _ASK)
