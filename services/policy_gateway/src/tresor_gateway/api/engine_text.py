"""What an engine says about a request it refuses, made fit for the client.

Engines echo prompts, and a mistake of theirs may speak of their files. So nothing of what they say
reaches a client before it is one line without control characters, has no path and no piece of a
trace in it, and has passed the guardrails as an answer would.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from tresor_gateway.guardrails.errors import GuardrailError
from tresor_gateway.guardrails.pipeline import Guard

MAX_CHARACTERS: Final = 1000
_MAX_PARAMETER: Final = 64
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# What a path may stand between.
_APART: Final = str.maketrans(dict.fromkeys("\"'`()[]{}<>=,;|", " "))
_JOINED: Final = str.maketrans(".[]", "___")
_TRACES: Final = ("traceback", "stack trace", "core dumped", "file://", ":\\", "\\\\", "/../")
_SOURCES: Final = (".py", ".pyc", ".so", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".rs", ".go")
_API_PATHS: Final = ("/v1/", "v1/")
_ADDRESS_LENGTH: Final = 8


def for_client(said: str, guard: Guard) -> str:
    """At most 1000 characters of ``said``; nothing when it is not for clients at all."""
    line = one_line(said)
    if not line or speaks_of_insides(line):
        return ""
    if guard.cleans_responses:
        try:
            line = guard.outgoing(line)
        except GuardrailError:
            # Blocked, or not judged: its verdict stands in the record, the text goes nowhere.
            return ""
    # Cut only now: half a number would not be known for what it is.
    return line[:MAX_CHARACTERS]


def parameter(name: str | None) -> str | None:
    """The parameter an engine complains about, if that is a plain name."""
    if name is None or not name.isascii() or not 0 < len(name) <= _MAX_PARAMETER:
        return None
    return name if name.translate(_JOINED).isidentifier() else None


def one_line(said: str) -> str:
    """``said`` without what is not seen, each run of spaces and line ends one space."""
    seen = (" " if unicodedata.category(sign) in _UNSEEN else sign for sign in said)
    return " ".join("".join(seen).split())


def speaks_of_insides(line: str) -> bool:
    """Whether a line looks like a path, an address in memory or a piece of a trace."""
    lowered = line.lower()
    if any(trace in lowered for trace in _TRACES):
        return True
    return any(_is_inside(word) for word in lowered.translate(_APART).split())


def _is_inside(word: str) -> bool:
    # "path:/opt/x" and "server.py:12" are found as well; "https://host/x" is no path.
    for piece in word.split(":"):
        plain = piece.rstrip(".!?")
        if plain.endswith(_SOURCES) or (plain.startswith("0x") and len(plain) >= _ADDRESS_LENGTH):
            return True
        if plain.startswith("//") or plain.startswith(_API_PATHS):
            continue
        # "and/or" and "maker/model" have a slash, and stand in texts for users.
        if plain.count("/") > 1 or (len(plain) > 1 and "/" in plain and not _joins(plain)):
            return True
    return False


def _joins(plain: str) -> bool:
    """Whether the slash stands between two words."""
    before, _, behind = plain.partition("/")
    return before[-1:].isalnum() and behind[:1].isalnum()
