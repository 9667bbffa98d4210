"""Room on disk and trees with read-only folders."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tresor.bundle.disk import check_space, remove_tree
from tresor.bundle.errors import EnvironmentNotReadyError


def test_too_little_room_names_both_figures(tmp_path: Path) -> None:
    check_space(tmp_path, 1)
    with pytest.raises(EnvironmentNotReadyError, match=r"space\.missing: 1,0{3}.* are free; free"):
        check_space(tmp_path, 1000**6)


def test_read_only_tree_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "file").write_text("x")
    folder.chmod(0o555)
    folder.parent.chmod(0o555)
    remove_tree(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_store_clients_work_on_hosts_without_tuf() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('tuf', 'securesystemslib')))\n"
        "import tresor.store_client.environment, tresor.store_client.model\n"
        "import tresor.store_client.options\n"
    )
    path = str(Path(__file__).parents[2] / "module_utils")
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": path}, check=True)
