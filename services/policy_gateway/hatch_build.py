"""Compile the modules that every request runs through (mypyc), as a part of building the wheel.

The wheel keeps their sources beside the compiled modules, and those carry the tag of the Python
they were built with: any other Python interprets the sources. Nothing but speed depends on it.
``TRESOR_COMPILE``: ``auto`` (default: without a compiler the wheel is a plain one), ``never``, or
``require`` (no compiler is an error).
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SETTING: Final = "TRESOR_COMPILE"
_GROUP: Final = "tresor_gateway"
_FLAGS: Final = ("-shared", "-fPIC", "-O2", "-g0", "-fwrapv", "-DNDEBUG", "-w", "-Wl,-s")
# Translates to C; a process of its own, because mypy looks modules up from where it stands.
_TRANSLATE: Final = """
import json, sys
from mypyc.build import mypycify
options = ["--config-file=", "--ignore-missing-imports", "--cache-dir=" + sys.argv[1] + "/cache"]
made = mypycify(
    [*options, *sys.argv[2:]], group_name="tresor_gateway", target_dir=sys.argv[1] + "/c"
)
print(json.dumps([[e.name, e.sources, e.include_dirs, e.define_macros] for e in made]))
"""
_ENDS: Final = sysconfig.get_config_var("EXT_SUFFIX") or ".so"


class CompileError(Exception):
    """The modules cannot be compiled here."""


class CompileHook(BuildHookInterface[Any]):
    """Adds the compiled modules to the wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the wheel is put together."""
        wish = os.environ.get(_SETTING, "auto")
        if wish not in ("auto", "never", "require"):
            raise CompileError(f"{_SETTING}: value {wish!r}: write auto, never or require")
        if self.target_name != "wheel" or version == "editable" or wish == "never":
            return
        self._folder = Path(tempfile.mkdtemp(prefix="tresor-compile-"))
        try:
            made = compile_modules(Path(self.root), self._folder)
        except CompileError as error:
            if wish == "require":
                raise
            self.app.display_warning(f"tresor-gateway will be interpreted: {error}")
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        build_data["force_include"].update({str(path): name for path, name in made})

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Called when the wheel is there."""
        if hasattr(self, "_folder"):
            shutil.rmtree(self._folder, ignore_errors=True)


def compile_modules(project: Path, folder: Path) -> list[tuple[Path, str]]:
    """Compile below ``folder``; returns the files and their paths in the wheel.

    Raises:
        CompileError: no compiler, or it does not like the sources.
    """
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(compiler[0]) is None:
        raise CompileError(f"there is no C compiler {compiler[0]!r}; install gcc, or set CC")
    table = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    source = project / "src"
    paths = [f"{_GROUP}/{name}.py" for name in table["tool"]["tresor"]["compiled"]]
    missing = [path for path in paths if not (source / path).exists()]
    if missing:
        raise CompileError(f"pyproject.toml names modules that are not there: {missing}")
    text = _run([sys.executable, "-c", _TRANSLATE, str(folder), *paths], cwd=source)
    made: list[tuple[Path, str]] = []
    jobs: list[list[str]] = []
    for name, sources, include, macros in json.loads(text.splitlines()[-1]):
        target = name.replace(".", "/") + _ENDS
        path = folder / "lib" / target
        path.parent.mkdir(parents=True, exist_ok=True)
        everything = [*include, str(folder / "c"), sysconfig.get_path("include")]
        defined = [f"-D{key}" if value is None else f"-D{key}={value}" for key, value in macros]
        # No path of the machine that builds may be in the files.
        hidden = [f"-ffile-prefix-map={folder}=.", f"-ffile-prefix-map={sys.prefix}=."]
        includes = [f"-I{item}" for item in everything]
        jobs.append(
            [*compiler, *_FLAGS, *hidden, *defined, *includes, "-o", str(path), *sorted(sources)]
        )
        made.append((path, target))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(lambda job: _run(job, cwd=source), jobs))
    return made


def _run(command: Sequence[str], cwd: Path) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()[-12:]
        problem = "\n".join(lines)
        raise CompileError(f"{Path(command[0]).name} failed:\n{problem}")
    return done.stdout
