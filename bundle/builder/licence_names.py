"""From what packages say about their licence to an SPDX expression; unclear texts give none."""

from __future__ import annotations

from collections.abc import Sequence

from tresor.policy.licences import judge
from tresor.policy.rules import ALLOWED_LICENCES

# The classifier and the word "BSD" do not tell which of the two it is.
_BSD = "BSD-3-Clause OR BSD-2-Clause"
_ALIASES = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "apache software license 2.0": "Apache-2.0",
    "apache software license, version 2.0": "Apache-2.0",
    "apache2": "Apache-2.0",
    "bsd": _BSD,
    "bsd license": _BSD,
    "bsd 3-clause": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "mpl-2.0": "MPL-2.0",
    "nvidia proprietary software": "LicenseRef-NVIDIA-Proprietary",
    "python software foundation license": "PSF-2.0",
    "the mit license": "MIT",
    "the unlicense (unlicense)": "Unlicense",
    "zope public license": "ZPL-2.1",
}
_CLASSIFIER = "License :: OSI Approved :: "


def from_hints(expression: str, hints: Sequence[str]) -> str:
    """Return an SPDX expression, or an empty text when nothing says it clearly.

    Args:
        expression: what claims to be SPDX already.
        hints: older texts: a name, the beginning of the licence's text, classifiers.
    """
    if expression and is_expression(expression):
        return expression
    for hint in hints:
        if hint.startswith("License ::"):
            continue
        first = hint.strip().splitlines()[0].strip() if hint.strip() else ""
        if first.lower() in _ALIASES:
            return _ALIASES[first.lower()]
        if is_expression(first) and _known(first):
            return first
    found = sorted(
        {
            _ALIASES.get(hint.removeprefix(_CLASSIFIER).lower(), "")
            for hint in hints
            if hint.startswith(_CLASSIFIER)
        }
    )
    # Several classifiers: whether all or any apply is not said, so all do.
    return " AND ".join(
        f"({item})" if " OR " in item and found[1:] else item for item in found if item
    )


def is_expression(text: str) -> bool:
    """Tell whether a text has the form of an SPDX expression."""
    try:
        judge(text, frozenset())
    except ValueError:
        return False
    return True


def _known(text: str) -> bool:
    """Tell a licence's identifier from a word that only looks like one."""
    return judge(text, ALLOWED_LICENCES | {"LicenseRef-NVIDIA-Proprietary"}).accepted
