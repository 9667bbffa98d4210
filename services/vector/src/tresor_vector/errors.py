"""Errors of this package. Each message names the thing, the value seen and what to do."""

from __future__ import annotations


class VectorError(Exception):
    """Something an operator can put right; the message says how."""

    exit_code = 1


class DataRefusedError(VectorError):
    """The data directory does not belong to the program that was asked to open it."""

    exit_code = 78  # EX_CONFIG: starting again cannot help


class BackupError(VectorError):
    """A backup cannot be written, or one that was read is damaged or too new."""
