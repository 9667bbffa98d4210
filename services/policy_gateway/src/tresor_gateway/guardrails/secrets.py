"""API keys and other credentials of known shapes.

Most keys announce themselves by a prefix; behind it stand at least ``minimum`` characters of a
known alphabet. The prefixes are those the issuers document for their secret scanning partners.
Anchors are short on purpose: the engine's tables have to stay in the processor's cache.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Final, NamedTuple

from tresor_gateway.guardrails.engine import Pattern
from tresor_gateway.guardrails.findings import Span
from tresor_gateway.guardrails.recognise import Look, Recogniser

SECRET: Final = "secret"  # noqa: S105 - the name of a kind of finding
_WORD: Final = frozenset(string.ascii_letters + string.digits + "_")
TOKEN: Final = _WORD | frozenset("-")
_BASE64: Final = frozenset(string.ascii_letters + string.digits + "+/=_-")
_CLASSES: Final = {
    "w": (rb"[A-Za-z0-9_]", _WORD),
    "t": (rb"[A-Za-z0-9_\-]", TOKEN),
    "d": (rb"[A-Za-z0-9_\-.]", TOKEN | {"."}),
    "b": (rb"[A-Za-z0-9+/=_\-]", _BASE64),
}
# A value of one or two repeated characters is an example, not a key.
_MIN_DISTINCT: Final = 6
_MAX_URL_LOGIN: Final = 200
_LOGIN_ENDS: Final = frozenset(" \t\n/\"'<>")
_MAX_KEY_LINE: Final = 64
_MIN_PART: Final = 10
# Characters behind a prefix that the engine compares; the rest is for the code.
_SEEN: Final = 6
_DOTTED: Final = TOKEN | {"."}
_TILDE: Final = TOKEN | {".", "~"}


class Prefix(NamedTuple):
    """``minimum`` characters of alphabet ``kind`` behind ``text``."""

    text: str
    kind: str
    minimum: int


# Alphabet behind the prefix, its least length there, prefixes.
_PREFIXES: Final = (
    (
        "w",
        16,
        "AKIA ASIA ABIA ACCA AGPA AIDA AROA sk_live_ sk_test_ sk_prod_ rk_live_ rk_test_ rk_prod_",
    ),
    ("w", 36, "ghp_ gho_ ghu_ ghs_ ghr_"),
    ("w", 40, "github_pat_"),
    (
        "t",
        20,
        "glpat- gldt- glrt- glptt- glft- glsoat- glcbt- glimt- glagent- gloas- GR1348941"
        " xapp-1- sk-proj- sk-svcacct- sk-admin- sk-None- sk-ant- ya29. sntrys_ sntryu_ rnd_"
        " pscale_tkn_ pscale_pw_ pscale_oauth_ figd_ ATATT3 ATCTT3 ATBB dt0c01. PRVT-"
        " duffel_test_",
    ),
    ("t", 16, "xoxa- xoxb- xoxp- xoxr- xoxs- xoxe- xoxo-"),
    ("d", 20, "xoxe.xox"),
    ("b", 20, "hooks.slack.com/services/ hooks.slack.com/workflows/"),
    ("b", 24, "whsec_"),
    ("w", 32, "sk-or-v1- sk- shpat_ shpca_ shppa_ shpss_"),
    ("t", 35, "AIza"),
    ("t", 24, "GOCSPX- PMAK- hvs. hvb. hvr. glsa_ glc_ sgp_ tskey-auth-"),
    ("w", 30, "hf_ api_org_ r8_ gsk_ npm_ nvapi-"),
    ("t", 40, "pypi-AgEI pplx- xai- lin_api_ dop_v1_ doo_v1_ dor_v1_"),
    ("d", 40, "SG. EAAA dapi atlasv1. ops_eyJ CLOJARS_ age-secret-key-1"),
    ("t", 22, "sq0atp- sq0csp- dckr_pat_ dckr_oat_ rubygems_"),
    ("t", 27, "NRAK- xkeysib- xsmtpsib- pul- fo1_ FlyV1 ntn_ secret_"),
    ("w", 50, "AGE-SECRET-KEY-1"),
    ("b", 40, "AccountKey= SharedAccessKey="),
)
PREFIXES: Final = tuple(
    Prefix(text, kind, minimum) for kind, minimum, texts in _PREFIXES for text in texts.split()
)


def _prefixed(prefix: Prefix) -> Look:
    alphabet = _CLASSES[prefix.kind][1]
    length = len(prefix.text) + _SEEN

    def look(text: str, end: int) -> Span | None:
        start = end - length
        if start > 0 and text[start - 1].isalnum():
            return None
        stop = _run(text, end, alphabet)
        value = text[start + len(prefix.text) : stop]
        if len(value) < prefix.minimum or len(set(value)) < _MIN_DISTINCT:
            return None
        return Span(start, stop, SECRET)

    return look


def json_web_token(text: str, end: int) -> Span | None:
    """``end`` is inside the first part; three parts belong to it."""
    start, stop = _back(text, end, _DOTTED), _run(text, end, _DOTTED)
    parts = text[start:stop].split(".")
    # At the end of a text the last part may still be to come.
    wanted = 3 if stop < len(text) else 2
    if len(parts) < wanted or not parts[0].startswith("eyJ"):
        return None
    if min(map(len, parts[:2])) < _MIN_PART:
        return None
    return Span(start, stop, SECRET)


def private_key(text: str, end: int) -> Span | None:
    """``end`` is in the first line; without a last line everything behind belongs to it."""
    start = text.rfind("-----BEGIN", max(0, end - _MAX_KEY_LINE), end)
    if start < 0 or "\n" in text[start:end]:
        return None
    line = text.find("-----", end, end + _MAX_KEY_LINE)
    if line < 0:
        return None
    last = text.find("-----END", line)
    if last < 0:
        return Span(start, len(text), SECRET)
    stop = text.find("-----", last + 8)
    return Span(start, len(text) if stop < 0 else stop + 5, SECRET)


def url_login(text: str, end: int) -> Span | None:
    """``end`` is behind ``://``; what counts is ``user:password@`` there."""
    window = text[end : end + _MAX_URL_LOGIN]
    at = window.find("@")
    login = window[:at]
    user, colon, password = login.partition(":")
    if at < 0 or not colon or not user or not password or not _LOGIN_ENDS.isdisjoint(login):
        return None
    return Span(end, end + at, SECRET)


def _between(before: int, back: frozenset[str], after: int, on: frozenset[str]) -> Look:
    """A key without a prefix: so many characters up to the anchor's end, so many behind it."""

    def look(text: str, end: int) -> Span | None:
        start, stop = _back(text, end, back), _run(text, end, on)
        if end - start < before or stop - end < after:
            return None
        return Span(start, stop, SECRET)

    return look


def _run(text: str, start: int, alphabet: frozenset[str]) -> int:
    while start < len(text) and text[start] in alphabet:
        start += 1
    return start


def _back(text: str, end: int, alphabet: frozenset[str]) -> int:
    while end > 0 and text[end - 1] in alphabet:
        end -= 1
    return end


def recognisers() -> Iterator[Recogniser]:
    """All of them, as the inspector wants them."""
    for prefix in PREFIXES:
        expression = _literal(prefix.text) + _CLASSES[prefix.kind][0] + b"{%d}" % _SEEN
        yield Recogniser(SECRET, Pattern(expression), _prefixed(prefix))
    yield Recogniser(SECRET, Pattern(rb"eyJ[A-Za-z0-9_\-]{8}"), json_web_token)
    yield Recogniser(SECRET, Pattern(rb"PRIVATE KEY"), private_key)
    yield Recogniser(SECRET, Pattern(rb"://"), url_login)
    # Client secrets of Entra ID, and bot tokens of Telegram and Discord.
    yield Recogniser(SECRET, Pattern(rb"[0-9]Q~"), _between(6, _TILDE, 31, _TILDE))
    digits = frozenset(string.digits + ":A")
    yield Recogniser(SECRET, Pattern(rb"[0-9]{6}:A"), _between(10, digits, 34, TOKEN))
    yield Recogniser(
        SECRET,
        Pattern(rb"\.[A-Za-z0-9_\-]{6}\.[A-Za-z0-9_\-]{8}"),
        _between(40, _DOTTED, 19, TOKEN),
    )


def _literal(text: str) -> bytes:
    escaped = "".join(char if char.isalnum() or char in "_-/=" else f"\\{char}" for char in text)
    return escaped.encode()
