"""A FIDO2 device in software: makes the signatures of ``ed25519-sk`` keys, touched or not."""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KIND = b"sk-ssh-ed25519@openssh.com"
APPLICATION = b"ssh:tresor"


def _string(raw: bytes) -> bytes:
    return struct.pack(">I", len(raw)) + raw


@dataclass
class Device:
    """One credential of a device."""

    private: Ed25519PrivateKey
    counter: int = 7

    @classmethod
    def new(cls) -> Device:
        return cls(Ed25519PrivateKey.generate())

    def blob(self) -> bytes:
        raw = self.private.public_key().public_bytes_raw()
        return _string(KIND) + _string(raw) + _string(APPLICATION)

    def write_public(self, path: Path) -> Path:
        """Write the ``.pub`` file that ssh-keygen would have written."""
        text = f"{KIND.decode()} {base64.b64encode(self.blob()).decode()} {path.stem}\n"
        path.write_text(text)
        return path

    def sign(self, data: bytes, namespace: bytes, *, flags: int = 1) -> bytes:
        """Return a raw SSHSIG signature; ``flags`` 1 is a touch, 0 none."""
        head = _string(namespace) + _string(b"") + _string(b"sha512")
        message = b"SSHSIG" + head + _string(hashlib.sha512(data).digest())
        tail = struct.pack(">BI", flags, self.counter)
        signed = hashlib.sha256(APPLICATION).digest() + tail + hashlib.sha256(message).digest()
        signature = _string(KIND) + _string(self.private.sign(signed)) + tail
        blob = b"SSHSIG" + struct.pack(">I", 1) + _string(self.blob())
        return blob + head + _string(signature)
