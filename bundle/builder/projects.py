"""Our own wheels: built from the working tree, offline, the same bytes for the same tree."""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

from bundle.builder.blobs import BlobStore
from bundle.builder.command import run
from bundle.builder.errors import BuilderError, SpecError
from bundle.builder.lock import LockedFile
from bundle.builder.results import Results
from bundle.builder.wheels import wheel_entry

# The hook of a project that compiles some of its modules.
COMPILING = "hatch_build.py"
# Time stamp of all members, seconds since 1970. Any time will do as long as it is always the same:
# with the bundle's own, an unchanged project would travel anew in every delta.
EPOCH = 1_795_596_546
_SKIP = {"tests", "__pycache__", "dist", "build", ".venv"}


def read_pyproject(project: Path) -> dict[str, Any]:
    """Return the table ``[project]``.

    Raises:
        SpecError: no such project.
    """
    path = project / "pyproject.toml"
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
        raise SpecError(f"{path}: cannot be read as a Python project: {error!r}") from error
    return table


def requirements(project: Path) -> list[str]:
    """Return the runtime requirements a project declares, sorted."""
    return sorted(read_pyproject(project).get("dependencies", []))


def tree_files(project: Path) -> list[Path]:
    """Return the files that can end up in the wheel, sorted."""
    return sorted(
        path
        for path in project.rglob("*")
        if path.is_file()
        and not _SKIP.intersection(path.relative_to(project).parts)
        and not path.name.endswith(".pyc")
        and not any(part.endswith(".egg-info") for part in path.parts)
    )


def _compilers() -> str:
    """What compiled modules depend on besides their sources."""
    try:
        compiler = run(["cc", "--version"], what="ask the C compiler for its version")
    except BuilderError:
        # The wheel will be a plain one.
        compiler = "none"
    translator = importlib.metadata.version("mypy")
    return f"{sysconfig.get_config_var('EXT_SUFFIX')} {translator} {compiler}"


def build_wheel(project: Path, store: BlobStore) -> LockedFile:
    """Build the wheel of ``project`` with hatchling, or take the one of an unchanged tree.

    Args:
        project: folder with ``pyproject.toml``.
        store: where the wheel goes.

    Raises:
        BuilderError: the build failed or made no single wheel.
    """
    digest = hashlib.sha256()
    digest.update(f"{importlib.metadata.version('hatchling')} {EPOCH}".encode())
    if (project / COMPILING).exists():
        digest.update(_compilers().encode())
    for path in tree_files(project):
        digest.update(f"\0{path.relative_to(project)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    results = Results(store)
    cached = results.get("project-wheel", digest.hexdigest())
    if cached:
        return cached[0]
    with store.workdir("project") as folder:
        run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
            what=f"build the wheel of {project.name}",
            cwd=project,
            env={"SOURCE_DATE_EPOCH": str(EPOCH), "PYTHONHASHSEED": "0"},
        )
        wheels = sorted(folder.glob("*.whl"))
        if len(wheels) != 1:
            raise BuilderError(f"{project}: the build made {len(wheels)} wheels instead of one")
        entry = wheel_entry(wheels[0], store)
    results.put("project-wheel", digest.hexdigest(), [entry])
    return entry
