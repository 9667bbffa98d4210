"""Traces for a collector of the site: off unless configured, and never a person or a prompt."""
