"""The error family of the backup package."""

from __future__ import annotations


class BackupError(Exception):
    """Base of all failures of this package. The text is meant for an operator."""


class SourceError(BackupError):
    """Something that shall be saved cannot be read whole."""


class SealError(BackupError):
    """Encrypting or decrypting failed: recipients, key, or a damaged part."""


class RefusedError(BackupError):
    """A backup must not be restored here: damaged, foreign, of a newer format, or older."""
