"""The host firewall: rendering, comparing and applying. Standard library only: runs on hosts."""

from __future__ import annotations
