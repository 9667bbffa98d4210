"""The authority's list of revoked certificates (CRL): make it, and say when it is due.

Needs ``cryptography``; runs on the bastion.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from .ledger import Revoked

# A verifier whose clock is a little behind must accept a list made now.
_BACKDATE = dt.timedelta(minutes=5)


def signed(
    certificate: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    revoked: Sequence[Revoked],
    number: int,
    lifetime: dt.timedelta,
) -> str:
    """Return the list in PEM. Certificates that ended a day ago and more are left out."""
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    entries = [entry for entry in revoked if listed_until(entry) > now]
    issuer_key = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(certificate.subject)
        .last_update(now - _BACKDATE)
        .next_update(min(now + lifetime, certificate.not_valid_after_utc))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key),
            critical=False,
        )
    )
    for entry in entries:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(int(entry.serial, 16))
            .revocation_date(dt.datetime.fromisoformat(entry.revoked))
            .build()
        )
    return builder.sign(key, hashes.SHA384()).public_bytes(serialization.Encoding.PEM).decode()


def listed_until(entry: Revoked) -> dt.datetime:
    """Return when the entry may leave the list: a day after its certificate's own end."""
    return dt.datetime.fromisoformat(entry.not_after) + dt.timedelta(days=1)


def read(path: Path) -> x509.CertificateRevocationList | None:
    """Return the list, None when there is none or it cannot be read (then it is made anew)."""
    try:
        return x509.load_pem_x509_crl(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def number_of(path: Path) -> int:
    """Return the list's number, 0 when there is none."""
    found = read(path)
    if found is None:
        return 0
    return int(found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)


def due(
    path: Path,
    certificate: x509.Certificate,
    wanted: set[str],
    now: dt.datetime,
    lifetime: dt.timedelta,
) -> str | None:
    """Say why the list must be written anew, None while it is good.

    It is renewed when half of ``lifetime`` is over: verifiers refuse everybody once it has ended.
    ``wanted`` are the serials, in hex, that must be on it.
    """
    found = read(path)
    if found is None:
        return "there is none yet, or it cannot be read"
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not found.is_signature_valid(key):
        return "it was signed by another authority"
    end = found.next_update_utc
    if end is None:
        return "it has no end"
    # An authority about to end bounds every list; writing it again would not help.
    if end - now <= lifetime / 2 and end < certificate.not_valid_after_utc:
        return f"it ends {end:%Y-%m-%d %H:%M} UTC"
    listed = {f"{entry.serial_number:x}" for entry in found}
    if wanted - listed:
        return "it lacks revoked certificates"
    return None
