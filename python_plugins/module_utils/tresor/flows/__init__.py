"""The flow matrix at work: firewall rules, probes and the page for people."""

from __future__ import annotations
