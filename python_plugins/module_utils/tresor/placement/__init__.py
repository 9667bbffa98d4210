"""Where every engine of a site runs, whether it fits, and what the site needs for it.

Pure: hosts and models in, a placement or named misfits out. Whether one engine fits is asked of
`tresor.sizing`, through `predict`.
"""

from __future__ import annotations
