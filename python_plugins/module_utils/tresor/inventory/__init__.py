"""The site's inventory as data: read, validated and cross-checked before a host is touched."""

from __future__ import annotations
