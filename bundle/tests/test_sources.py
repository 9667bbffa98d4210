"""Named sources: release packages by URL and digest, model snapshots from a folder or a server."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bundle.builder import debs, files, snapshots, sources
from bundle.builder.apt import Vendor, preferences
from bundle.builder.blobs import Blob, BlobStore
from bundle.builder.build import build
from bundle.builder.errors import DigestError, FetchError, SpecError
from bundle.builder.resolver import lock_all
from bundle.tests import makers
from bundle.tests.helpers import HEADER, NOW, Site
from bundle.tests.test_debs import FakeMirror
from tresor.bundle.manifest import parse_manifest

REVISION = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = makers.safetensors()
Configure = Callable[..., None]


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Return a function that writes the file of named sources."""
    path = tmp_path / "sources.yml"
    monkeypatch.setenv(sources.VARIABLE, str(path))

    def write(**entries: dict[str, Any]) -> None:
        path.write_text(yaml.safe_dump({"sources": entries}))

    return write


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serve ``tmp_path/www`` on loopback."""
    root = tmp_path / "www"
    root.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(root))

        def log_message(self, *_: Any) -> None:
            return

    instance = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=instance.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{instance.server_port}/"
    instance.shutdown()
    thread.join()
    instance.server_close()


def lay(root: Path, **contents: bytes) -> None:
    for name, raw in contents.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)


def row(raw: bytes, **changes: str) -> dict[str, str]:
    found = {
        "name": "grafana",
        "version": "12.0",
        "source": "grafana",
        "path": "release/grafana.bin",
        "licence": "AGPL-3.0-only",
        "sha256": hashlib.sha256(raw).hexdigest(),
    }
    return {**found, **changes}


@pytest.mark.parametrize("over_http", [False, True])
def test_file_comes_from_folder_or_server(
    over_http: bool, tmp_path: Path, server: str, configure: Configure, site: Site
) -> None:
    lay(tmp_path / "www", release__grafana_dot_bin=b"program")
    configure(grafana={"type": "files", "base": server if over_http else str(tmp_path / "www")})
    (entry,) = files.resolve([row(b"program")], site.store, "binaries-x")
    assert entry.file == "grafana.bin"
    assert "://" not in json.dumps(entry.to_json())
    fresh = BlobStore(tmp_path / "other")
    files.fetch([entry], fresh, "binaries-x")
    assert fresh.path(entry.sha256).read_bytes() == b"program"


def test_other_content_than_the_spec_says_is_refused(
    tmp_path: Path, configure: Configure, site: Site
) -> None:
    lay(tmp_path / "www", release__grafana_dot_bin=b"evil")
    configure(grafana={"type": "files", "base": str(tmp_path / "www")})
    with pytest.raises(DigestError, match="the spec says"):
        files.resolve([row(b"program")], site.store, "binaries-x")


def test_other_content_than_the_lock_says_is_refused(
    tmp_path: Path, configure: Configure, site: Site
) -> None:
    lay(tmp_path / "www", a=b"longer than the lock says")
    configure(x={"type": "files", "base": str(tmp_path / "www")})
    with pytest.raises(DigestError):
        sources.fetch(sources.get("x", "files"), "a", site.store, Blob("0" * 64, 3))


def test_file_without_a_published_digest_is_said(
    tmp_path: Path, configure: Configure, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    lay(tmp_path / "www", release__grafana_dot_bin=b"program")
    configure(grafana={"type": "files", "base": str(tmp_path / "www")})
    wanted = row(b"program")
    del wanted["sha256"]
    files.resolve([wanted], site.store, "binaries-x")
    assert "locked as it came" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../b", "a//b", "", "http://x", "a\\b"])
def test_path_leads_nowhere_else(path: str) -> None:
    with pytest.raises(SpecError):
        sources.Source("x", "files", "file:///srv/").url(path)


def test_source_must_be_configured_and_right(configure: Configure, tmp_path: Path) -> None:
    configure()
    with pytest.raises(FetchError, match="not configured here: add it to"):
        sources.get("grafana", "files")
    for entry, words in (
        ({"type": "ftp", "base": "/x"}, "type is one of"),
        ({"type": "files", "base": "ftp://x"}, "no folder, http or https"),
        ({"type": "files", "base": "x"}, "no folder, http or https"),
        ({"type": "files", "base": "/x", "token": "y"}, "keys are"),
        ({"type": "apt", "base": "/x", "key": "/absent"}, "is no file"),
    ):
        configure(grafana=entry)
        with pytest.raises(SpecError, match=words):
            sources.get("grafana", "files")
    configure(grafana={"type": "huggingface", "base": "/x"})
    with pytest.raises(FetchError, match="has the type"):
        sources.get("grafana", "files")
    with pytest.raises(FetchError, match=r"x: missing"):
        sources.fetch(
            sources.Source("x", "files", tmp_path.as_uri() + "/"),
            "missing",
            BlobStore(tmp_path / "c"),
        )


def snapshot(root: Path, prefix: str) -> None:
    for name, raw in (
        ("model.safetensors", WEIGHTS),
        ("config.json", b"{}"),
        ("modeling_x.py", b"import os"),
        ("pytorch_model.bin", b"\x80"),
        (".gitattributes", b""),
        ("onnx/model.onnx", b""),
    ):
        path = root / prefix / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)


WANT = {
    "name": "model-tiny",
    "source": {"snapshot_of": "hub", "repository": "owner/tiny", "revision": REVISION},
}


@pytest.mark.parametrize("prefix", ["owner/tiny", f"models--owner--tiny/snapshots/{REVISION}"])
def test_snapshot_of_a_folder(
    prefix: str, tmp_path: Path, configure: Configure, site: Site
) -> None:
    snapshot(tmp_path / "hub", prefix)
    configure(hub={"type": "huggingface", "base": str(tmp_path / "hub")})
    entries = snapshots.resolve(WANT, site.store)
    assert [entry.file for entry in entries] == ["config.json", "model.safetensors"]
    fresh = BlobStore(tmp_path / "other")
    snapshots.fetch(tuple(entries), fresh, "model-tiny")
    assert all(fresh.has(entry.blob) for entry in entries)


def test_snapshot_of_a_server(
    tmp_path: Path, server: str, configure: Configure, site: Site
) -> None:
    root = tmp_path / "www"
    snapshot(root, f"owner/tiny/resolve/{REVISION}")
    names = ["model.safetensors", "config.json", "modeling_x.py"]
    listing = {"sha": REVISION, "siblings": [{"rfilename": name} for name in names]}
    api = root / f"api/models/owner/tiny/revision/{REVISION}"
    api.parent.mkdir(parents=True)
    api.write_text(json.dumps(listing))
    configure(hub={"type": "huggingface", "base": server})
    entries = snapshots.resolve(WANT, site.store)
    assert [entry.file for entry in entries] == ["config.json", "model.safetensors"]
    api.write_text(json.dumps({**listing, "sha": "f" * 40}))
    with pytest.raises(FetchError, match="asked for"):
        snapshots.resolve(WANT, site.store)
    api.write_text("{}")
    with pytest.raises(FetchError, match="no listing"):
        snapshots.resolve(WANT, site.store)


def test_snapshot_without_weights_or_without_a_folder(
    tmp_path: Path, configure: Configure, site: Site
) -> None:
    configure(hub={"type": "huggingface", "base": str(tmp_path / "hub")})
    with pytest.raises(FetchError, match="neither"):
        snapshots.resolve(WANT, site.store)
    lay(tmp_path / "hub/owner/tiny", pytorch_model_dot_bin=b"x")
    with pytest.raises(SpecError, match="no safetensors file"):
        snapshots.resolve(WANT, site.store)


def test_adapter_and_binary_travel_in_a_bundle(
    tmp_path: Path, configure: Configure, small: Site
) -> None:
    hub = tmp_path / "hub/owner/lora"
    lay(
        hub,
        adapter_config_dot_json=b'{"peft_type": "LORA", "auto_mapping": null}',
        adapter_model_dot_safetensors=WEIGHTS,
    )
    lay(tmp_path / "www", release__tool=b"tool")
    configure(
        hub={"type": "huggingface", "base": str(tmp_path / "hub")},
        tools={"type": "files", "base": str(tmp_path / "www")},
    )
    source = {"snapshot_of": "hub", "repository": "owner/lora", "revision": REVISION}
    tool = {"name": "tool", "version": "1", "source": "tools", "path": "release/tool"}
    small.write_spec(
        "more.yml",
        {
            "parts": [
                {"name": "model-lora", "type": "model", "license": "MIT", "source": source},
                {
                    "name": "binaries-tools",
                    "type": "binaries",
                    "files": [{**tool, "licence": "MIT"}],
                },
            ]
        },
    )
    resolver = small.resolver()
    parts = ["model-lora", "binaries-tools"]
    assert lock_all(resolver, small.locks, ("product",), only=parts, upgrade=False) == [
        "binaries-tools",
        "model-lora",
    ]
    small.locks.write("bundle", HEADER.dump())
    built = build(resolver, small.locks, small.options(), NOW)
    (raw,) = (built.folder / "targets").glob("*.bundle.json")
    manifest = parse_manifest(raw.read_bytes())
    assert {model.name: model.revision for model in manifest.models}["lora"] == REVISION
    assert "binaries-tools" in [part.name for part in manifest.parts]


def test_vendor_gives_only_what_it_is_for() -> None:
    source = sources.Source("nvidia", "apt", "https://mirror.example.com/cuda/", "/", (), "/k.asc")
    vendor = Vendor(source, ("nvidia*", "libcuda*"))
    assert vendor.line() == "deb [signed-by=/k.asc] https://mirror.example.com/cuda/ /"
    assert vendor.prefix() == "mirror.example.com_cuda"
    assert vendor.is_at("https://mirror.example.com/cuda/")
    assert not vendor.is_at("https://mirror.example.com/cuda-evil/")
    folder = Vendor(sources.Source("x", "apt", "file:///srv/repo/", "/", (), "/k.asc"), ("x",))
    assert folder.prefix() == "_srv_repo"
    assert folder.is_at("file:/srv/repo/")
    text = preferences([vendor])
    assert text.split("\n\n")[0].splitlines() == [
        "Package: *",
        'Pin: origin "mirror.example.com"',
        "Pin-Priority: -1",
    ]
    assert "Package: nvidia* libcuda*\nPin: release o=Debian\nPin-Priority: -1" in text


def want(**changes: Any) -> dict[str, Any]:
    found = {
        "name": "debs-debian-12-x",
        "type": "debs",
        "codename": "bookworm",
        "architecture": "amd64",
        "baseline": {"priorities": [], "packages": ["base"]},
        "packages": ["proxy"],
    }
    return {**found, **changes}


def test_release_package_joins_the_repository(
    tmp_path: Path, configure: Configure, site: Site
) -> None:
    raw = makers.deb("milvus", "2.6.9-1", depends="proxy (>= 1), libc6 | libc6-udeb")
    lay(tmp_path / "www", v2__milvus_dot_deb=raw)
    configure(milvus={"type": "files", "base": str(tmp_path / "www")})
    file = row(raw, name="milvus", version="2.6.9-1", source="milvus", path="v2/milvus.deb")
    mirror = FakeMirror(tmp_path)
    asked: list[list[str]] = []
    real = mirror.closure

    def closure(packages: Any) -> Any:
        asked.append(list(packages))
        return real([name for name in packages if name != "libc6"])

    mirror.closure = closure  # type: ignore[method-assign]
    lock = debs.resolve(want(files=[file]), "sha256:" + "0" * 64, mirror, site.store)
    entry = lock.file("milvus")
    assert entry.file == "milvus_2.6.9-1_amd64.deb"
    assert entry.extra["source"] == "milvus"
    assert entry.extra["licence"] == "AGPL-3.0-only"
    assert "libc6" in asked[-1]
    with pytest.raises(SpecError, match="correct the spec"):
        debs.resolve(
            want(files=[{**file, "version": "2.6.8-1"}]), "sha256:" + "0" * 64, mirror, site.store
        )


def test_driver_and_fabric_manager_must_have_one_version(tmp_path: Path, site: Site) -> None:
    mirror = FakeMirror(tmp_path)
    with pytest.raises(
        FetchError, match=r"must have one version: proxy 1, libproxy 1, absent absent"
    ):
        debs.resolve(
            want(same_version=[["proxy", "libproxy"], ["proxy", "libproxy", "absent"]]),
            "sha256:" + "0" * 64,
            mirror,
            site.store,
        )
