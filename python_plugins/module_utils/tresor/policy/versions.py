"""Order of versions in the ecosystems a bundle carries: PyPI, Debian, npm."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cmp_to_key
from typing import Any

_PEP440 = re.compile(
    r"""v?(?:(?P<epoch>\d+)!)?(?P<release>\d+(?:\.\d+)*)
    (?:[-_.]?(?P<pre>alpha|beta|preview|pre|rc|a|b|c)[-_.]?(?P<pre_n>\d*))?
    (?P<post>(?:-(?P<post_n1>\d+))|(?:[-_.]?(?:post|rev|r)[-_.]?(?P<post_n2>\d*)))?
    (?P<dev>[-_.]?dev[-_.]?(?P<dev_n>\d*))?
    (?:\+(?P<local>[a-z0-9]+(?:[-_.][a-z0-9]+)*))?""",
    re.X,
)
_SEMVER = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")
_PRE = {"alpha": "a", "beta": "b", "preview": "rc", "pre": "rc", "c": "rc"}
Key = Callable[[str], Any]


def pypi(text: str) -> Any:  # noqa: ANN401 - nested tuples
    """Return a sort key by PEP 440.

    Raises:
        ValueError: not a version.
    """
    match = _PEP440.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is no version of PEP 440")
    release = tuple(int(part) for part in match["release"].split("."))
    while len(release) > 1 and release[-1] == 0:
        release = release[:-1]
    low, high = (0, "", 0), (2, "", 0)
    pre: tuple[int, str, int]
    if match["pre"]:
        pre = (1, _PRE.get(match["pre"], match["pre"]), int(match["pre_n"] or 0))
    elif match["dev"] and not match["post"]:
        pre = low  # 1.0.dev1 comes before 1.0a1
    else:
        pre = high
    post = int(match["post_n1"] or match["post_n2"] or 0) if match["post"] else -1
    dev = (0, int(match["dev_n"] or 0)) if match["dev"] else (1, 0)
    local = tuple(
        (1, int(part), "") if part.isdigit() else (0, 0, part)
        for part in re.split(r"[-_.]", match["local"] or "")
        if part
    )
    return (int(match["epoch"] or 0), release, pre, post, dev, local)


def npm(text: str) -> Any:  # noqa: ANN401
    """Return a sort key by Semantic Versioning.

    Raises:
        ValueError: not a version.
    """
    match = _SEMVER.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no semantic version")
    numbers = tuple(int(match[index]) for index in (1, 2, 3))
    if not match[4]:
        return (numbers, (1,))
    parts = tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in match[4].split(".")
    )
    return (numbers, (0, parts))


def deb(text: str) -> Any:  # noqa: ANN401
    """Return a sort key by Debian's policy."""
    return cmp_to_key(_compare_debs)(text)


def _compare_debs(left: str, right: str) -> int:
    for one, other in zip(_split_deb(left), _split_deb(right), strict=True):
        result = _compare_part(one, other)
        if result:
            return result
    return 0


def _split_deb(text: str) -> tuple[str, str, str]:
    head, colon, rest = text.partition(":")
    epoch, rest = (head, rest) if colon else ("0", text)
    upstream, dash, revision = rest.rpartition("-")
    return (epoch, upstream, revision) if dash else (epoch, rest, "0")


def _compare_part(left: str, right: str) -> int:
    while left or right:
        one, left = _take(r"[^0-9]*", left)
        other, right = _take(r"[^0-9]*", right)
        ranks = ([_rank(char) for char in text] + [0] for text in (one, other))
        first, second = ranks
        if first != second:
            return -1 if first < second else 1
        one, left = _take(r"[0-9]*", left)
        other, right = _take(r"[0-9]*", right)
        if int(one or 0) != int(other or 0):
            return -1 if int(one or 0) < int(other or 0) else 1
    return 0


def _take(pattern: str, text: str) -> tuple[str, str]:
    match = re.match(pattern, text)
    length = match.end() if match else 0
    return text[:length], text[length:]


def _rank(char: str) -> int:
    if char == "~":
        return -1
    return ord(char) if char.isalpha() else ord(char) + 256


def in_range(version: str, events: Sequence[Mapping[str, object]], key: Key) -> bool:
    """Tell whether a version lies in an OSV range: after an ``introduced``, before its end.

    Raises:
        ValueError: a version cannot be ordered.
    """
    here = key(version)
    marks: list[tuple[Any, int, str]] = []
    for event in events:
        for kind in ("introduced", "fixed", "last_affected"):
            text = event.get(kind)
            if isinstance(text, str):
                marks.append((None if text == "0" else key(text), len(marks), kind))
    inside = False
    starts = [mark for mark in marks if mark[0] is None]
    rest = sorted((mark for mark in marks if mark[0] is not None), key=lambda mark: mark[:2])
    for mark, _, kind in [*starts, *rest]:
        if kind == "introduced":
            inside = inside or mark is None or not here < mark
        elif (kind == "fixed" and not here < mark) or (kind == "last_affected" and mark < here):
            inside = False
    return inside
