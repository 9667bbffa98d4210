"""``importer.pyz`` on the system's own python3, without any installed package."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from python_plugins.tests.bundle.evidence import with_evidence
from python_plugins.tests.bundle.helpers import Maker, Site
from tresor.bundle import pyz
from tresor.bundle.errors import UsageError

SYSTEM_PYTHON = Path("/usr/bin/python3")


@pytest.fixture(scope="session")
def importer(tmp_path_factory: pytest.TempPathFactory, vendored_wheels: list[Path]) -> Path:
    path = tmp_path_factory.mktemp("pyz") / "importer.pyz"
    digest = pyz.build(path, vendored_wheels)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    return path


def run(importer: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SYSTEM_PYTHON), "-ISB", str(importer), *(str(item) for item in arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )


def test_same_inputs_give_the_same_archive(
    importer: Path, vendored_wheels: list[Path], tmp_path: Path
) -> None:
    pyz.build(tmp_path / "again.pyz", list(reversed(vendored_wheels)))
    assert (tmp_path / "again.pyz").read_bytes() == importer.read_bytes()


def test_archive_holds_no_signing_code(importer: Path) -> None:
    names = zipfile.ZipFile(importer).namelist()
    assert "tresor/bundle/machine.py" in names
    assert "tresor/bundle/signing.py" not in names
    assert not [name for name in names if name.endswith((".so", ".pyc"))]


def test_missing_or_compiled_wheel_is_refused(vendored_wheels: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no wheel of"):
        pyz.build(tmp_path / "x.pyz", vendored_wheels[:2])
    compiled = tmp_path / "urllib3-1-cp311-x.whl"
    with zipfile.ZipFile(compiled, "w") as archive:
        archive.writestr("urllib3/x.so", b"")
    others = [path for path in vendored_wheels if not path.name.startswith("urllib3")]
    with pytest.raises(UsageError, match="not pure Python"):
        pyz.build(tmp_path / "x.pyz", [*others, compiled])


@pytest.mark.skipif(not SYSTEM_PYTHON.exists(), reason="no system python3 on this machine")
def test_whole_import_on_a_bare_python(importer: Path, site: Site, maker: Maker) -> None:
    times = with_evidence(maker, datetime.now(UTC) - timedelta(days=1))
    maker.make(audience={"site": "*", "arch": ["*"], "os": ["*"]}, **times)
    store = ("--store", site.store.root)
    signers = ("--allowed-signers", site.signers)
    take = ("import", *store, "--medium", maker.bundle, "--site", "x", "--json", "--quiet")
    first = run(importer, *take, "--root-sha256", "0" * 64, "--accept-scope", "lab")
    assert (first.returncode, json.loads(first.stdout)["rule"]) == (
        3,
        "signature.root-fingerprint",
    )
    assert run(importer, *take, "--root-sha256", maker.fingerprint).returncode == 3
    good = run(importer, *take, "--root-sha256", maker.fingerprint, "--accept-scope", "lab")
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["state"] == "AWAIT_APPROVAL"
    assert run(importer, "activate", *store, *signers).returncode == 3
    for person, key in site.people.items():
        approved = run(importer, "approve", *store, *signers, "--person", person, "--key", key)
        assert approved.returncode == 0, approved.stderr
    assert run(importer, "activate", *store, *signers).returncode == 0
    assert json.loads(run(importer, "status", *store, "--json").stdout)["current"] == "2026.11-1"
    assert run(importer, "verify-store", *store).returncode == 0
    assert run(importer, "import", *store).returncode == 2
    gone = run(importer, "import", *store, "--site", "x", "--medium", "/nonexistent")
    assert gone.returncode == 4
