"""Run ClamAV over contents and write the report that the gate ``malware`` judges.

The rim of the package: the only module here that starts a program. Signatures come from a folder (a
part of the bundle, or the company's own copy), never from the network.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from ..bundle.errors import EnvironmentNotReadyError

ABOUT = "signatures.json"
"""Date (UTC) of signature files that carry none themselves: ``{"date": …}``; beside them."""
_PROGRAM = "clamscan"
_TIMEOUT_S = 6 * 3600
_MAX_FILE = "2000M"  # the engine's own limit is 2 GiB - 1; what exceeds it is reported, not skipped
_LINE = re.compile(r"(?P<path>.+?): (?:(?P<what>.+) )?(?P<kind>FOUND|ERROR|OK|Empty file)")
_LIMIT = "Heuristics.Limits.Exceeded"
# The industry's harmless test file, in two halves so that no scanner takes this file for it.
_TEST_FILE = (r"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*").encode()


def scan(contents: Mapping[str, Path], signatures: Path, program: str = _PROGRAM) -> bytes:
    """Return ``malware-scan.json`` over the contents.

    Args:
        contents: file by SHA-256.
        signatures: folder of signature files.
        program: the scanner.

    Raises:
        EnvironmentNotReadyError: ``environment.scanner``: no scanner, no signatures, or it failed.
    """
    databases = _databases(signatures)
    with tempfile.TemporaryDirectory(prefix="tresor-scan-") as folder:
        test = Path(folder) / "test-file"
        test.write_bytes(_TEST_FILE)
        listing = Path(folder) / "files"
        by_path = {str(path): digest for digest, path in contents.items()}
        for path in by_path:
            if "\n" in path:
                raise _not_ready(f"path {path!r} has a line break", path)
        listing.write_text("".join(f"{path}\n" for path in [*by_path, str(test)]), encoding="utf-8")
        output = _run(program, signatures, listing)
    # A file counts as scanned only when the scanner says so: it passes over what it cannot open.
    scanned: set[str] = set()
    infected: dict[str, str] = {}
    failed: dict[str, str] = {}
    found_test = False
    for line in output.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match is None:
            continue
        if match["path"] == str(test):
            found_test = match["kind"] == "FOUND"
            continue
        digest = by_path.get(match["path"])
        if digest is None:
            raise _not_ready(f"answer about another file: {line[:200]!r}", program)
        what = match["what"] or match["kind"]
        if match["kind"] in ("OK", "Empty file"):
            scanned.add(digest)
        elif match["kind"] == "ERROR" or what.startswith(_LIMIT):
            failed[digest] = what
        else:
            infected[digest] = what
    report = {
        "schema": "malware-scan/v1",
        "engine": _version(program),
        "signatures": databases,
        "self_test": found_test,
        "scanned": sorted((scanned | set(infected)) - set(failed)),
        "infected": [{"sha256": key, "reason": value} for key, value in sorted(infected.items())],
        "failed": [{"sha256": key, "reason": value} for key, value in sorted(failed.items())],
    }
    return json.dumps(report, sort_keys=True).encode()


def _run(program: str, signatures: Path, listing: Path) -> str:
    args = [program, f"--database={signatures}", "--stdout", "--no-summary"]
    args += [f"--max-filesize={_MAX_FILE}", f"--max-scansize={_MAX_FILE}"]
    args += ["--alert-exceeds-max=yes", f"--file-list={listing}"]
    try:
        done = subprocess.run(
            args, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        raise _not_ready("is not installed (Debian package clamav)", program) from error
    except subprocess.TimeoutExpired as error:
        raise _not_ready(f"took longer than {_TIMEOUT_S} s", program) from error
    # 0 nothing found, 1 something found, 2 some file could not be read (named in the output).
    if done.returncode not in (0, 1) and "ERROR" not in done.stdout:
        tail = (done.stderr or done.stdout).strip()[-300:]
        raise _not_ready(f"ended with status {done.returncode}: {tail}", program)
    return done.stdout


def _version(program: str) -> str:
    done = subprocess.run(
        [program, "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout.strip().partition("/")[0] or program


def _databases(folder: Path) -> list[dict[str, str]]:
    known = (".cvd", ".cld", ".cud", ".ndb", ".hdb", ".hsb", ".ldb", ".ldu", ".ndu", ".hdu", ".hsu")
    paths = sorted(path for path in folder.glob("*") if path.suffix in known)
    if not paths:
        raise _not_ready("holds no signatures", str(folder))
    told = folder / ABOUT
    date = json.loads(told.read_bytes())["date"] if told.exists() else None
    found = []
    for path in paths:
        moment = _date_of(path) or date
        if moment is None:
            raise _not_ready(f"signatures without a date: write it into {ABOUT}", str(path))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        found.append({"name": path.name, "date": moment, "sha256": digest})
    return found


def _date_of(path: Path) -> str | None:
    """Return the date in the head of ClamAV's own databases."""
    with path.open("rb") as stream:
        fields = stream.read(512).decode("latin-1").split(":")
    if fields[0] != "ClamAV-VDB" or len(fields) < 9 or not fields[8].strip().isdigit():
        return None
    return datetime.fromtimestamp(int(fields[8].strip()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _not_ready(seen: str, path: str) -> EnvironmentNotReadyError:
    return EnvironmentNotReadyError("environment.scanner", seen, path)
