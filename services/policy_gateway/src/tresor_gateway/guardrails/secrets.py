"""API keys and other credentials of known shapes.

Most keys announce themselves by a prefix; behind it stand at least ``minimum`` characters of a
known alphabet. The prefixes are those the issuers document for their secret scanning partners.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from tresor_gateway.guardrails.engine import Pattern
from tresor_gateway.guardrails.findings import Span
from tresor_gateway.guardrails.recognise import Recogniser

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


def _prefixed(prefix: Prefix) -> Callable[[str, int], Span | None]:
    alphabet = _CLASSES[prefix.kind][1]
    length = len(prefix.text) + prefix.minimum

    def look(text: str, end: int) -> Span | None:
        start = end - length
        if text[start - 1 : start].isalnum() and start > 0:
            return None
        stop = end
        while stop < len(text) and text[stop] in alphabet:
            stop += 1
        value = text[start + len(prefix.text) : stop]
        return Span(start, stop, SECRET) if len(set(value)) >= _MIN_DISTINCT else None

    return look


def json_web_token(text: str, end: int) -> Span | None:
    """``end`` is inside the second part; all three parts belong to it."""
    start = stop = end
    while start > 0 and (text[start - 1] in TOKEN or text[start - 1] == "."):
        start -= 1
    while stop < len(text) and (text[stop] in TOKEN or text[stop] == "."):
        stop += 1
    return Span(start, stop, SECRET)


def private_key(text: str, end: int) -> Span | None:
    """``end`` is behind the first line; without a last line everything behind belongs to it."""
    start = text.rfind("-----BEGIN", 0, end)
    last = text.find("-----END", end)
    if last < 0:
        return Span(start, len(text), SECRET)
    stop = text.find("-----", last + 8)
    return Span(start, len(text) if stop < 0 else stop + 5, SECRET)


def url_login(text: str, end: int) -> Span | None:
    """``end`` is behind the at sign of ``scheme://user:password@``."""
    start = text.rfind("://", max(0, end - _MAX_URL_LOGIN), end)
    return Span(start + 3, end - 1, SECRET) if start >= 0 else None


def _patterned(before: int) -> Callable[[str, int], Span | None]:
    """A key without a prefix: ``before`` characters up to the anchor's end, token behind it."""

    def look(text: str, end: int) -> Span | None:
        start = end - before
        if start < 0 or (start > 0 and text[start - 1] in TOKEN):
            return None
        stop = end
        while stop < len(text) and text[stop] in TOKEN | {"~", "."}:
            stop += 1
        return Span(start, stop, SECRET)

    return look


def recognisers() -> Iterator[Recogniser]:
    """All of them, as the inspector wants them."""
    for prefix in PREFIXES:
        expression = _literal(prefix.text) + _CLASSES[prefix.kind][0] + b"{%d}" % prefix.minimum
        yield Recogniser(SECRET, Pattern(expression), _prefixed(prefix))
    yield Recogniser(
        SECRET,
        Pattern(rb"eyJ[A-Za-z0-9_\-]{10,2000}\.eyJ[A-Za-z0-9_\-]{8}"),
        json_web_token,
    )
    yield Recogniser(
        SECRET, Pattern(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY( BLOCK)?-----"), private_key
    )
    yield Recogniser(SECRET, Pattern(rb"://[^\s/:@\"']{1,64}:[^\s/:@\"']{1,100}@"), url_login)
    # Client secrets of Entra ID, and bot tokens of Telegram and Discord.
    yield Recogniser(
        SECRET, Pattern(rb"[A-Za-z0-9_~.\-]{3}[0-9]Q~[A-Za-z0-9_~.\-]{31}"), _patterned(37)
    )
    yield Recogniser(SECRET, Pattern(rb"[0-9]{9}:A[A-Za-z0-9_\-]{34}"), _patterned(45))
    yield Recogniser(
        SECRET,
        Pattern(rb"[MNO][A-Za-z0-9_\-]{23}\.[A-Za-z0-9_\-]{6}\.[A-Za-z0-9_\-]{27}"),
        _patterned(59),
    )


def _literal(text: str) -> bytes:
    escaped = "".join(char if char.isalnum() or char in "_-/=" else f"\\{char}" for char in text)
    return escaped.encode()
