"""The service's own errors; what a client sees is ``api.errors.ApiError``."""

from __future__ import annotations


class GatewayError(Exception):
    """Base of the errors an operator sees: one line that says what is wrong and what to do."""


class ConfigError(GatewayError):
    """The configuration cannot be used."""


class KeysError(GatewayError):
    """Signing keys could not be fetched or understood."""


class AuditError(GatewayError):
    """The audit log cannot be opened or continued."""
