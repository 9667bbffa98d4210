"""Environments come from the pinned wheels alone, whatever the machine's configuration says."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from bundle.builder.command import uv_program
from bundle.tests import makers
from tresor.bundle.errors import EnvironmentNotReadyError
from tresor.bundle.uv import Uv

VERSION = "import importlib.metadata as m; print(m.version('demo'))"


@pytest.fixture
def poisoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Offer a higher version in every way a machine can; return the folder of the right one."""
    evil, good, home = tmp_path / "evil", tmp_path / "good", tmp_path / "home"
    for folder, version in ((evil, "9.0"), (good, "1.0")):
        folder.mkdir()
        file, raw = makers.wheel("demo", version, {"demo.py": version.encode()})
        (folder / file).write_bytes(raw)
    for place, text in (
        (home / ".config/pip/pip.conf", f"[global]\nfind-links = {evil}\nno-index = false\n"),
        (home / ".pip/pip.conf", f"[global]\nextra-index-url = file://{evil}\n"),
        (home / ".config/uv/uv.toml", f'find-links = ["{evil}"]\nno-index = false\n'),
        (tmp_path / "here/uv.toml", f'find-links = ["{evil}"]\n'),
        (tmp_path / "here/pip.conf", f"[install]\nfind-links = {evil}\n"),
    ):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "UV_EXTRA_INDEX_URL"):
        monkeypatch.setenv(name, str(evil))
    monkeypatch.setenv("PIP_CONFIG_FILE", str(home / ".pip/pip.conf"))
    monkeypatch.setenv("UV_CONFIG_FILE", str(tmp_path / "here/uv.toml"))
    monkeypatch.setenv("PYTHONPATH", str(evil))
    return good


def install(tmp_path: Path, wheels: Path, line: str) -> Path:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(line)
    environment = tmp_path / "environment"
    uv = Uv(Path(uv_program()), tmp_path / "cache")
    uv.make(environment, Path(sys.executable), wheels, requirements, link_mode="copy")
    return environment / "bin" / "python"


def pin(wheels: Path, version: str) -> str:
    digest = hashlib.sha256(next(wheels.glob("*.whl")).read_bytes()).hexdigest()
    return f"demo=={version} --hash=sha256:{digest}\n"


def test_poisoned_configuration_of_the_machine_is_not_read(tmp_path: Path, poisoned: Path) -> None:
    python = install(tmp_path, poisoned, pin(poisoned, "1.0"))
    seen = subprocess.run(
        [str(python), "-I", "-c", VERSION], capture_output=True, text=True, check=True
    )
    assert seen.stdout.strip() == "1.0"


def test_version_that_only_the_configuration_offers_is_not_found(
    tmp_path: Path, poisoned: Path
) -> None:
    with pytest.raises(EnvironmentNotReadyError, match=r"environment\.command"):
        install(tmp_path, poisoned, pin(tmp_path / "evil", "9.0"))


def test_higher_version_under_the_pinned_name_is_not_installed(
    tmp_path: Path, poisoned: Path
) -> None:
    line = pin(poisoned, "1.0")
    (file,) = poisoned.glob("*.whl")
    file.write_bytes(next((tmp_path / "evil").glob("*.whl")).read_bytes())
    with pytest.raises(EnvironmentNotReadyError, match=r"environment\.command"):
        install(tmp_path, poisoned, line)
