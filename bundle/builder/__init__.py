"""Connected side of Tresor: spec -> lock -> fetch -> bundle."""

from __future__ import annotations

import sys
from pathlib import Path

# The trust core (tresor.bundle) lies where Ansible looks for it; here it is imported by its name.
_MODULE_UTILS = str(Path(__file__).resolve().parents[2] / "python_plugins/module_utils")
if _MODULE_UTILS not in sys.path:
    sys.path.insert(0, _MODULE_UTILS)
