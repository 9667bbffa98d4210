"""Entry point: this directory is run as a program, ``python3 -I <directory> CONFIG``."""

from __future__ import annotations

import sys

from tresor_engine_watchdog.program import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
