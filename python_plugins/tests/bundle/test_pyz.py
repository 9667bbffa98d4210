"""``importer.pyz`` on the system's own python3, without any installed package."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from python_plugins.tests.bundle.complete import Complete, days
from python_plugins.tests.bundle.helpers import Site
from python_plugins.tests.policy.bench import SITE
from tresor.bundle import pyz
from tresor.bundle.errors import UsageError
from tresor.policy import evaluate

SYSTEM_PYTHON = Path("/usr/bin/python3")
ANYWHERE = {"site": "*", "arch": ["*"], "os": ["*"]}


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
    assert {"tresor/bundle/machine.py", "tresor/policy/hook.py"} <= set(names)
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
def test_whole_import_on_a_bare_python(importer: Path, site: Site, complete: Complete) -> None:
    """All gates judge: no site's rules are on this machine, or they take this bundle too."""
    complete.make(audience=ANYWHERE)
    store = ("--store", site.store.root)
    signers = ("--allowed-signers", site.signers)
    take = ("import", *store, "--medium", complete.bundle, "--site", "x", "--json", "--quiet")
    first = run(importer, *take, "--root-sha256", "0" * 64, "--accept-scope", "lab")
    assert (first.returncode, json.loads(first.stdout)["rule"]) == (
        3,
        "signature.root-fingerprint",
    )
    assert run(importer, *take, "--root-sha256", complete.fingerprint).returncode == 3
    good = run(importer, *take, "--root-sha256", complete.fingerprint, "--accept-scope", "lab")
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["state"] == "AWAIT_APPROVAL"
    assert run(importer, "activate", *store, *signers).returncode == 3
    for person, key in site.people.items():
        approved = run(importer, "approve", *store, *signers, "--person", person, "--key", key)
        assert approved.returncode == 0, approved.stderr
    assert run(importer, "activate", *store, *signers).returncode == 0
    assert json.loads(run(importer, "status", *store, "--json").stdout)["current"] == "2026.11-1"
    receipt = json.loads((site.store.current / "receipt.json").read_bytes())
    passed = {row["gate"] for row in receipt["verdicts"] if row["severity"] == "pass"}
    assert passed == {"contents", *evaluate.GATES}
    assert run(importer, "verify-store", *store).returncode == 0
    assert run(importer, "import", *store).returncode == 2
    gone = run(importer, "import", *store, "--site", "x", "--medium", "/nonexistent")
    assert gone.returncode == 4


@pytest.mark.skipif(not SYSTEM_PYTHON.exists(), reason="no system python3 on this machine")
def test_gates_refuse_on_a_bare_python(importer: Path, site: Site, complete: Complete) -> None:
    complete.waived = (SITE, days(80))
    complete.make(audience=ANYWHERE)
    refused = run(
        importer, "import", "--store", site.store.root, "--medium", complete.bundle,
        "--site", "bank-2", "--root-sha256", complete.fingerprint, "--accept-scope", "lab",
        "--json", "--quiet",
    )  # fmt: skip
    answer = json.loads(refused.stdout)
    assert (refused.returncode, answer["rule"]) == (3, "vulnerabilities.no-database")
    assert "this is 'bank-2'" in answer["message"]
