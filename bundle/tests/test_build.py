"""A build is determined by spec, locks and working tree, and is refused when they disagree."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle.builder.build import build
from bundle.builder.errors import DigestError, FetchError, LockError, SpecError
from bundle.tests.helpers import NOW, Site
from tresor.bundle.manifest import parse_manifest
from tresor.bundle.signing import create_lab_keys

Read = Callable[[Path], dict[str, object]]


def raw_manifest(folder: Path) -> bytes:
    (path,) = (folder / "targets").glob("*.bundle.json")
    return path.read_bytes()


def test_two_builds_of_one_lock_are_byte_identical(small: Site) -> None:
    first = build(small.resolver(), small.locks, small.options(), NOW)
    raw = raw_manifest(first.folder)
    importer = (first.folder / "bootstrap/importer.pyz").read_bytes()
    shutil.rmtree(small.context.cache / "results")  # nothing may depend on what is remembered
    second = build(small.resolver(), small.locks, small.options(), NOW)
    assert first.changed and not second.changed
    assert raw_manifest(second.folder) == raw
    assert (second.folder / "bootstrap/importer.pyz").read_bytes() == importer


def test_manifest_is_what_the_importer_reads(small: Site) -> None:
    built = build(small.resolver(), small.locks, small.options(), NOW)
    manifest = parse_manifest(raw_manifest(built.folder))
    assert manifest.id == "2026.11-7"
    assert [part.name for part in manifest.parts] == [
        "distribution",
        "model-tiny",
        "npm-idp",
        "policy-report",
        "policy-sbom",
        "wheels-demo",
    ]
    assert {part.name: part.scope for part in manifest.parts}["npm-idp"] == "lab"
    for digest, entry in manifest.blobs().items():
        blob = built.folder / "blobs" / digest[:2] / digest
        assert blob.stat().st_size == entry.size


def test_bundle_holds_nothing_that_the_manifest_does_not_list(small: Site) -> None:
    built = build(small.resolver(), small.locks, small.options(), NOW)
    listed = set(parse_manifest(raw_manifest(built.folder)).blobs())
    assert {path.name for path in (built.folder / "blobs").rglob("*") if path.is_file()} == listed


def test_product_scope_leaves_lab_parts_out(small: Site, manifest_of: Read) -> None:
    built = build(small.resolver(), small.locks, small.options(scopes=("product",)), NOW)
    parts = manifest_of(built.folder)["parts"]
    assert isinstance(parts, list)
    assert {part["scope"] for part in parts} == {"product"}


def test_model_carries_only_allowed_files(small: Site) -> None:
    built = build(small.resolver(), small.locks, small.options(), NOW)
    parts = {part.name: part for part in parse_manifest(raw_manifest(built.folder)).parts}
    assert [entry.path for entry in parts["model-tiny"].files] == [
        "config.json",
        "model.safetensors",
    ]


def test_environment_lists_every_wheel_with_its_hash(small: Site) -> None:
    built = build(small.resolver(), small.locks, small.options(), NOW)
    parts = {part.name: part for part in parse_manifest(raw_manifest(built.folder)).parts}
    files = {entry.path: entry for entry in parts["wheels-demo"].files}
    requirements = files["requirements.txt"]
    text = (built.folder / "blobs" / requirements.sha256[:2] / requirements.sha256).read_text()
    wheels = {entry.sha256 for path, entry in files.items() if path.endswith(".whl")}
    assert {line.rpartition(":")[2] for line in text.splitlines()} == wheels
    assert "alias==1.0+cpu --hash=" in text
    described = files["environment.json"]
    environment = json.loads(
        (built.folder / "blobs" / described.sha256[:2] / described.sha256).read_text()
    )
    assert environment == {
        "name": "demo",
        "version": "1.0",
        "python": "3.11",
        "requirements_sha256": requirements.sha256,
    }


def test_changed_model_output_is_refused(small: Site) -> None:
    path = small.locks.path("model-tiny")
    data = json.loads(path.read_text())
    data["details"]["outputs"][0]["sha256"] = "0" * 64
    path.write_text(json.dumps(data))
    with pytest.raises(DigestError, match=r"config\.json .* the lock says .* lock --upgrade"):
        build(small.resolver(), small.locks, small.options(), NOW)
    assert not (small.out / "bundle").exists()


def test_changed_spec_needs_a_new_lock(small: Site) -> None:
    path = small.spec_dir / "parts.yml"
    path.write_text(path.read_text().replace("demo==1.0", "demo==1.1"))
    with pytest.raises(LockError, match=r"wheels-demo changed .* lock --part wheels-demo"):
        build(small.resolver(), small.locks, small.options(), NOW)


def test_missing_lock_is_named(small: Site) -> None:
    small.locks.remove("wheels-demo")
    with pytest.raises(LockError, match="wheels-demo has no lock"):
        build(small.resolver(), small.locks, small.options(), NOW)


def test_mutated_lock_digest_is_refused(small: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A digest that no delivered file has never becomes part of a bundle."""
    path = small.locks.path("wheels-demo")
    data = json.loads(path.read_text())
    data["files"][0]["sha256"] = "a" * 64
    path.write_text(json.dumps(data))

    def deliver(args: list[str], **_: object) -> str:
        folder = Path(args[args.index("-d") + 1])
        folder.mkdir()
        shutil.copy(small.wheels / "demo-1.0-py3-none-any.whl", folder)
        return ""

    monkeypatch.setattr("bundle.builder.wheels.run", deliver)
    with pytest.raises(DigestError, match=r"the lock says a{64}"):
        build(small.resolver(), small.locks, small.options(), NOW)
    assert not (small.out / "bundle").exists()
    assert not list((small.context.cache / "tmp").iterdir())


def test_failing_client_leaves_the_former_bundle(
    small: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = build(small.resolver(), small.locks, small.options(), NOW)
    raw = raw_manifest(before.folder)
    shutil.rmtree(small.context.cache / "blobs")

    def refuse(*_: object, **__: object) -> str:
        raise FetchError("no network")

    for client in ("wheels", "npm"):
        monkeypatch.setattr(f"bundle.builder.{client}.run", refuse)
    with pytest.raises(FetchError):
        build(small.resolver(), small.locks, small.options(), NOW)
    assert raw_manifest(before.folder) == raw


def test_damaged_cache_is_found_when_asked(small: Site) -> None:
    build(small.resolver(), small.locks, small.options(), NOW)
    (entry,) = (small.locks.read("npm-idp") or pytest.fail("no lock")).files
    path = small.store.path(entry.sha256)
    path.chmod(0o644)
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(DigestError, match="was damaged"):
        build(small.resolver(), small.locks, small.options(verify=True), NOW)
    assert not path.exists()


def test_expired_header_is_refused_and_renewed_only_on_demand(small: Site) -> None:
    later = NOW.replace(year=2028)
    with pytest.raises(LockError, match="expired at 2027-05-22"):
        build(small.resolver(), small.locks, small.options(), later)
    built = build(small.resolver(), small.locks, small.options(relock_missing=True), later)
    assert built.id == "2026.11-7+relock"
    assert parse_manifest(raw_manifest(built.folder)).expires > later


def test_serial_override_renames_the_bundle(small: Site) -> None:
    built = build(small.resolver(), small.locks, small.options(serial=42), NOW)
    manifest = parse_manifest(raw_manifest(built.folder))
    assert (manifest.id, manifest.serial) == ("2026.11-42", 42)


def test_signed_build_has_metadata_and_fingerprint(small: Site, tmp_path: Path) -> None:
    fingerprint = create_lab_keys(tmp_path / "keys")
    built = build(small.resolver(), small.locks, small.options(keys=tmp_path / "keys"), NOW)
    assert built.signed
    assert (built.folder / "tuf/timestamp.json").exists()
    assert (built.folder / "bootstrap/root.sha256").read_text().strip() == fingerprint


def test_link_in_the_distribution_is_refused(small: Site) -> None:
    (small.root / "playbooks/link.yml").symlink_to("site.yml")
    with pytest.raises(SpecError, match="symbolic link"):
        build(small.resolver(), small.locks, small.options(), NOW)


def test_distribution_leaves_tests_and_caches_behind(small: Site, manifest_of: Read) -> None:
    for name in ("tests/test_x.py", "__pycache__/x.pyc", ".hidden", "old.yml~"):
        path = small.root / "playbooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    built = build(small.resolver(), small.locks, small.options(), NOW)
    parts = manifest_of(built.folder)["parts"]
    assert isinstance(parts, list)
    (part,) = [part for part in parts if part["name"] == "distribution"]
    assert [entry["path"] for entry in part["files"]] == ["playbooks/site.yml"]


def test_effective_locks_lie_beside_the_bundle(small: Site) -> None:
    build(small.resolver(), small.locks, small.options(), NOW)
    for name in ("bundle", *small.locks.names()):
        assert (small.out / "lock" / f"{name}.json").exists()
    assert sorted(path.name for path in small.out.iterdir()) == ["bundle", "gates.json", "lock"]
