"""Fixtures: a small repository with a spec that needs no network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundle.builder import command
from bundle.tests import makers
from bundle.tests.helpers import Site, make_wheel

_LOCAL = ("dpkg-deb", "dpkg", "ar", "ssh-keygen")


@pytest.fixture(autouse=True)
def no_package_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop a test that would call a package client: none may depend on a network."""
    real = command.subprocess.run

    def guarded(args: list[str], *rest: Any, **options: Any) -> Any:
        name = Path(args[0]).name
        builds = "hatchling" in args
        if name not in _LOCAL and not builds:
            raise AssertionError(f"a test called {args}")
        return real(args, *rest, **options)

    monkeypatch.setattr(command.subprocess, "run", guarded)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Return an empty fixture repository."""
    return Site(tmp_path)


@pytest.fixture
def small(site: Site) -> Site:
    """Return a repository with one environment, one lab part, a model and a distribution."""
    target = {"python": "3.11", "glibc": "2.36"}
    site.write_spec(
        "parts.yml",
        {
            "parts": [
                {
                    "name": "wheels-demo",
                    "type": "wheels",
                    "version_of": "demo",
                    "requirements": ["demo==1.0"],
                    "metadata_wheels": [
                        {"name": "alias", "version": "1.0+cpu", "summary": "an alias"}
                    ],
                    **target,
                },
                {
                    "name": "model-tiny",
                    "type": "model",
                    "license": "Apache-2.0",
                    "source": {"wheel": "tiny-model==0.1", "member": "tiny_model/files"},
                    **target,
                },
                {"name": "distribution", "type": "distribution", "include": ["playbooks"]},
                {
                    "name": "importer",
                    "type": "build-environment",
                    "requirements": ["tuf==7.0.1"],
                    **target,
                },
            ]
        },
    )
    site.write_spec(
        "lab/parts.yml",
        {"parts": [{"name": "npm-idp", "type": "npm", "packages": ["demo@1.0.0"]}]},
    )
    demo = make_wheel(site.wheels, "demo", "1.0", {"demo.py": b"print(1)\n"})
    site.lock("wheels-demo", [demo])
    weights = b"\x02\0\0\0\0\0\0\0{}"
    members = {
        "tiny_model/files/model.safetensors": weights,
        "tiny_model/files/config.json": b"{}",
        "tiny_model/files/.gitattributes": b"x",
        "tiny_model/files/modeling_tiny.py": b"import os\n",
        "tiny_model/files/pytorch_model.bin": b"\x80\x04",
    }
    tiny = make_wheel(site.wheels, "tiny-model", "0.1", members)
    outputs = [
        {"path": path, "size": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
        for path, raw in (("config.json", b"{}"), ("model.safetensors", weights))
    ]
    site.lock("model-tiny", [tiny], {"outputs": outputs})
    vendored = [
        make_wheel(site.wheels, name, "1.0", {f"{name}/__init__.py": b""})
        for name in ("tuf", "securesystemslib", "urllib3")
    ]
    site.lock("importer", vendored)
    tarball = site.wheels / "demo-1.0.0.tgz"
    tarball.write_bytes(makers.tarball({"name": "demo", "version": "1.0.0", "license": "MIT"}))
    site.lock("npm-idp", [tarball])
    path = site.locks.path("npm-idp")
    data = json.loads(path.read_text())
    data["files"][0]["version"] = "1.0.0"
    data["files"][0]["paths"] = ["node_modules/demo", "node_modules/a/node_modules/demo"]
    path.write_text(json.dumps(data))
    return site


@pytest.fixture
def manifest_of() -> Callable[[Path], dict[str, object]]:
    """Return a function that reads the manifest of a built bundle."""

    def read(folder: Path) -> dict[str, object]:
        (path,) = (folder / "targets").glob("*.bundle.json")
        content: dict[str, object] = json.loads(path.read_bytes())
        return content

    return read
