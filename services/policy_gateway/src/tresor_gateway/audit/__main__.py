"""``python -m tresor_gateway.audit verify FILE…`` and ``content …``."""

from __future__ import annotations

import sys

from tresor_gateway.audit.verify import main

if __name__ == "__main__":
    if sys.argv[1:2] == ["content"]:
        # Needs the gateway's libraries, which the verifier must not.
        from tresor_gateway.content import command

        sys.exit(command.main(sys.argv[2:]))
    sys.exit(main())
