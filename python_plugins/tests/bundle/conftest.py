"""Fixtures: signed bundles, and a store with two approvers to import them into.

``maker``'s bundle is for the state machine: its packages are a few letters, and only the gate
``contents`` judges it. ``complete``'s bundle is small but real, and all gates judge it.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from python_plugins.tests.bundle.complete import Complete
from python_plugins.tests.bundle.helpers import Maker, Site
from python_plugins.tests.policy.bench import Bench
from tresor.bundle import gates
from tresor.bundle.layout import Store
from tresor.bundle.signing import create_lab_keys
from tresor.policy import hook


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    monkeypatch.setattr(gates, "GATES", {"contents": gates.GATES["contents"]})
    keys = tmp_path / "keys"
    return Maker(tmp_path / "medium", keys, create_lab_keys(keys))


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the site's rules lie; there are none yet, whatever this machine has."""
    path = tmp_path / "bundle-rules.json"
    monkeypatch.setattr(hook, "SITE_RULES", path)
    return path


@pytest.fixture
def complete(tmp_path: Path, rules: Path) -> Complete:
    keys = tmp_path / "complete-keys"
    bench = Bench(tmp_path / "bench")
    return Complete(tmp_path / "complete", keys, create_lab_keys(keys), bench=bench)


@pytest.fixture(scope="session")
def ssh_keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("ssh")
    keys = {}
    for person in ("alice", "bob"):
        keys[person] = folder / person
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", person, "-f", str(keys[person])],
            check=True,
        )
    return keys


@pytest.fixture
def site(tmp_path: Path, ssh_keys: dict[str, Path]) -> Site:
    signers = tmp_path / "allowed_signers"
    signers.write_text(
        "".join(
            f'{person} namespaces="tresor-approve" {key.with_suffix(".pub").read_text()}'
            for person, key in ssh_keys.items()
        )
    )
    signers.chmod(0o644)
    return Site(Store(tmp_path / "store"), signers, ssh_keys)


@pytest.fixture(scope="session")
def vendored_wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return wheels of tuf, securesystemslib and urllib3 made from what is installed here."""
    folder = tmp_path_factory.mktemp("wheels")
    site_packages = Path(sys.modules["tuf"].__file__ or "").parent.parent
    wheels = []
    for name in ("securesystemslib", "tuf", "urllib3"):
        wheel = folder / f"{name}-1-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for path in sorted((site_packages / name).rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    archive.write(path, path.relative_to(site_packages))
        wheels.append(wheel)
    return wheels
