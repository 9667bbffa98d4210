"""OpenSSH's files and its ``ssh-keygen``: public keys, armoured signatures, running the program."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .errors import EnvironmentNotReadyError, UsageError

TOUCHED = ("sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com")
_PLAIN = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
_RSA = "ssh-rsa"
_MIN_RSA_BYTES = 384  # 3072 bits
_TIMEOUT_S = 120  # time to find and touch a hardware key
_ARMOUR = re.compile(
    r"-----BEGIN SSH SIGNATURE-----\n([A-Za-z0-9+/=\n]+)-----END SSH SIGNATURE-----\n?"
)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An OpenSSH public key: its type, its bytes, and the comment that came with it."""

    kind: str
    blob: bytes
    comment: str = ""

    @property
    def text(self) -> str:
        """Return ``type base64``, the form that stands in metadata."""
        return f"{self.kind} {base64.b64encode(self.blob).decode()}"

    @property
    def fingerprint(self) -> str:
        """Return ``SHA256:...`` as ``ssh-keygen -l`` shows it."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")
        return f"SHA256:{digest}"

    @property
    def keyid(self) -> str:
        """Return the key's id in TUF metadata: the SHA-256 of its bytes, in hex."""
        return hashlib.sha256(self.blob).hexdigest()

    @property
    def in_hardware(self) -> bool:
        """Tell whether every signature needs a touch of a FIDO2 device."""
        return self.kind in TOUCHED


def parse_public(line: str, path: str = "") -> PublicKey:
    """Read one line of a ``.pub`` file.

    Raises:
        UsageError: rule ``signature.key-type``: no key, another type, RSA below 3072 bits.
    """
    words = line.strip().split(None, 2)
    try:
        kind, blob = words[0], base64.b64decode(words[1], validate=True)
        inner, rest = take_string(blob)
    except (IndexError, binascii.Error, ValueError) as error:
        raise UsageError("signature.key-type", "not an OpenSSH public key", path) from error
    if inner.decode("ascii", "replace") != kind or kind not in (*TOUCHED, *_PLAIN, _RSA):
        raise UsageError(
            "signature.key-type",
            f"key type {kind!r} is not one of {', '.join((*TOUCHED, *_PLAIN, _RSA))}",
            path,
        )
    if kind == _RSA:
        _, rest = take_string(rest)
        modulus, _ = take_string(rest)
        if len(modulus.lstrip(b"\0")) < _MIN_RSA_BYTES:
            raise UsageError("signature.key-type", "RSA key is shorter than 3072 bits", path)
    return PublicKey(kind, blob, words[2] if len(words) > 2 else "")


def read_public(path: Path) -> PublicKey:
    """Read a ``.pub`` file, or the one beside a private key.

    Raises:
        UsageError: rules ``signature.key-type``, ``signature.key-file``.
    """
    public = path if path.suffix == ".pub" else path.with_name(path.name + ".pub")
    try:
        return parse_public(public.read_text(encoding="utf-8"), str(public))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("signature.key-file", f"cannot read: {error}", str(public)) from error


def armour(blob: bytes) -> str:
    """Return a raw signature as ``ssh-keygen`` reads it."""
    text = base64.b64encode(blob).decode()
    lines = [text[start : start + 70] for start in range(0, len(text), 70)]
    return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""])


def unarmour(text: str) -> bytes:
    """Return the raw bytes of an armoured signature.

    Raises:
        UsageError: rule ``signature.form``.
    """
    match = _ARMOUR.fullmatch(text)
    if match is None:
        raise UsageError("signature.form", "not an OpenSSH signature")
    try:
        return base64.b64decode(match[1].replace("\n", ""), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UsageError("signature.form", "not an OpenSSH signature") from error


def take_string(raw: bytes) -> tuple[bytes, bytes]:
    """Split one length-prefixed string off and return it and the rest.

    Raises:
        ValueError: the bytes end before it does.
    """
    if len(raw) < 4:
        raise ValueError("short")
    length = struct.unpack(">I", raw[:4])[0]
    if length > len(raw) - 4:
        raise ValueError("short")
    return raw[4 : 4 + length], raw[4 + length :]


def ssh_keygen(
    arguments: list[str], stdin: bytes = b"", *, timeout_s: int = _TIMEOUT_S
) -> subprocess.CompletedProcess[bytes]:
    """Run ``ssh-keygen`` and return what it said.

    Raises:
        EnvironmentNotReadyError: it is not installed, or gave no answer in time.
    """
    program = shutil.which("ssh-keygen")
    if program is None:
        raise EnvironmentNotReadyError(
            "environment.ssh-keygen", "ssh-keygen is not installed (package openssh-client)"
        )
    try:
        return subprocess.run(
            [program, *arguments], input=stdin, capture_output=True, check=False, timeout=timeout_s
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentNotReadyError(
            "environment.ssh-keygen", f"no answer in {timeout_s} s (hardware key not touched?)"
        ) from error
