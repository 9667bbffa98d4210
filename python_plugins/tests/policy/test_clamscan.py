"""The scanner's runner against a stand-in that answers as ClamAV does, and against ClamAV itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tresor.bundle.errors import EnvironmentNotReadyError
from tresor.policy import clamscan, malware

STAND_IN = """#!/usr/bin/python3
import sys
if sys.argv[1] == "--version":
    print("ClamAV 1.4.6/27000/date")
    sys.exit(0)
options = dict(item.lstrip("-").partition("=")[::2] for item in sys.argv[1:])
code = 0
for path in open(options["file-list"]).read().splitlines():
    raw = open(path, "rb").read()
    if b"EICAR" in raw and {finds}:
        print(path + ": Eicar-Test-Signature FOUND")
        code = 1
    elif raw == b"big":
        print(path + ": Heuristics.Limits.Exceeded.MaxFileSize FOUND")
    elif raw == b"locked":
        print(path + ": Can't access file ERROR")
        code = 2
    else:
        print(path + ": OK")
sys.exit({code})
"""


def stand_in(folder: Path, *, finds: bool = True, code: str = "code") -> str:
    path = folder / "scanner"
    path.write_text(STAND_IN.replace("{finds}", str(finds)).replace("{code}", code))
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def signatures(tmp_path: Path) -> Path:
    folder = tmp_path / "signatures"
    folder.mkdir()
    text = b"EICAR-STANDARD-" + b"ANTIVIRUS-TEST-FILE"
    (folder / "local.ndb").write_text(f"Tresor.Test.Eicar:0:*:{text.hex()}\n")
    (folder / "signatures.json").write_text('{"date": "2026-11-24T00:00:00Z"}')
    return folder


@pytest.fixture
def contents(tmp_path: Path) -> dict[str, Path]:
    found = {}
    for name, raw in (("a", b"good"), ("b", b"EICAR"), ("c", b"big"), ("d", b"locked")):
        path = tmp_path / name
        path.write_bytes(raw)
        found[name * 64] = path
    return found


def test_answers_are_sorted(tmp_path: Path, signatures: Path, contents: dict[str, Path]) -> None:
    found = malware.parse(clamscan.scan(contents, signatures, stand_in(tmp_path)))
    assert found.engine == "ClamAV 1.4.6"
    assert found.self_test
    assert found.infected == {"b" * 64: "Eicar-Test-Signature"}
    assert set(found.failed) == {"c" * 64, "d" * 64}
    assert found.scanned == {"a" * 64, "b" * 64}


def test_scanner_that_finds_nothing_fails_its_test(tmp_path: Path, signatures: Path) -> None:
    found = malware.parse(clamscan.scan({}, signatures, stand_in(tmp_path, finds=False)))
    assert not found.self_test


def test_scanner_that_fails_is_said(tmp_path: Path, signatures: Path) -> None:
    with pytest.raises(EnvironmentNotReadyError, match="status 40"):
        clamscan.scan({}, signatures, stand_in(tmp_path, code="40"))
    with pytest.raises(EnvironmentNotReadyError, match="not installed"):
        clamscan.scan({}, signatures, str(tmp_path / "absent"))


def test_signatures_need_to_be_there_and_dated(tmp_path: Path, signatures: Path) -> None:
    (signatures / "signatures.json").unlink()
    with pytest.raises(EnvironmentNotReadyError, match="without a date"):
        clamscan.scan({}, signatures, stand_in(tmp_path))
    (signatures / "local.ndb").unlink()
    with pytest.raises(EnvironmentNotReadyError, match="holds no signatures"):
        clamscan.scan({}, signatures, stand_in(tmp_path))


def test_date_of_clamavs_own_databases_is_read(signatures: Path, tmp_path: Path) -> None:
    head = "ClamAV-VDB:24 Nov 2026 08-00 -0000:27000:2000000:90:x:y:builder:1795507200:"
    (signatures / "daily.cvd").write_bytes(head.encode().ljust(512) + b"x")
    found = json.loads(clamscan.scan({}, signatures, stand_in(tmp_path)))
    dates = {item["name"]: item["date"] for item in found["signatures"]}
    assert dates["daily.cvd"] == "2026-11-24T08:00:00Z"


@pytest.mark.skipif(shutil.which("clamscan") is None, reason="Debian package clamav is absent")
def test_clamav_itself_with_a_local_signature(
    tmp_path: Path, signatures: Path, contents: dict[str, Path]
) -> None:
    infected = tmp_path / "infected.zip"
    shutil.make_archive(str(infected.with_suffix("")), "zip", _eicar(tmp_path))
    locked = contents.pop("d" * 64)
    found = malware.parse(clamscan.scan({**contents, "e" * 64: infected}, signatures))
    assert found.self_test
    assert list(found.infected) == ["e" * 64]
    assert "Eicar" in found.infected["e" * 64]
    assert "a" * 64 in found.scanned
    locked.unlink()
    missing = malware.parse(clamscan.scan({"f" * 64: locked}, signatures))
    assert "f" * 64 not in missing.scanned


def _eicar(tmp_path: Path) -> Path:
    folder = tmp_path / "inside"
    folder.mkdir()
    (folder / "readme.txt").write_bytes(clamscan._TEST_FILE)
    return folder
