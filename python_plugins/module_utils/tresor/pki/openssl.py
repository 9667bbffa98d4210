"""The openssl command as this package uses it (hosts have no Python cryptography library)."""

from __future__ import annotations

import datetime as dt
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import PkiError, ToolError
from .names import Identity, address, host_name

_TIMEOUT_S = 60
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----\n.+?\n-----END CERTIFICATE-----\n?", re.DOTALL)
_USAGE_NAMES = {
    "TLS Web Server Authentication": "server",
    "TLS Web Client Authentication": "client",
}


@dataclass(frozen=True)
class Certificate:
    """The fields of a certificate that decide whether it is still the right one."""

    identity: Identity
    serial: str
    not_after: dt.datetime
    fingerprint: str
    public_key: str


def generate_key() -> str:
    """Return a fresh P-256 private key in PEM (PKCS#8, unencrypted).

    Raises:
        ToolError: openssl failed.
    """
    return _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")


def public_key_of(key: Path) -> str:
    """Return the public key of the private key file in PEM.

    Raises:
        ToolError: the file holds no private key.
    """
    return _openssl("pkey", "-in", str(key), "-pubout")


def signing_request(key: Path, common_name: str, wanted: Identity) -> str:
    """Return a signing request in PEM for ``key``.

    Raises:
        ToolError: openssl failed.
    """
    entries = [f"DNS:{name}" for name in sorted(wanted.names)]
    entries += [f"IP:{value}" for value in sorted(wanted.addresses)]
    config = (
        "[req]\ndistinguished_name=dn\nreq_extensions=ext\nprompt=no\n"
        f"[dn]\nCN={common_name}\n"
        f"[ext]\nsubjectAltName={','.join(entries)}\n"
    )
    with _scratch(config) as path:
        return _openssl("req", "-new", "-sha256", "-key", str(key), "-config", str(path))


def read_certificate(pem: str) -> Certificate:
    """Return the fields of the first certificate in ``pem``.

    Raises:
        ToolError: not a certificate, or one without the extensions that the site's CA writes.
    """
    text = _openssl(
        "x509",
        "-noout",
        "-serial",
        "-enddate",
        "-dateopt",
        "iso_8601",
        "-fingerprint",
        "-sha256",
        "-ext",
        "subjectAltName,extendedKeyUsage",
        "-pubkey",
        stdin=pem,
    )
    try:
        return _parse(text)
    except (AttributeError, ValueError, KeyError, PkiError) as error:
        raise ToolError(
            f"a certificate lacks a field that the site's CA writes: {error}"
        ) from error


def verify(pem: str, ca: Path) -> str | None:
    """Check that ``ca`` issued the certificate; return None or openssl's reason against it."""
    with _scratch(pem) as path:
        command = ["openssl", "verify", "-no-CApath", "-no-CAstore", "-x509_strict"]
        done = _run([*command, "-CAfile", str(ca), str(path)], None)
    if done.returncode == 0:
        return None
    return (done.stderr or done.stdout).strip().replace(str(path), "certificate")


def revoked_serials(pem: str) -> frozenset[str]:
    """Return the serials, in lower-case hex, on a list of revoked certificates in PEM.

    Raises:
        ToolError: not such a list.
    """
    text = _openssl("crl", "-noout", "-text", stdin=pem)
    return frozenset(
        serial.lower().lstrip("0") for serial in re.findall(r"Serial Number: ([0-9A-F]+)", text)
    )


def next_update(pem: str) -> dt.datetime:
    """Return when a list of revoked certificates in PEM ends.

    Raises:
        ToolError: not such a list, or one without an end.
    """
    text = _openssl("crl", "-noout", "-nextupdate", "-dateopt", "iso_8601", stdin=pem)
    try:
        return _time(_field(text, r"^nextUpdate=(.+)$"))
    except ValueError as error:
        raise ToolError(f"a list of revoked certificates has no end: {text.strip()}") from error


@dataclass(frozen=True)
class Described:
    """What decides whether a foreign certificate may be used. ``None``: no such extension."""

    serial: str
    not_before: dt.datetime
    not_after: dt.datetime
    public_key: str
    is_authority: bool
    usages: frozenset[str] | None
    key_usages: frozenset[str] | None


def describe(pem: str) -> Described:
    """Return the fields of any authority's certificate.

    Raises:
        ToolError: not a certificate.
    """
    text = _openssl(
        "x509", "-noout", "-serial", "-dates", "-dateopt", "iso_8601", "-pubkey", "-text",
        "-certopt", "no_pubkey,no_sigdump,no_header", stdin=pem,
    )  # fmt: skip
    public = re.search(r"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----\n", text, re.DOTALL)
    extended = _extension(text, "X509v3 Extended Key Usage")
    return Described(
        serial=_field(text, r"^serial=(\w+)$").lower(),
        not_before=_time(_field(text, r"^notBefore=(.+)$")),
        not_after=_time(_field(text, r"^notAfter=(.+)$")),
        public_key=public[0] if public else "",
        is_authority="CA:TRUE" in (_extension(text, "X509v3 Basic Constraints") or ()),
        usages=None if extended is None else frozenset(_USAGE_NAMES.get(e, e) for e in extended),
        key_usages=_extension(text, "X509v3 Key Usage"),
    )


def verify_server(leaf: Path, others: Sequence[str], ca: Path, name: str) -> str | None:
    """Check a server's certificate against one root; return None or openssl's reason against it.

    Dates are judged elsewhere, with a better message.
    """
    command = ["openssl", "verify", "-no-CApath", "-no-CAstore", "-no_check_time"]
    command += ["-purpose", "sslserver", "-verify_hostname", name, "-CAfile", str(ca), *others]
    done = _run([*command, str(leaf)], None)
    if done.returncode == 0:
        return None
    return " ".join((done.stderr or done.stdout).replace(str(leaf), "certificate").split())[-400:]


def request_names(pem: str) -> frozenset[str]:
    """Return the host names that a signing request asks for.

    Raises:
        ToolError: not a signing request.
    """
    text = _openssl("req", "-noout", "-text", stdin=pem)
    return frozenset(re.findall(r"DNS:([^,\s]+)", text))


def certificates(text: str) -> list[str]:
    """Return every certificate block of ``text``, each with a final line end."""
    return [f"{block.rstrip()}\n" for block in _PEM.findall(text.replace("\r\n", "\n"))]


def _extension(text: str, name: str) -> frozenset[str] | None:
    found = re.search(rf"{name}:[^\n]*\n\s+([^\n]+)", text)
    return frozenset(part.strip() for part in found[1].split(",")) if found else None


def _time(value: str) -> dt.datetime:
    return dt.datetime.fromisoformat(value.replace("Z", "+00:00"))


def single_certificate(text: str) -> str:
    """Return the one certificate block of ``text``.

    Raises:
        PkiError: none or several blocks.
    """
    found = _PEM.findall(text)
    if len(found) != 1:
        raise PkiError(f"expected one PEM certificate, found {len(found)}")
    return str(found[0]).rstrip("\n") + "\n"


def _parse(text: str) -> Certificate:
    names: set[str] = set()
    addresses: set[str] = set()
    usages: set[str] = set()
    alternative = re.search(r"Subject Alternative Name:[^\n]*\n\s+(.+)", text)
    for entry in (part.strip() for part in alternative[1].split(",")) if alternative else ():
        kind, _, value = entry.partition(":")
        if kind == "DNS":
            names.add(host_name(value))
        elif kind == "IP Address":
            addresses.add(address(value))
    usage = re.search(r"Extended Key Usage:[^\n]*\n\s+(.+)", text)
    for entry in (part.strip() for part in usage[1].split(",")) if usage else ():
        usages.add(_USAGE_NAMES[entry])
    public = re.search(r"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----\n", text, re.DOTALL)
    return Certificate(
        identity=Identity(frozenset(names), frozenset(addresses), frozenset(usages)),
        serial=_field(text, r"^serial=(\w+)$").lower().lstrip("0"),
        not_after=_time(_field(text, r"^notAfter=(.+)$")),
        fingerprint=_field(text, r"(?i)^sha256 Fingerprint=(.+)$").replace(":", "").lower(),
        public_key=public[0] if public else "",
    )


def _field(text: str, pattern: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise ValueError(f"no field like {pattern}")
    return found[1].strip()


@contextmanager
def _scratch(content: str) -> Iterator[Path]:
    with tempfile.NamedTemporaryFile("w", prefix="tresor-pki-", suffix=".cnf") as file:
        file.write(content)
        file.flush()
        yield Path(file.name)


def _openssl(*arguments: str, stdin: str | None = None) -> str:
    done = _run(["openssl", *arguments], stdin)
    if done.returncode != 0:
        raise ToolError(f"openssl {arguments[0]} failed: {done.stderr.strip()[-600:]}")
    return done.stdout


def _run(command: Sequence[str], stdin: str | None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    try:
        return subprocess.run(
            list(command),
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            env=environment,
        )
    except FileNotFoundError as error:
        raise ToolError("the program openssl is not installed on this host") from error
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"openssl {command[1]} gave no answer in {_TIMEOUT_S} s") from error
