"""First contact: Ansible's environment on the bastion, from the active release, offline."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from . import uv
from .canonical import dump_canonical, sha256_hex
from .errors import EnvironmentNotReadyError, RejectedError
from .layout import Store, write_atomic
from .release import RELEASE_FILE

ENVIRONMENT = "ansible"
TOOLS = "wheels-tools"
MARKER = ".tresor-environment.json"
# Each task runs in a fork of its own, which would compile connection and action plugins anew.
_WARM = (
    "import ansible.cli.playbook, ansible.executor.task_executor, compileall; "
    "compileall.compile_dir(ansible.__path__[0], quiet=2, workers=2)"
)


@dataclass(frozen=True)
class Places:
    """Where the environment goes; tests move it."""

    prefix: Path = Path("/opt/tresor")
    command: Path | None = Path("/usr/local/bin/tresor")
    importer: Path | None = Path("/usr/local/sbin/tresor-importer")
    python: Path = Path("/usr/bin/python3")


def bootstrap(store: Store, places: Places) -> tuple[Path, bool]:
    """Make ``/opt/tresor/ansible/<version>-<req8>`` and point ``current`` and ``tresor`` at it.

    The importer itself is kept as ``tresor-importer`` for later imports.

    Returns:
        The environment, and whether anything changed.

    Raises:
        EnvironmentNotReadyError: no active release, no Python, uv failed.
        RejectedError: the release does not carry what is needed.
    """
    environment = _environment(store)
    folder = places.prefix / ENVIRONMENT
    release = folder / f"{environment['version']}-{environment['requirements_sha256'][:8]}"
    changed = False
    if not _is_complete(release, environment["requirements_sha256"]):
        _install(store.current / "tree", environment, release, places.python)
        changed = True
    changed |= uv.link(folder / "current", Path(release.name))
    if places.command is not None:
        changed |= uv.link(places.command, folder / "current" / "bin" / "tresor")
    if places.importer is not None and zipfile.is_zipfile(sys.argv[0]):
        changed |= _keep_importer(Path(sys.argv[0]), places.importer)
    return release, changed


def _keep_importer(running: Path, place: Path) -> bool:
    """Keep the importer that was checked by its fingerprint for the imports to come."""
    content = running.read_bytes()
    if place.is_file() and place.read_bytes() == content:
        return False
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(place, content, 0o755)
    return True


def _environment(store: Store) -> dict[str, str]:
    try:
        record = json.loads((store.current / RELEASE_FILE).read_bytes())["tresor_release"]
    except OSError as error:
        raise EnvironmentNotReadyError(
            "state.release", "no release is active; import, approve and activate a bundle first"
        ) from error
    environment = record["environments"].get(ENVIRONMENT)
    if environment is None:
        raise RejectedError("content.wheels", f"the release has no part wheels-{ENVIRONMENT}")
    return {str(key): str(value) for key, value in environment.items()}


def _install(tree: Path, environment: dict[str, str], release: Path, python: Path) -> None:
    uv.check_python(python, environment["python"])
    if release.exists():
        shutil.rmtree(release)  # without a marker: what a killed run left behind
    release.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    part = tree / environment["part"]
    requirements = part / "requirements.txt"
    if sha256_hex(requirements.read_bytes()) != environment["requirements_sha256"]:
        raise RejectedError("content.digest", "is not what was imported", str(requirements))
    with tempfile.TemporaryDirectory(prefix=".bootstrap-", dir=release.parent) as temporary:
        program = _extract(tree / TOOLS, Path(temporary))
        tool = uv.Uv(program, Path(temporary) / "cache")
        tool.make(release, python, part, requirements, link_mode="hardlink")
    # Compiled now, by use: the first run is as fast as the second, and the tree stays as it is.
    uv.run([str(release / "bin" / "python"), "-c", _WARM])
    marker = {"requirements_sha256": environment["requirements_sha256"], "name": ENVIRONMENT}
    write_atomic(release / MARKER, dump_canonical(marker) + b"\n")


def _extract(part: Path, target: Path) -> Path:
    wheels = sorted(part.glob("uv-*.whl"))
    if len(wheels) != 1:
        raise RejectedError(
            "content.wheels", f"expected one uv wheel, found {len(wheels)}", part.name
        )
    requirements = (part / "requirements.txt").read_text(encoding="utf-8")
    return uv.extract(wheels[0], requirements, target)


def _is_complete(release: Path, requirements_sha256: str) -> bool:
    try:
        marker = json.loads((release / MARKER).read_bytes())
    except (OSError, ValueError):
        return False
    return bool(marker.get("requirements_sha256") == requirements_sha256)
