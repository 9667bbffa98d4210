"""The six stages on the lab, in order; `make demo` and the molecule scenario both call these."""

from __future__ import annotations
