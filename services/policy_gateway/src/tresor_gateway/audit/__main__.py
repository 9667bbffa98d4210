"""``python -m tresor_gateway.audit verify FILE…``."""

from __future__ import annotations

import sys

from tresor_gateway.audit.verify import main

if __name__ == "__main__":
    sys.exit(main())
