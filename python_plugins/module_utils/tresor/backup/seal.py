"""Encrypted parts: CMS AuthEnvelopedData with AES-256-GCM, made and opened by openssl alone.

A part is read whole into memory when it is opened, so a backup is a series of parts of a bounded
size. `openssl cms -decrypt` opens each without a program of ours.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .errors import SealError

PART_BYTES = 256 << 20


class SealedWriter:
    """A stream that becomes files ``part-0001.cms``, ... in a folder, for several recipients."""

    def __init__(
        self, folder: Path, recipients: Sequence[Path], part_bytes: int = PART_BYTES
    ) -> None:
        self._folder = folder
        self._recipients = [str(path) for path in recipients]
        self._part_bytes = part_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._room = 0
        self.parts: list[Path] = []

    def write(self, data: bytes) -> int:
        """Take bytes; raises SealError when openssl failed."""
        view = memoryview(data)
        while view:
            if self._process is None:
                self._open()
            taken = view[: self._room]
            self._feed(taken)
            self._room -= len(taken)
            view = view[len(taken) :]
            if self._room == 0:
                self._finish()
        return len(data)

    def close(self) -> None:
        """End the last part; raises SealError when openssl failed."""
        if self._process is not None:
            self._finish()

    def abort(self) -> None:
        """End openssl without a result; the caller removes the folder."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _open(self) -> None:
        part = self._folder / f"part-{len(self.parts) + 1:04}.cms"
        command = ["openssl", "cms", "-encrypt", "-binary", "-stream", "-aes-256-gcm"]
        command += ["-outform", "DER", "-out", str(part), *self._recipients]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self.parts.append(part)
        self._room = self._part_bytes

    def _feed(self, data: memoryview) -> None:
        process = self._process
        if process is None or process.stdin is None:
            raise SealError("openssl was not started")
        try:
            process.stdin.write(data)
        except BrokenPipeError:
            self._finish()

    def _finish(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        _, said = process.communicate()
        if process.returncode != 0:
            raise SealError(
                f"openssl could not encrypt {self.parts[-1].name} for the recipients "
                f"{', '.join(self._recipients)}: {said.decode(errors='replace').strip()[-400:]}"
            )


def unseal(part: Path, key: Path, passphrase_file: Path | None, target: Path) -> None:
    """Decrypt one part into the file ``target``, which is removed again when that fails.

    Raises:
        SealError: the key is no recipient's, or the part is damaged.
    """
    command = ["openssl", "cms", "-decrypt", "-binary", "-inform", "DER", "-in", str(part)]
    command += ["-inkey", str(key), "-out", str(target)]
    if passphrase_file is not None:
        command += ["-passin", f"file:{passphrase_file}"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        target.unlink(missing_ok=True)
        raise SealError(
            f"{part.name} does not open with {key}: it is damaged, or this is no recipient's key "
            f"({done.stderr.strip()[-300:]})"
        )


def check_recipient(path: Path) -> str:
    """Return the subject of a recipient's certificate.

    Raises:
        SealError: no certificate, one that has ended, or a private key in the file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SealError(f"recipient {path}: cannot be read: {error}") from error
    if "PRIVATE KEY" in text:
        raise SealError(
            f"recipient {path}: holds a private key, which must never be on the bastion; put the "
            "certificate alone there"
        )
    done = subprocess.run(
        ["openssl", "x509", "-in", str(path), "-noout", "-subject", "-checkend", "0"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        reason = (done.stderr or done.stdout).strip().splitlines()
        raise SealError(f"recipient {path}: no certificate that is valid now: {reason[-1:]}")
    return done.stdout.splitlines()[0].removeprefix("subject=").strip()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
