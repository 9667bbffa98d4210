"""Site key, data keys, and what is sealed with them: bytes in, bytes out.

Source of the shapes: NIST SP 800-38D (AES-GCM), RFC 5869 (HKDF). A data key seals at most a day of
one subject, so random 96-bit nonces stay far below their bound of 2^32 messages.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from dataclasses import dataclass, field
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tresor_gateway.errors import GatewayError

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_WRAP: Final = b"tresor content wrap 1"
_SEAL: Final = b"tresor content seal 1"


class ContentError(GatewayError):
    """Content cannot be kept, read or destroyed; says what is in the way."""


@dataclass(frozen=True)
class Owner:
    """Whose content of which day (UTC, ``YYYY-MM-DD``); ``subject`` is the pseudonym."""

    day: str
    subject: str

    def bound(self, *more: str) -> bytes:
        """Associated data: what a ciphertext must not be separated from."""
        return msgspec.json.encode([self.day, self.subject, *more])


@dataclass(frozen=True)
class DataKey:
    """The key of one subject and day; ``id`` says which one sealed something."""

    id: bytes
    _cipher: AESGCM = field(repr=False)

    def seal(self, owner: Owner, record: str, text: bytes) -> bytes:
        """Nonce, ciphertext and tag, bound to owner and record."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, text, _SEAL + owner.bound(record))

    def open(self, owner: Owner, record: str, sealed: bytes) -> bytes:
        """What was sealed.

        Raises:
            ContentError: it was changed, or belongs to another owner, record or key.
        """
        nonce, data = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, data, _SEAL + owner.bound(record))
        except (InvalidTag, ValueError) as error:
            raise ContentError(
                "the content was changed, or belongs to another record: it cannot be opened"
            ) from error


class WrappedKey(msgspec.Struct, forbid_unknown_fields=True):
    """A data key's file; ``site_key`` names the key it is wrapped with."""

    v: int
    id: str
    site_key: str
    wrapped: str


class SiteKey:
    """Wraps and unwraps data keys; made of a secret of 32 bytes or more."""

    def __init__(self, secret: bytes) -> None:
        kek = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=_WRAP).derive(secret)
        self._cipher = AESGCM(kek)
        self.id = hmac.new(secret, b"tresor content key id", hashlib.sha256).hexdigest()[:16]

    def make(self, owner: Owner) -> tuple[DataKey, bytes]:
        """A new data key, and the file it is kept in."""
        secret, key_id = os.urandom(KEY_BYTES), os.urandom(16)
        nonce = os.urandom(_NONCE_BYTES)
        wrapped = nonce + self._cipher.encrypt(nonce, secret, _WRAP + owner.bound(key_id.hex()))
        kept = WrappedKey(1, key_id.hex(), self.id, base64.b64encode(wrapped).decode())
        return DataKey(key_id, AESGCM(secret)), msgspec.json.encode(kept) + b"\n"

    def unwrap(self, owner: Owner, data: bytes) -> DataKey:
        """The data key in the bytes of its file.

        Raises:
            ContentError: it is damaged, another owner's, or wrapped with another site key.
        """
        try:
            kept = msgspec.json.decode(data, type=WrappedKey)
            wrapped = base64.b64decode(kept.wrapped, validate=True)
            key_id = bytes.fromhex(kept.id)
        except (ValueError, msgspec.DecodeError) as error:
            raise ContentError(
                f"the data key of {owner.subject} on {owner.day} is damaged"
            ) from error
        if kept.site_key != self.id:
            raise ContentError(
                f"the data key of {owner.subject} on {owner.day} is wrapped with the site key "
                f"{kept.site_key}, and this is {self.id}; name the key file of that time"
            )
        try:
            secret = self._cipher.decrypt(
                wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], _WRAP + owner.bound(kept.id)
            )
        except (InvalidTag, ValueError) as error:
            raise ContentError(
                f"the data key of {owner.subject} on {owner.day} was changed or belongs to another"
            ) from error
        return DataKey(key_id, AESGCM(secret))
