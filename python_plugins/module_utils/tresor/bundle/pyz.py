"""Builds ``importer.pyz``: one file that runs on the python3 of a bare Debian 12 or 13.

The same inputs give the same bytes: sorted members, a fixed time, no compression.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from .canonical import sha256_hex
from .errors import UsageError

# -I: neither the environment nor the user's folder may add code; -B: write nothing.
_SHEBANG = b"#!/usr/bin/python3 -IB\n"
_MAIN = b'''"""Entry point of importer.pyz."""

import sys

# What runs is what the archive holds (and the standard library): nothing installed on the machine
# may take part in deciding whether a bundle is trusted.
sys.path[:] = [p for p in sys.path if not p.endswith(("dist-packages", "site-packages"))]
sys.dont_write_bytecode = True

from tresor.bundle.importer import main

sys.exit(main())
'''
_WANTED = ("tuf", "securesystemslib", "urllib3")
# Code that the importer never runs.
_DROPPED = (
    "tuf/repository/",
    "urllib3/contrib/emscripten/",
    "securesystemslib/_vendor/ed25519/test_data/",
)
_OWN = ("bundle", "engine_cache", "policy")
_OWN_LEFT_OUT = {"signing.py", "pyz.py"}


def build(out: Path, wheels: Sequence[Path]) -> str:
    """Write the importer archive.

    Args:
        out: file to write (mode 0755).
        wheels: wheel files of ``tuf``, ``securesystemslib`` and ``urllib3`` (pure Python), already
            checked against the lock.

    Returns:
        SHA-256 of the archive in hex.

    Raises:
        UsageError: a wheel is missing, given twice, or holds compiled code.
    """
    members = {"__main__.py": _MAIN, "tresor/__init__.py": b""}
    package = Path(__file__).parent
    for name in _OWN:
        for source in sorted((package.parent / name).glob("*.py")):
            if source.name not in _OWN_LEFT_OUT:
                members[f"tresor/{name}/{source.name}"] = source.read_bytes()
    members.update(_vendored(wheels))
    content = _SHEBANG + _archive(members)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(content)
    out.chmod(0o755)
    return sha256_hex(content)


def _vendored(wheels: Sequence[Path]) -> dict[str, bytes]:
    found: dict[str, Path] = {}
    for wheel in wheels:
        name = wheel.name.partition("-")[0].lower()
        if name not in _WANTED or name in found:
            raise UsageError("pyz.wheels", "not wanted, or given twice", wheel.name)
        found[name] = wheel
    missing = sorted(set(_WANTED) - set(found))
    if missing:
        raise UsageError("pyz.wheels", f"no wheel of {', '.join(missing)} given")
    members: dict[str, bytes] = {}
    for name, wheel in sorted(found.items()):
        with zipfile.ZipFile(wheel) as archive:
            for info in archive.infolist():
                path = info.filename
                if info.is_dir() or path.startswith(_DROPPED) or path.endswith("/RECORD"):
                    continue
                if path.endswith((".so", ".pyd", ".pth")) or ".data/" in path:
                    raise UsageError("pyz.wheels", "wheel is not pure Python", f"{name}: {path}")
                members[path] = archive.read(info)
    # zipimport of Python 3.11 finds no package in a folder without __init__.py.
    for path in [path for path in members if path.endswith(".py")]:
        for folder in PurePosixPath(path).parents:
            if str(folder) != ".":
                members.setdefault(f"{folder}/__init__.py", b"")
    return members


def _archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path, content in sorted(members.items()):
            info = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, content)
    return buffer.getvalue()
