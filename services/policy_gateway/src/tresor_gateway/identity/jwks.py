"""A JSON Web Key Set as verified keys: bytes in, usable signing keys or an error out."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from joserfc import jwk

from tresor_gateway.errors import KeysError

log = logging.getLogger(__name__)
MAX_JWKS_BYTES: Final = 256 << 10
MAX_KEYS: Final = 64
MIN_RSA_BITS: Final = 2048
_CURVES: Final = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


@dataclass(frozen=True)
class SigningKey:
    """A public key of the provider and what it may be used for."""

    kid: str | None
    algorithm: str | None
    key: jwk.Key
    kind: str
    curve: str | None
    thumbprint: str

    def fits(self, algorithm: str) -> bool:
        """Whether a signature with ``algorithm`` may come from this key."""
        if self.algorithm is not None and self.algorithm != algorithm:
            # Two names of one algorithm (RFC 9864); anything else is another one.
            if {self.algorithm, algorithm} != {"EdDSA", "Ed25519"}:
                return False
            return self.kind == "OKP" and self.curve == "Ed25519"
        if algorithm.startswith(("RS", "PS")):
            return self.kind == "RSA"
        if algorithm == "EdDSA":
            return self.kind == "OKP" and self.curve in ("Ed25519", "Ed448")
        if algorithm == "Ed25519":
            return self.kind == "OKP" and self.curve == "Ed25519"
        return self.kind == "EC" and self.curve == _CURVES.get(algorithm)


@dataclass(frozen=True)
class KeySet:
    """The provider's signing keys at one moment."""

    keys: tuple[SigningKey, ...]

    @property
    def fingerprint(self) -> frozenset[tuple[str | None, str]]:
        """Changes when a key comes, goes or is renamed."""
        return frozenset((key.kid, key.thumbprint) for key in self.keys)

    def find(self, kid: str | None, algorithm: str) -> SigningKey | None:
        """The one key a token's header points to; never a guess between several."""
        found = [
            key for key in self.keys if key.fits(algorithm) and (kid is None or key.kid == kid)
        ]
        return found[0] if len(found) == 1 else None


def parse(data: bytes) -> KeySet:
    """Read a JWKS document; keys that are not for signatures are left out.

    Raises:
        KeysError: too large, malformed, or without a usable key.
    """
    if len(data) > MAX_JWKS_BYTES:
        raise KeysError(f"JWKS is larger than {MAX_JWKS_BYTES} bytes")
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise KeysError("JWKS is not JSON") from error
    items = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(items, list) or len(items) > MAX_KEYS:
        raise KeysError(f"JWKS must be an object with a list 'keys' of at most {MAX_KEYS} keys")
    keys = tuple(key for key in (_signing_key(item) for item in items) if key is not None)
    if not keys:
        raise KeysError("JWKS holds no usable signing key (RSA >= 2048 bits, EC or OKP)")
    return KeySet(keys)


def _signing_key(item: Any) -> SigningKey | None:  # noqa: ANN401 - foreign JSON
    if not isinstance(item, dict) or item.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    operations = item.get("key_ops", ["verify"])
    verifies = isinstance(operations, list) and "verify" in operations
    if item.get("use", "sig") != "sig" or not verifies:
        return None
    kid, algorithm = item.get("kid"), item.get("alg")
    if not isinstance(kid, (str, type(None))) or not isinstance(algorithm, (str, type(None))):
        return None
    # Only the public members are taken, whatever else the document holds.
    public = {name: item[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in item}
    try:
        key = jwk.import_key(public)
        raw = key.get_op_key("verify")
        if isinstance(raw, RSAPublicKey) and raw.key_size < MIN_RSA_BITS:
            return None
        thumbprint = key.thumbprint()
    except Exception:
        # Whatever a library stumbles over in one key must not cost us the others.
        log.warning("JWKS: a key that cannot be used is left out (kid %.64r)", kid, exc_info=True)
        return None
    return SigningKey(kid, algorithm, key, str(item["kty"]), public.get("crv"), thumbprint)
