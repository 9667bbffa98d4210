"""First contact: Ansible's environment from the active release, with the real uv, offline."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from python_plugins.tests.bundle.helpers import Maker, Site
from python_plugins.tests.store_client.helpers import environment_part, uv_wheel, wheel
from tresor.bundle.bootstrap import Places, bootstrap
from tresor.bundle.errors import BundleError

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
UV = Path(sys.executable).parent / "uv"
ANSIBLE = {
    "ansible/__init__.py": "",
    "ansible/cli/__init__.py": "",
    "ansible/cli/playbook.py": "",
    "ansible/executor/__init__.py": "",
    "ansible/executor/task_executor.py": "",
    "tresor_cli.py": "def main():\n    print('here')\n",
    "ansible_core-1.0.dist-info/entry_points.txt": "[console_scripts]\ntresor = tresor_cli:main\n",
}

pytestmark = pytest.mark.skipif(not UV.exists(), reason="uv is not installed beside this Python")


def active(site: Site, maker: Maker, python: str = PYTHON) -> None:
    core = [wheel("ansible_core", "1.0", ANSIBLE)]
    ansible = environment_part("ansible", "2.0", python, core)[0]
    tools = environment_part("tools", "1.0", python, [uv_wheel(UV)])[0]
    maker.parts = {
        "wheels-ansible": ("wheels", "product", ansible),
        "wheels-tools": ("wheels", "product", tools),
    }
    maker.make()
    site.full(maker)


def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "opt", tmp_path / "bin/tresor", None, Path(sys.executable))


def test_environment_is_made_once_and_its_command_runs(
    site: Site, maker: Maker, tmp_path: Path
) -> None:
    active(site, maker)
    release, changed = bootstrap(site.store, places(tmp_path))
    assert changed and release.name.startswith("2.0-")
    command = tmp_path / "bin/tresor"
    told = subprocess.run([command], capture_output=True, text=True, check=True)
    assert told.stdout == "here\n"
    assert bootstrap(site.store, places(tmp_path)) == (release, False)
    assert {path.name for path in release.parent.iterdir()} == {release.name, "current"}
    writable = [
        path for path in release.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o002
    ]
    assert writable == []


def test_half_made_environment_is_made_again(site: Site, maker: Maker, tmp_path: Path) -> None:
    active(site, maker)
    release, _ = bootstrap(site.store, places(tmp_path))
    (release / ".tresor-environment.json").unlink()
    (release / "bin/tresor").unlink()
    assert bootstrap(site.store, places(tmp_path)) == (release, True)
    assert (release / "bin/tresor").exists()


def test_wrong_python_is_refused_before_anything_is_made(
    site: Site, maker: Maker, tmp_path: Path
) -> None:
    active(site, maker, "3.1")
    with pytest.raises(BundleError, match=r"environment\.python"):
        bootstrap(site.store, places(tmp_path))
    assert not list((tmp_path / "opt").rglob("*"))


def test_without_a_release_there_is_nothing_to_install(site: Site, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"state\.release"):
        bootstrap(site.store, places(tmp_path))
