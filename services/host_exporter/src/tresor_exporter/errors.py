"""The service's own errors: one line that says what is wrong and what to do."""

from __future__ import annotations


class ExporterError(Exception):
    """Base of the errors an operator sees."""


class ConfigError(ExporterError):
    """The configuration cannot be used."""


class CollectorError(ExporterError):
    """A source could not be read or understood; the other collectors go on."""
