"""The site's own secrets: pseudonyms for the audit log and the engines' cache salt."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

from tresor_gateway import config_schema as schema
from tresor_gateway.config import secret_path
from tresor_gateway.errors import ConfigError

MIN_SECRET_BYTES = 32
MAX_SECRET_BYTES = 4096


@dataclass(frozen=True)
class SiteKeys:
    """Keyed one-way names; the same inputs give the same name for as long as the keys live."""

    _pseudonym: bytes = field(repr=False)
    _cache_salt: bytes = field(repr=False)

    def pseudonym(self, kind: str, issuer: str, value: str) -> str:
        """32 hex digits that stand for ``value``; without the key it cannot be guessed."""
        return _mac(self._pseudonym, kind, issuer, value).hexdigest()[:32]

    def cache_salt(self, issuer: str, tenant: str) -> str:
        """What separates one tenant's prefix cache from another's (vLLM's ``cache_salt``)."""
        digest = _mac(self._cache_salt, "cache-salt", issuer, tenant).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def load(config: schema.Config) -> SiteKeys:
    """Read both secrets; a single stand-alone worker without any gets random ones.

    Raises:
        ConfigError: a file is missing, unreadable or too short.
    """
    if config.keys is None:
        return SiteKeys(secrets.token_bytes(32), secrets.token_bytes(32))
    return SiteKeys(
        read_secret("keys.pseudonym_file", config.keys.pseudonym_file),
        read_secret("keys.cache_salt_file", config.keys.cache_salt_file),
    )


def read_secret(key: str, value: str) -> bytes:
    """The secret in the file that the setting ``key`` names by ``value``.

    Raises:
        ConfigError: it is missing, unreadable or too short.
    """
    path = secret_path(value)
    try:
        with path.open("rb") as stream:
            secret = stream.read(MAX_SECRET_BYTES).strip()
    except OSError as error:
        raise ConfigError(f"{key}: {path}: cannot be read: {error.strerror}") from error
    if len(secret) < MIN_SECRET_BYTES:
        raise ConfigError(
            f"{key}: {path}: holds {len(secret)} bytes; it needs {MIN_SECRET_BYTES} random ones"
        )
    return secret


def _mac(key: bytes, *parts: str) -> hmac.HMAC:
    # Each part is preceded by its length, so no two lists of parts share an input.
    message = b"".join(len(raw).to_bytes(4, "big") + raw for raw in (p.encode() for p in parts))
    return hmac.new(key, message, hashlib.sha256)
