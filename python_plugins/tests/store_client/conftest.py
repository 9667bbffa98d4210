"""Fixtures: a store on loopback with one environment and one model."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from python_plugins.tests.store_client.helpers import (
    Authority,
    FakeStore,
    environment_part,
    serve,
    uv_wheel,
    wheel,
)
from tresor.bundle.manifest import FileEntry, model_digest

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
UV = Path(sys.executable).parent / "uv"
MODEL = {"config.json": b"{}", "sub/weights+1.safetensors": b"w" * 3_000_000}


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="session")
def tools() -> dict[str, bytes]:
    if not UV.exists():
        pytest.skip("uv is not installed beside this Python")
    return environment_part("tools", "1.0", PYTHON, [uv_wheel(UV)])[0]


@pytest.fixture
def store(authority: Authority) -> Iterator[FakeStore]:
    with serve(FakeStore(), authority) as running:
        yield running


@pytest.fixture
def demo(store: FakeStore, tools: dict[str, bytes]) -> dict[str, object]:
    """Publish environment ``demo`` 1.0 and return the module's options for it."""
    files, digest = environment_part(
        "demo", "1.0", PYTHON, [wheel("demo_x", "1.0", {"demo_x.py": "VALUE = 1\n"})]
    )
    store.add_part("wheels-demo", files)
    store.add_part("wheels-tools", tools)
    return {
        "name": "demo",
        "version": "1.0",
        "requirements_sha256": digest,
        "tools_requirements_sha256": hashlib.sha256(tools["requirements.txt"]).hexdigest(),
        "python": sys.executable,
        "warm_imports": ["demo_x"],
    }


@pytest.fixture
def model(store: FakeStore) -> dict[str, object]:
    """Publish model ``tiny`` and return the module's options for it."""
    store.add_part("model-tiny", MODEL)
    files = [
        {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for path, content in MODEL.items()
    ]
    entries = tuple(FileEntry(**item) for item in files)  # type: ignore[arg-type]
    return {"name": "tiny", "digest": model_digest(entries), "files": files}
