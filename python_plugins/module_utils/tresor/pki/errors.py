"""The error family of the PKI package."""

from __future__ import annotations


class PkiError(Exception):
    """Base of all refusals and failures of this package. The text is meant for an operator."""


class ToolError(PkiError):
    """The openssl program failed or is missing."""


class RequestRefusedError(PkiError):
    """A signing request asks for something that the site's plan does not grant."""


class AuthorityError(PkiError):
    """The certificate authority is missing, damaged, locked with another passphrase, or expired."""


class RevocationError(PkiError):
    """What shall be revoked was never issued, or the list of revoked certificates is damaged."""


class UserCertificateError(PkiError):
    """The certificate that users shall see does not fit: key, names, chain, dates or usage."""


class InstallError(PkiError):
    """A signed certificate does not belong to the key or the authority of this host."""
