"""``uv`` out of its wheel, used offline and without any configuration of the machine."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

from .canonical import sha256_hex
from .content import parse_requirements
from .errors import EnvironmentNotReadyError, RejectedError

TIMEOUT_S = 1800
_FOREIGN = ("UV_", "PIP_", "PYTHON", "VIRTUAL_ENV", "SSL_CERT", "LD_")


class Uv:
    """Makes virtual environments from a folder of wheels and nothing else.

    Args:
        program: the executable.
        cache: private folder on the file system of the environments (hard links).
    """

    def __init__(self, program: Path, cache: Path) -> None:
        self._program = str(program)
        self._alone = ["--quiet", "--no-config", "--offline", "--cache-dir", str(cache)]

    def make(
        self, environment: Path, python: Path, wheels: Path, requirements: Path, *, link_mode: str
    ) -> None:
        """Create ``environment`` with exactly the wheels that ``requirements`` pins by hash.

        Args:
            link_mode: ``copy``, or ``hardlink`` if the cache is thrown away afterwards.

        Raises:
            EnvironmentNotReadyError: rule ``environment.command``.
        """
        self.create(environment, python)
        self.install(environment, wheels, requirements, link_mode=link_mode)

    def create(self, environment: Path, python: Path) -> None:
        """Create an empty ``environment``.

        Raises:
            EnvironmentNotReadyError: rule ``environment.command``.
        """
        run([self._program, "venv", *self._alone, "--no-python-downloads",
             "--python", str(python), str(environment)])  # fmt: skip

    def install(
        self, environment: Path, wheels: Path, requirements: Path, *, link_mode: str
    ) -> None:
        """Add exactly the wheels that ``requirements`` pins by hash; for ``link_mode`` see `make`.

        Raises:
            EnvironmentNotReadyError: rule ``environment.command``.
        """
        closed = ["--no-index", "--no-deps", "--require-hashes", "--find-links", str(wheels)]
        target = ["--link-mode", link_mode, "--python", str(environment / "bin" / "python")]
        run([self._program, "pip", "install", *self._alone, *closed, *target,
             "--requirement", str(requirements)])  # fmt: skip
        # uv's own lock is writable by everyone and useless once the environment is complete.
        (environment / ".lock").unlink(missing_ok=True)


def extract(wheel: Path, requirements: str, target: Path) -> Path:
    """Take the program out of uv's wheel after checking the wheel against its pin.

    Args:
        wheel: the file.
        requirements: text of the ``requirements.txt`` that pins it.
        target: folder to write ``uv`` into.

    Raises:
        RejectedError: rules ``content.wheels``, ``content.digest``.
    """
    if (
        parse_requirements(requirements, "requirements.txt").get(sha256_hex(wheel.read_bytes()))
        != "uv"
    ):
        raise RejectedError(
            "content.digest", "is not the uv that requirements.txt pins", wheel.name
        )
    with zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if name.endswith(".data/scripts/uv")]
        if len(members) != 1:
            raise RejectedError("content.wheels", "wheel does not hold uv", wheel.name)
        program = target / "uv"
        program.write_bytes(archive.read(members[0]))
    program.chmod(0o700)
    return program


def check_python(python: Path, wanted: str) -> None:
    """Refuse an interpreter of another version than the wheels are for.

    Raises:
        EnvironmentNotReadyError: rule ``environment.python``.
    """
    if not python.exists():
        raise EnvironmentNotReadyError(
            "environment.python", "is not installed (package python3)", str(python)
        )
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    seen = run([str(python), "-I", "-c", code]).strip()
    if seen != wanted:
        raise EnvironmentNotReadyError(
            "environment.python",
            f"is Python {seen}, the wheels are for {wanted}; name another interpreter, or use "
            "the Debian release that the bundle was made for",
            str(python),
        )


def run(command: list[str], extra: dict[str, str] | None = None) -> str:
    """Run a program without the caller's Python and package settings; return its output.

    Raises:
        EnvironmentNotReadyError: rule ``environment.command`` with the program's last words.
    """
    clean = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}
    try:
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env={**clean, **(extra or {})},
            timeout=TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentNotReadyError("environment.command", str(error), command[0]) from error
    if result.returncode != 0:
        reason = result.stderr.strip()[-2000:] or f"exit code {result.returncode}"
        raise EnvironmentNotReadyError("environment.command", reason, " ".join(command[:3]))
    return result.stdout


def link(path: Path, target: Path) -> bool:
    """Point a symlink at ``target`` atomically; return whether it pointed elsewhere.

    Raises:
        EnvironmentNotReadyError: rule ``environment.link``: something else is in the way.
    """
    if path.is_symlink():
        if path.readlink() == target:
            return False
    elif path.exists():
        raise EnvironmentNotReadyError(
            "environment.link", "is in the way: move it aside and repeat", str(path)
        )
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(path)
    return True
