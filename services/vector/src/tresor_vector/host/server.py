"""Become the real server, after its data directory was claimed."""

from __future__ import annotations

import os
from pathlib import Path

from tresor_vector.errors import VectorError


def become(program: Path, libraries: Path, configuration: Path, data: Path) -> None:
    """Replace this process by the server; does not return.

    Raises:
        VectorError: the watch has not written the configuration, or there is no program.
    """
    if not (configuration / "milvus.yaml").is_file():
        raise VectorError(
            f"{configuration}/milvus.yaml is missing: tresor-milvus-watch.service writes it; "
            "look into its journal"
        )
    if not os.access(program, os.X_OK):
        raise VectorError(f"{program} is no program; converge the host again")
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(data),
        "MILVUSCONF": str(configuration),
        "LD_LIBRARY_PATH": str(libraries),
        "DEPLOY_MODE": "STANDALONE",
    }
    os.chdir(data)
    os.execve(program, [str(program), "run", "standalone"], environment)  # noqa: S606
