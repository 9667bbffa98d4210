"""The certificate authority of a site: make it once, sign what the policy approves.

Runs on the bastion, in the environment that has the ``cryptography`` library.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from . import files, ledger, revocation
from .errors import AuthorityError, RequestRefusedError, RevocationError
from .names import Identity
from .place import Place
from .policy import Approved, approve

# Hosts whose clock is a little behind must accept a certificate made now.
_BACKDATE = dt.timedelta(minutes=5)
_CURVES: dict[str, type[ec.EllipticCurve]] = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1}
_USAGE_OIDS = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
}
CURVES = tuple(_CURVES)


@dataclass(frozen=True)
class Request:
    """One signing request of a host, with the identity that the plan grants it."""

    name: str
    csr: str
    granted: Identity


@dataclass(frozen=True)
class Signed:
    """One issued certificate."""

    name: str
    certificate: str
    serial: str
    not_after: str


class Authority:
    """An opened authority: its key is decrypted in memory."""

    def __init__(
        self, place: Place, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
    ) -> None:
        self._place = place
        self._key = key
        self._certificate = certificate

    @property
    def not_after(self) -> dt.datetime:
        """The end of the authority's own certificate, UTC."""
        return self._certificate.not_valid_after_utc

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the authority's certificate (DER), hex."""
        return self._certificate.fingerprint(hashes.SHA256()).hex()

    def sign(self, host: str, requests: Sequence[Request], lifetime: dt.timedelta) -> list[Signed]:
        """Sign all requests of one host, or none.

        Raises:
            RequestRefusedError: a request asks for more than it was granted.
            AuthorityError: the authority ends before the new certificates would.
        """
        now = dt.datetime.now(dt.UTC).replace(microsecond=0)
        end = now + lifetime
        if end > self.not_after:
            raise AuthorityError(
                f"the authority ends on {self.not_after:%Y-%m-%d}, before a certificate of "
                f"{lifetime} would. Renew the authority (docs/runbooks/certificates.md)."
            )
        approved = []
        for request in requests:
            try:
                approved.append((request, approve(request.csr, request.granted)))
            except RequestRefusedError as error:
                raise RequestRefusedError(
                    f"request '{request.name}' of host '{host}' is refused: {error}"
                ) from error
        with ledger.locked(self._place.directory):
            return [
                self._issue(host, request.name, self._build(content, now - _BACKDATE, end))
                for request, content in approved
            ]

    def crl_due(self, lifetime: dt.timedelta) -> str | None:
        """Say why the list of revoked certificates must be written anew, None while it is good."""
        now = dt.datetime.now(dt.UTC)
        wanted = {
            entry.serial
            for entry in ledger.revocations(self._place.revocations)
            if revocation.listed_until(entry) > now
        }
        return revocation.due(self._place.crl, self._certificate, wanted, now, lifetime)

    def write_crl(self, lifetime: dt.timedelta) -> None:
        """Sign and write the list of revoked certificates; it is good for ``lifetime``."""
        with ledger.locked(self._place.directory):
            self._write_crl(lifetime)

    def revoke(
        self, hosts: Sequence[str], serials: Sequence[str], reason: str, lifetime: dt.timedelta
    ) -> list[str]:
        """Revoke by host and by serial; return the serials that were not revoked before.

        A host stands for all its certificates that have not ended. The list is written anew.

        Raises:
            RevocationError: an unknown host or serial: a typing error must not pass for done.
        """
        with ledger.locked(self._place.directory):
            now = dt.datetime.now(dt.UTC).replace(microsecond=0)
            new = self._to_revoke(hosts, serials)
            for entry in new:
                ledger.append(
                    self._place.revocations,
                    ledger.Revoked(entry.serial, now.isoformat(), entry.not_after, reason),
                )
            if new:
                self._write_crl(lifetime)
        return [entry.serial for entry in new]

    def would_revoke(self, hosts: Sequence[str], serials: Sequence[str]) -> list[str]:
        """Return what :meth:`revoke` would return, and change nothing."""
        return [entry.serial for entry in self._to_revoke(hosts, serials)]

    def _to_revoke(self, hosts: Sequence[str], serials: Sequence[str]) -> list[ledger.Issued]:
        book = ledger.entries(self._place.book)
        now = dt.datetime.now(dt.UTC)
        chosen = _chosen(book, hosts, [serial.lower() for serial in serials], now)
        known = {entry.serial for entry in ledger.revocations(self._place.revocations)}
        return [entry for entry in chosen if entry.serial not in known]

    def _write_crl(self, lifetime: dt.timedelta) -> None:
        revoked = ledger.revocations(self._place.revocations)
        number = revocation.number_of(self._place.crl) + 1
        pem = revocation.signed(self._certificate, self._key, revoked, number, lifetime)
        files.write(self._place.crl, pem, 0o644)

    def _issue(self, host: str, purpose: str, certificate: x509.Certificate) -> Signed:
        pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        serial = f"{certificate.serial_number:x}"
        # The book first: a certificate that left without an entry could not be found again.
        ledger.append(
            self._place.book,
            ledger.Issued(
                serial=serial,
                host=host,
                purpose=purpose,
                subject=certificate.subject.rfc4514_string(),
                not_before=certificate.not_valid_before_utc.isoformat(),
                not_after=certificate.not_valid_after_utc.isoformat(),
                fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
            ),
        )
        self._place.issued.mkdir(mode=0o700, exist_ok=True)
        files.write(self._place.issued / f"{serial}.crt", pem, 0o600)
        return Signed(purpose, pem, serial, certificate.not_valid_after_utc.isoformat())

    def _build(self, content: Approved, start: dt.datetime, end: dt.datetime) -> x509.Certificate:
        identity = content.identity
        alternative: list[x509.GeneralName] = [
            *(x509.DNSName(name) for name in sorted(identity.names)),
            *(x509.IPAddress(ipaddress.ip_address(a)) for a in sorted(identity.addresses)),
        ]
        issuer_key = self._certificate.extensions.get_extension_for_class(
            x509.SubjectKeyIdentifier
        ).value
        return (
            x509.CertificateBuilder()
            .subject_name(content.subject)
            .issuer_name(self._certificate.subject)
            .public_key(content.key)
            .serial_number(_serial())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_leaf_usage(), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([_USAGE_OIDS[u] for u in sorted(identity.usages)]),
                critical=False,
            )
            .add_extension(x509.SubjectAlternativeName(alternative), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(content.key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key),
                critical=False,
            )
            .sign(self._key, hashes.SHA384())
        )


def create(place: Place, common_name: str, curve: str, lifetime: dt.timedelta) -> None:
    """Make passphrase (if none was supplied), key and certificate of a new authority.

    Raises:
        AuthorityError: an authority, or a part of one, is there already.
    """
    place.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ledger.locked(place.directory):
        if place.key.exists() or place.certificate.exists():
            raise AuthorityError(f"{place.directory} already holds parts of an authority")
        if not place.passphrase_file.is_file():
            files.write(place.passphrase_file, secrets.token_urlsafe(48) + "\n", 0o400)
        key = ec.generate_private_key(_CURVES[curve]())
        certificate = _self_signed(key, common_name, lifetime)
        encrypted = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(_passphrase(place)),
        )
        files.write(place.key, encrypted.decode(), 0o400)
        # Last: the certificate is what makes the authority exist.
        files.write(
            place.certificate, certificate.public_bytes(serialization.Encoding.PEM).decode(), 0o644
        )


def open_authority(place: Place) -> Authority:
    """Decrypt the key and check that it fits the certificate.

    Raises:
        AuthorityError: parts are missing or readable for others, the passphrase is wrong, or key
            and certificate do not belong together.
    """
    if missing := place.missing():
        raise AuthorityError(
            f"the authority lacks {', '.join(map(str, missing))}. Restore it from the backup, or "
            "run the converge stage to make a new one where none existed."
        )
    for path in (place.key, place.passphrase_file):
        if path.stat().st_mode & 0o077:
            raise AuthorityError(f"{path} is open to others than its owner; chmod 0400 {path}")
    certificate = x509.load_pem_x509_certificate(place.certificate.read_bytes())
    try:
        key = serialization.load_pem_private_key(place.key.read_bytes(), _passphrase(place))
    except (ValueError, TypeError) as error:
        raise AuthorityError(
            f"{place.key} does not open with {place.passphrase_file}: {error}"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != (
        certificate.public_key()
    ):
        raise AuthorityError(f"{place.key} is not the key of {place.certificate}")
    return Authority(place, key, certificate)


def _chosen(
    book: Sequence[ledger.Issued], hosts: Sequence[str], serials: Sequence[str], now: dt.datetime
) -> list[ledger.Issued]:
    unknown = sorted(set(hosts) - {entry.host for entry in book})
    unknown += sorted(set(serials) - {entry.serial for entry in book})
    if unknown:
        raise RevocationError(
            f"{', '.join(unknown)}: this authority never issued a certificate to such a host or "
            "with such a serial; its book is issued.jsonl"
        )
    return [
        entry
        for entry in book
        if entry.serial in serials
        or (entry.host in hosts and dt.datetime.fromisoformat(entry.not_after) > now)
    ]


def _self_signed(
    key: ec.EllipticCurvePrivateKey, common_name: str, lifetime: dt.timedelta
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(_serial())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_authority_usage(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA384())
    )


def _serial() -> int:
    # 127 random bits with the top one set: positive, of one length, and not to be guessed.
    return secrets.randbits(126) | (1 << 126)


def _leaf_usage() -> x509.KeyUsage:
    return _key_usage(digital_signature=True)


def _authority_usage() -> x509.KeyUsage:
    return _key_usage(key_cert_sign=True, crl_sign=True)


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _passphrase(place: Place) -> bytes:
    try:
        passphrase = place.passphrase_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise AuthorityError(f"{place.passphrase_file} cannot be read: {error}") from error
    if len(passphrase) < 16:
        raise AuthorityError(f"{place.passphrase_file} holds fewer than 16 characters")
    return passphrase.encode()
