"""Keys of people in TUF roles: OpenSSH signatures (``ssh-keygen -Y``), hardware keys included.

One format for software keys, FIDO2 keys (touch) and PKCS#11 tokens (through ``ssh-agent``).
``ssh-keygen`` does the cryptography; this module gives it exactly one allowed key and one
namespace, and looks into the signature for what ``ssh-keygen`` does not ask: a FIDO2 key must
have been touched. (``ssh-keygen -Y check-novalidate`` would call *any* key's signature good.)
"""

from __future__ import annotations

import hashlib
import struct
import tempfile
from pathlib import Path
from typing import Any

from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import KEY_FOR_TYPE_AND_SCHEME, Key, Signature

from .errors import EnvironmentNotReadyError, RejectedError, UsageError
from .openssh import (
    PublicKey,
    armour,
    parse_public,
    read_public,
    ssh_keygen,
    take_string,
    unarmour,
)

KEYTYPE = "ssh"
SCHEME = "tresor-release"
"""Scheme of such keys in TUF metadata, and the namespace of their signatures: an approval at a
site (namespace ``tresor-approve``) or a signed mail is never a signature of metadata."""

_MAGIC = b"SSHSIG"
_USER_PRESENT = 0x01
_MOST_KEPT = 1_000
_GOOD: dict[bytes, str] = {}  # digest of signature and data -> the key they were good for


class SshKey(Key):  # type: ignore[misc]
    """An OpenSSH key in TUF metadata: ``keyval.public`` is ``type base64``."""

    @classmethod
    def from_dict(cls, keyid: str, key_dict: dict[str, Any]) -> SshKey:
        """Read the key; see :class:`securesystemslib.signer.Key`."""
        keytype, scheme, keyval = cls._from_dict(key_dict)
        try:
            public = parse_public(keyval["public"])
        except UsageError as error:
            raise ValueError(str(error)) from error
        if public.text != keyval["public"] or set(keyval) != {"public"} or public.keyid != keyid:
            raise ValueError("SSH key is not in its one form, or its id is not its digest")
        return cls(keyid, keytype, scheme, keyval, key_dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the key for metadata."""
        found: dict[str, Any] = self._to_dict()
        return found

    def verify_signature(self, signature: Signature, data: bytes) -> None:
        """Check a signature; raises securesystemslib's errors."""
        blob = bytes.fromhex(signature.signature)
        # A signature is asked for several times on the way; the answer for the same bytes stays.
        seen = hashlib.sha256(b"%d %d " % (len(blob), len(data)) + blob + data).digest()
        if _GOOD.get(seen) == self.keyval["public"]:
            return
        try:
            check(parse_public(self.keyval["public"]), blob, data)
        except RejectedError as error:
            raise UnverifiedSignatureError(str(error)) from error
        except EnvironmentNotReadyError as error:
            raise VerificationError(str(error)) from error
        if len(_GOOD) < _MOST_KEPT:
            _GOOD[seen] = self.keyval["public"]


KEY_FOR_TYPE_AND_SCHEME[(KEYTYPE, SCHEME)] = SshKey


def forget() -> None:
    """Drop the answers that were kept; the next verification asks ``ssh-keygen`` again."""
    _GOOD.clear()


def check(public: PublicKey, blob: bytes, data: bytes) -> None:
    """Check a raw signature over ``data``, made in the namespace of metadata.

    Raises:
        RejectedError: rules ``signature.invalid``, ``signature.touch``.
        EnvironmentNotReadyError: ``ssh-keygen`` is not there or gave no answer.
    """
    _look_inside(public, blob)
    with tempfile.TemporaryDirectory(prefix="tresor-verify-") as folder:
        allowed, signature = Path(folder) / "allowed", Path(folder) / "signature"
        allowed.write_text(f'key namespaces="{SCHEME}" {public.text}\n', encoding="ascii")
        signature.write_text(armour(blob), encoding="ascii")
        arguments = ["-Y", "verify", "-f", str(allowed), "-I", "key", "-n", SCHEME]
        done = ssh_keygen([*arguments, "-s", str(signature)], data)
    if done.returncode != 0:
        raise RejectedError("signature.invalid", "OpenSSH signature is not valid")


def sign(key: Path, data: bytes) -> bytes:
    """Sign with a private key file, a FIDO2 handle, or (given a ``.pub``) a key of the agent.

    Returns:
        The raw signature.

    Raises:
        UsageError: rule ``signature.key-file``: no such key, wrong passphrase, not touched.
    """
    public = read_public(key)
    with tempfile.TemporaryDirectory(prefix="tresor-sign-") as folder:
        message = Path(folder) / "message"
        message.write_bytes(data)
        done = ssh_keygen(["-Y", "sign", "-q", "-f", str(key), "-n", SCHEME, str(message)])
        if done.returncode != 0:
            reason = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason"]
            raise UsageError("signature.key-file", f"cannot sign: {reason[-1]}", str(key))
        blob = unarmour(message.with_name("message.sig").read_text(encoding="ascii"))
    check(public, blob, data)
    return blob


def _look_inside(public: PublicKey, blob: bytes) -> None:
    """Refuse what is not exactly one signature of this key, or was made without a touch."""
    try:
        if blob[:6] != _MAGIC or struct.unpack(">I", blob[6:10])[0] != 1:
            raise ValueError("magic")
        key, rest = take_string(blob[10:])
        namespace, rest = take_string(rest)
        reserved, rest = take_string(rest)
        _, rest = take_string(rest)  # the hash's name is part of what is signed
        signature, rest = take_string(rest)
        if rest or reserved or key != public.blob or namespace != SCHEME.encode():
            raise ValueError("fields")
        kind, rest = take_string(signature)
        _, rest = take_string(rest)
    except (ValueError, struct.error) as error:
        raise RejectedError("signature.invalid", "OpenSSH signature is malformed") from error
    if public.in_hardware and (len(rest) != 5 or not rest[0] & _USER_PRESENT):
        raise RejectedError("signature.touch", "the hardware key was not touched for this")
    if not public.in_hardware and rest:
        raise RejectedError("signature.invalid", f"bytes after the {kind!r} signature")
