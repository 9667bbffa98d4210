"""How often the garbage collector looks: requests leave nothing for it to find."""

from __future__ import annotations

import gc
from typing import Final

# New containers between two looks at the youngest ones; the two numbers behind it count looks.
_THRESHOLDS: Final = (20_000, 20, 20)


def settle() -> None:
    """Call once when the process is ready: what there is now stays, so nobody looks at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
