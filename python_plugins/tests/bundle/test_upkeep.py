"""The store over time: two releases, garbage, scrub and repair, the way back."""

from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path

import pytest

from python_plugins.tests.bundle.helpers import Maker, Site
from tresor.bundle import stream, verity
from tresor.bundle.errors import BundleError, EnvironmentNotReadyError, UsageError
from tresor.bundle.machine import locked

WHY = "The new model answers too slowly"


def release(site: Site, maker: Maker, number: int) -> None:
    """Import and activate release ``number``, which has one content of its own."""
    maker.parts["distribution"][2]["release"] = f"only in {number}\n".encode()
    maker.make(id=f"2026.11-{number}", serial=number)
    site.full(maker)


def blob_of(site: Site, content: bytes) -> Path:
    return site.store.blob(hashlib.sha256(content).hexdigest())


def damage(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(0o444)


def test_two_releases_are_kept_and_no_content_of_older_ones(site: Site, maker: Maker) -> None:
    for number in (1, 2, 3):
        release(site, maker, number)
    assert [path.name for path in sorted((site.store.root / "releases").iterdir())] == [
        "2026.11-2",
        "2026.11-3",
    ]
    assert not blob_of(site, b"only in 1\n").exists()
    assert blob_of(site, b"only in 2\n").exists() and blob_of(site, b"deb").exists()
    assert "store.gc" in site.events() and "store.release-removed" in site.events()
    states = [json.loads(line)["state"] for line in site.store.journal.read_text().splitlines()]
    assert states.count("SUPERSEDED") == 2
    receipts = sorted((site.store.state / "receipts").iterdir())
    assert len(receipts) == 3, "what was ever active stays on record"


def test_waiting_bundle_is_a_root_for_the_garbage_collection(site: Site, maker: Maker) -> None:
    release(site, maker, 1)
    maker.parts["distribution"][2]["release"] = b"waits\n"
    maker.make(id="2026.11-2", serial=2)
    site.take(maker)
    stray = site.store.blob("ab" * 32)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"left by nobody knows whom")
    with locked(site.store):
        assert site.importer().collect_garbage() == (1, 25)
        assert site.importer().collect_garbage() == (0, 0)
    assert blob_of(site, b"waits\n").exists()


def test_garbage_is_not_collected_when_a_manifest_is_lost(site: Site, maker: Maker) -> None:
    release(site, maker, 1)
    next((site.store.state / "manifests").iterdir()).unlink()
    with locked(site.store), pytest.raises(EnvironmentNotReadyError, match=r"state\.manifest"):
        site.importer().collect_garbage()
    assert blob_of(site, b"deb").exists()


def test_switch_goes_back_to_a_kept_release_with_a_name_and_a_reason(
    site: Site, maker: Maker
) -> None:
    release(site, maker, 1)
    release(site, maker, 2)
    with locked(site.store):
        with pytest.raises(UsageError, match=r"approval\.reason"):
            site.importer().switch("2026.11-1", "alice", "why not")
        with pytest.raises(UsageError, match=r"state\.release"):
            site.importer().switch("../../etc", "alice", WHY)
        assert site.importer().switch("2026.11-1", "alice", WHY).changed
    assert (site.store.current / "tree/distribution/release").read_bytes() == b"only in 1\n"
    event = json.loads(site.store.events.read_text().splitlines()[-1])
    assert (event["event"], event["person"], event["reason"]) == (
        "import.rolled_back",
        "alice",
        WHY,
    )
    # Back then is not back for ever: an older bundle from a medium is still refused.
    maker.make(id="2026.11-1b", serial=1)
    with pytest.raises(BundleError, match=r"signature\.version"):
        site.take(maker)


def test_switch_to_a_release_that_was_changed_is_stopped(site: Site, maker: Maker) -> None:
    release(site, maker, 1)
    release(site, maker, 2)
    damage(blob_of(site, b"only in 1\n"), b"changed!!\n")
    with locked(site.store), pytest.raises(EnvironmentNotReadyError, match=r"state\.content"):
        site.importer().switch("2026.11-1", "alice", WHY)
    assert str(site.store.current.readlink()) == "releases/2026.11-2"
    assert site.events()[-1] == "store.switch-stopped"


def test_scrub_finds_damage_and_the_medium_repairs_it(site: Site, maker: Maker) -> None:
    release(site, maker, 1)
    with locked(site.store):
        assert site.importer().scrub() == []
    assert not site.take(maker).changed
    damage(blob_of(site, b"deb"), b"dec")
    with locked(site.store):
        findings = site.importer().scrub()
    assert any("pool/x_1_amd64.deb" in item for item in findings)
    assert site.events()[-1] == "store.scrub.bad"
    repaired = site.take(maker)
    assert repaired.state == "ACTIVE" and repaired.changed
    tree = site.store.current / "tree"
    assert (tree / "debs-debian-12/pool/x_1_amd64.deb").read_bytes() == b"deb"
    with locked(site.store):
        assert site.importer().scrub() == []
    assert not site.take(maker).changed


def test_one_person_can_stop_a_release_but_not_make_one(site: Site, maker: Maker) -> None:
    maker.make()
    digest = site.take(maker).bundle
    site.approve("alice")
    with locked(site.store):
        site.importer().withdraw("bob", "The licence of the new model is not cleared")
    assert not blob_of(site, b"deb").exists()
    assert site.events()[-2:] == ["import.withdrawn", "store.gc"]
    with pytest.raises(UsageError, match=r"state\.pending"):
        site.activate()
    assert site.take(maker).state == "AWAIT_APPROVAL"
    assert not site.store.approvals(digest).exists(), "approvals of before do not count"


def test_sealing_says_what_the_kernel_guards(tmp_path: Path) -> None:
    paths = [tmp_path / "one", tmp_path / "other"]
    for path in paths:
        path.write_bytes(b"content")
    # Both answers are right here: it depends on kernel and file system. They must agree.
    sealed = verity.seal_all(paths)
    assert sealed == sum(verity.measure(path) is not None for path in paths)
    assert verity.measure(tmp_path / "none") is None


def test_failed_read_of_a_large_file_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as an error of the buffers, which the failed read still holds."""
    path = tmp_path / "large"
    path.write_bytes(bytes(stream.DIRECT_MIN_BYTES + 5))

    def preadv(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(stream.os, "preadv", preadv)
    with pytest.raises(OSError, match="Input/output error"):
        stream.hash_file(path)


def test_content_that_cannot_be_read_is_found_and_repaired(
    site: Site, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As fs-verity answers for a sealed content that changed underneath: EIO, at every reading."""
    release(site, maker, 1)
    broken = blob_of(site, b"deb").stat().st_ino
    real = stream.hash_prefix

    def hash_prefix(path: Path, length: int | None = None) -> object:
        if path.stat().st_ino == broken:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return real(path, length)

    monkeypatch.setattr(stream, "hash_prefix", hash_prefix)
    with locked(site.store):
        findings = site.importer().scrub()
    assert any("x_1_amd64.deb: cannot be read" in item for item in findings)
    assert site.events()[-1] == "store.scrub.bad"
    assert site.take(maker).message.startswith("repaired")
    assert blob_of(site, b"deb").stat().st_ino != broken
    with locked(site.store):
        assert site.importer().scrub() == []
