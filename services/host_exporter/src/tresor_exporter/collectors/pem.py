"""Certificates and revocation lists: when each ends. Dates come from the openssl command."""

from __future__ import annotations

import datetime as dt
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from prometheus_client.core import GaugeMetricFamily, Metric

from tresor_exporter.errors import CollectorError
from tresor_exporter.schema import PemFiles

_MAX_BYTES: Final = 1 << 20
_MAX_BLOCKS: Final = 20
_TIMEOUT_SECONDS: Final = 10
_CRL_BYTES: Final = 16 << 20


class End(NamedTuple):
    """When something ends (Unix seconds), and the common name it is for (empty for lists)."""

    name: str
    seconds: float


def certificates(path: Path) -> list[End]:
    """Return the certificates of a PEM file; of several with one name the one that ends first.

    Raises:
        CollectorError: no certificate, or one that openssl cannot read.
    """
    ends: dict[str, float] = {}
    for block in _blocks(path, _read(path, _MAX_BYTES), b"CERTIFICATE"):
        text = _openssl(
            path,
            block,
            "x509",
            "-noout",
            "-enddate",
            "-subject",
            "-nameopt",
            "multiline,utf8,-esc_msb",
        )
        found = re.search(r"^ *commonName *= (.*)$", text, re.MULTILINE)
        name = found[1] if found else ""
        end = _date(path, text, "notAfter")
        ends[name] = min(end, ends.get(name, end))
    return [End(name, seconds) for name, seconds in ends.items()]


def revocation_lists(path: Path) -> list[End]:
    """Return the list of a file that ends first.

    Raises:
        CollectorError: no list, one without an end, or one that openssl cannot read.
    """
    ends = [
        _date(path, _openssl(path, block, "crl", "-noout", "-nextupdate"), "nextUpdate")
        for block in _blocks(path, _read(path, _CRL_BYTES), b"X509 CRL")
    ]
    return [End("", min(ends))]


class _PemCollector:
    """Asks openssl only when a file changed."""

    def __init__(self, config: PemFiles, read: Callable[[Path], list[End]]) -> None:
        self._paths = config.paths
        self._read = read
        self._known: dict[Path, tuple[tuple[int, int, int], list[End]]] = {}

    def ends(self) -> tuple[list[tuple[Path, End]], list[str]]:
        """Return what is known, and one message for each file that could not be read."""
        found: list[tuple[Path, End]] = []
        problems: list[str] = []
        for path in self._paths:
            try:
                found += [(path, end) for end in self._ends(path)]
            except OSError as error:
                problems.append(f"{path}: {error.strerror}")
            except CollectorError as error:
                problems.append(str(error))
        return found, problems

    def _ends(self, path: Path) -> list[End]:
        status = path.stat()
        identity = (status.st_ino, status.st_mtime_ns, status.st_size)
        known = self._known.get(path)
        if known is None or known[0] != identity:
            known = self._known[path] = (identity, self._read(path))
        return known[1]


class CertificateCollector:
    """``tresor_certificate_not_after_timestamp_seconds``."""

    name = "certificates"

    def __init__(self, config: PemFiles) -> None:
        self._files = _PemCollector(config, certificates)

    def collect(self) -> Iterator[Metric]:
        """Yield the ends of all readable certificates, then complain about the others."""
        found, problems = self._files.ends()
        family = GaugeMetricFamily(
            "tresor_certificate_not_after_timestamp_seconds",
            "End of a certificate's life",
            labels=["path", "name"],
        )
        for path, end in found:
            family.add_metric([str(path), end.name], end.seconds)
        yield family
        if problems:
            raise CollectorError("; ".join(problems))


class CrlCollector:
    """``tresor_crl_next_update_timestamp_seconds``."""

    name = "crls"

    def __init__(self, config: PemFiles) -> None:
        self._files = _PemCollector(config, revocation_lists)

    def collect(self) -> Iterator[Metric]:
        """Yield the ends of all readable lists, then complain about the others."""
        found, problems = self._files.ends()
        family = GaugeMetricFamily(
            "tresor_crl_next_update_timestamp_seconds",
            "When a revocation list must have been replaced",
            labels=["path"],
        )
        for path, end in found:
            family.add_metric([str(path)], end.seconds)
        yield family
        if problems:
            raise CollectorError("; ".join(problems))


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as stream:
        raw = stream.read(limit + 1)
    if len(raw) > limit:
        raise CollectorError(f"{path}: larger than {limit} bytes")
    return raw


def _blocks(path: Path, raw: bytes, kind: bytes) -> list[bytes]:
    pattern = b"-----BEGIN %b-----\n.+?\n-----END %b-----" % (kind, kind)
    blocks = re.findall(pattern, raw.replace(b"\r\n", b"\n"), re.DOTALL)
    if not blocks or len(blocks) > _MAX_BLOCKS:
        raise CollectorError(
            f"{path}: holds {len(blocks)} PEM blocks {kind.decode()}, "
            f"expected are 1 to {_MAX_BLOCKS}"
        )
    return blocks


def _openssl(path: Path, block: bytes, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["openssl", *arguments],
            input=block,
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CollectorError(f"{path}: openssl could not be run: {error}") from error
    if done.returncode != 0:
        shown = done.stderr.decode(errors="replace").strip().splitlines()
        raise CollectorError(f"{path}: openssl: {shown[0] if shown else 'failed'}")
    return done.stdout.decode("utf-8", "replace")


def _date(path: Path, text: str, key: str) -> float:
    found = re.search(rf"^{key}=(.+)$", text, re.MULTILINE)
    if found is None:
        raise CollectorError(f"{path}: openssl tells no {key}")
    try:
        date = dt.datetime.strptime(found[1].strip(), "%b %d %H:%M:%S %Y GMT")
    except ValueError as error:
        raise CollectorError(f"{path}: {key} is {found[1]!r}, which is no date") from error
    return date.replace(tzinfo=dt.UTC).timestamp()
