"""``python -m tresor_cli`` is the same as the command ``tresor``."""

from __future__ import annotations

import sys

from tresor_cli.cli import main

sys.exit(main())
