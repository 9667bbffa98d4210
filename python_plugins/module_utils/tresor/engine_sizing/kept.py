"""What an engine's log said of its present start, kept because a journal forgets.

An engine tells its memory once, when it starts. Months later the journal has rotated that away,
and what it holds instead is large. So the log of a start is read once, and its figures stay.
"""

from __future__ import annotations

import json
from pathlib import Path

from .observed import Observed


def read(path: Path, invocation: str) -> Observed | None:
    """Return what is kept of the start ``invocation``; None if that is another one or no record."""
    try:
        content = json.loads(path.read_bytes())
        if content["invocation"] != invocation:
            return None
        return Observed(**content["observed"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def text(invocation: str, observed: Observed) -> str:
    """Return the content of the file that :func:`read` takes."""
    content = {"invocation": invocation, "observed": observed.as_dict()}
    return json.dumps(content, indent=2, sort_keys=True) + "\n"
