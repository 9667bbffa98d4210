"""The resolved plan: everything the later stages need to know about a site, in one file."""

from __future__ import annotations
