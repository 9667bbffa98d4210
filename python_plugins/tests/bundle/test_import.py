"""The importer end to end, and every way a bundle or an operator can be wrong."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import pytest

from python_plugins.tests.bundle.helpers import NOW, Maker, Site, wheel_part
from tresor.bundle import copier, release
from tresor.bundle.errors import BundleError, EnvironmentNotReadyError, RejectedError, UsageError
from tresor.bundle.machine import Machine, locked
from tresor.bundle.manifest import model_digest, parse_manifest
from tresor.bundle.signing import create_lab_keys


def tree(site: Site) -> Path:
    return site.store.current / "tree"


def nothing_active(site: Site) -> bool:
    return not site.store.current.exists() and not any((site.store.root / "releases").iterdir())


def test_good_bundle_becomes_the_current_release(site: Site, maker: Maker) -> None:
    maker.make()
    assert site.take(maker).state == "AWAIT_APPROVAL"
    assert nothing_active(site)
    site.approve("alice")
    site.approve("bob")
    assert site.activate().state == "ACTIVE"
    assert (tree(site) / "distribution/playbooks/site.yml").read_bytes() == b"---\n"
    assert str(site.store.current.readlink()) == "releases/2026.11-1"
    linked = (tree(site) / "debs-debian-12/pool/x_1_amd64.deb").stat()
    assert linked.st_nlink == 2 and linked.st_mode & 0o777 == 0o444
    record = json.loads((site.store.current / "release.json").read_bytes())["tresor_release"]
    manifest = parse_manifest(next((maker.bundle / "targets").iterdir()).read_bytes())
    tiny = next(part for part in manifest.parts if part.name == "model-tiny")
    assert record["models"]["tiny"]["digest"] == model_digest(tiny.files)
    assert record["environments"]["demo"]["part"] == "wheels-demo"
    assert record["debs"] == {"debian-12": {"part": "debs-debian-12"}}
    receipt = json.loads((site.store.current / "receipt.json").read_bytes())
    assert [item["person"] for item in receipt["approvals"]] == ["alice", "bob"]
    assert site.events() == [
        "import.seen",
        "import.verified",
        "import.copied",
        "import.awaits-approval",
        "import.approved",
        "import.approved",
        "import.activated",
    ]
    assert not any((site.store.root / "staging").iterdir())


def test_single_files_stand_in_the_record_like_models(site: Site, maker: Maker) -> None:
    """A host brings and verifies vocabularies by the digest of their list."""
    words = {"o200k_base.tiktoken": b"IQ== 0\n", "cl100k_base.tiktoken": b"Ig== 1\n"}
    maker.parts["binaries-tiktoken"] = ("binaries", "product", words)
    maker.make()
    site.full(maker)
    content = json.loads((site.store.current / "release.json").read_bytes())
    found = content["tresor_release"]["binaries"]["tiktoken"]
    manifest = parse_manifest(next((maker.bundle / "targets").iterdir()).read_bytes())
    part = next(part for part in manifest.parts if part.name == "binaries-tiktoken")
    assert (found["part"], found["digest"]) == ("binaries-tiktoken", model_digest(part.files))
    assert [one["path"] for one in found["files"]] == sorted(words)
    schemas = Path(__file__).parents[2] / "module_utils/tresor/schema"
    jsonschema.validate(content, json.loads((schemas / "release.schema.json").read_bytes()))


def test_repeated_commands_change_nothing(site: Site, maker: Maker) -> None:
    maker.make()
    assert site.take(maker).changed
    assert not site.take(maker).changed
    assert site.approve("alice").changed
    assert not site.approve("alice").changed
    site.approve("bob")
    assert site.activate().changed
    assert not site.activate().changed
    assert (site.take(maker).state, site.take(maker).changed) == ("ACTIVE", False)


def test_second_release_keeps_the_first_and_reuses_contents(site: Site, maker: Maker) -> None:
    maker.make()
    site.full(maker)
    maker.parts["distribution"][2]["playbooks/new.yml"] = b"--- # new\n"
    maker.make(id="2026.11-2", serial=2)
    site.take(maker)
    record = [json.loads(line) for line in site.store.events.read_text().splitlines()]
    assert [item["files"] for item in record if item["event"] == "import.copied"][-1] == 1
    site.approve("alice")
    site.approve("bob")
    site.activate()
    assert (site.store.release("2026.11-1") / "tree").is_dir()
    assert str(site.store.current.readlink()) == "releases/2026.11-2"


def flipped_blob(maker: Maker) -> None:
    maker.blob(b"deb").write_bytes(b"dec")


def truncated_blob(maker: Maker) -> None:
    maker.blob(b"deb").write_bytes(b"de")


def missing_blob(maker: Maker) -> None:
    maker.blob(b"deb").unlink()


def extra_file(maker: Maker) -> None:
    (maker.bundle / "blobs" / "autorun.sh").write_bytes(b"")


def extra_metadata(maker: Maker) -> None:
    (maker.bundle / "tuf" / "9.targets.json").write_bytes(b"{}")


def symlinked_blob(maker: Maker) -> None:
    path = maker.blob(b"deb")
    path.unlink()
    path.symlink_to("/etc/hostname")


def symlinked_folder(maker: Maker) -> None:
    (maker.bundle / "extra").symlink_to("/etc")


def fifo(maker: Maker) -> None:
    os.mkfifo(maker.bundle / "pipe")


def missing_manifest(maker: Maker) -> None:
    next((maker.bundle / "targets").iterdir()).unlink()


def changed_manifest(maker: Maker) -> None:
    path = next((maker.bundle / "targets").iterdir())
    path.write_bytes(path.read_bytes().replace(b'"serial":1', b'"serial":7'))


def longer_manifest(maker: Maker) -> None:
    path = next((maker.bundle / "targets").iterdir())
    path.write_bytes(path.read_bytes() + b" ")


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (flipped_blob, "content.digest"),
        (truncated_blob, "content.size"),
        (missing_blob, "content.missing"),
        (extra_file, "medium.extra"),
        (extra_metadata, "medium.extra"),
        (symlinked_blob, "medium.type"),
        (symlinked_folder, "medium.type"),
        (fifo, "medium.type"),
        (missing_manifest, "signature.target"),
        (changed_manifest, "signature.target"),
        (longer_manifest, "medium.size"),
    ],
)
def test_damaged_medium_is_rejected_and_leaves_only_the_reason(
    site: Site, maker: Maker, damage: object, rule: str
) -> None:
    maker.make()
    damage(maker)  # type: ignore[operator]
    with pytest.raises(RejectedError) as caught:
        site.take(maker)
    assert caught.value.rule == rule
    assert nothing_active(site)
    assert not any((site.store.root / "staging").iterdir())
    quarantine = list((site.store.root / "quarantine").iterdir())
    assert len(quarantine) == 1
    assert json.loads((quarantine[0] / "reason.json").read_bytes())["rule"] == rule
    assert {path.name for path in quarantine[0].iterdir()} <= {
        "reason.json",
        "timestamp.json",
        "1.root.json",
    }
    assert site.events()[-1] == "import.rejected"
    with pytest.raises(UsageError):
        site.activate()


def test_medium_that_was_repaired_is_accepted(site: Site, maker: Maker) -> None:
    maker.make()
    flipped_blob(maker)
    with pytest.raises(RejectedError):
        site.take(maker)
    maker.blob(b"deb").write_bytes(b"deb")
    assert site.take(maker).state == "AWAIT_APPROVAL"


def test_bundle_of_other_keys_is_rejected(site: Site, maker: Maker, tmp_path: Path) -> None:
    create_lab_keys(tmp_path / "other")
    known = maker.fingerprint
    maker.keys = tmp_path / "other"
    maker.make()
    with pytest.raises(RejectedError, match=r"signature\.root-fingerprint"):
        site.take(maker, fingerprint=known)


def test_other_root_after_the_first_import_is_rejected(
    site: Site, maker: Maker, tmp_path: Path
) -> None:
    maker.make()
    site.full(maker)
    other = create_lab_keys(tmp_path / "other")
    maker.keys = tmp_path / "other"
    maker.make(id="2026.11-2", serial=2)
    with pytest.raises(RejectedError, match=r"signature\.root-fingerprint"):
        site.take(maker, fingerprint=other)
    with pytest.raises(RejectedError, match=r"signature\.root-changed"):
        site.take(maker)


def test_older_bundle_is_rejected_after_a_newer_one(site: Site, maker: Maker) -> None:
    maker.make(id="2026.11-1", serial=5)
    site.full(maker)
    maker.make(id="2026.11-0", serial=4)
    with pytest.raises(RejectedError, match=r"signature\.version"):
        site.take(maker)


def test_older_serial_under_newer_metadata_is_rejected(site: Site, maker: Maker) -> None:
    maker.make(id="2026.11-1", serial=5)
    site.full(maker)
    maker.make(id="2026.11-0", serial=4)
    maker.sign(version=9)
    with pytest.raises(RejectedError, match=r"fit\.serial"):
        site.take(maker)


def test_two_bundles_under_one_serial_are_rejected(site: Site, maker: Maker) -> None:
    maker.make()
    site.full(maker)
    maker.make(id="2026.11-9")
    with pytest.raises(RejectedError, match=r"signature\.version-reused"):
        site.take(maker)


@pytest.mark.parametrize(
    ("change", "options", "rule"),
    [
        ({"audience": {"site": "other", "arch": ["amd64"], "os": ["debian-13"]}}, {}, "fit.site"),
        ({"audience": {"site": "*", "arch": ["arm64"], "os": ["debian-13"]}}, {}, "fit.arch"),
        ({}, {"machine": Machine("amd64", "fedora-44")}, "fit.os"),
        ({}, {"lab": False}, "signature.threshold"),
        ({}, {"now": NOW + timedelta(days=400)}, "signature.expired"),
        ({"base": {"id": "x", "digest": "sha256:" + "0" * 64}}, {}, "fit.base"),
    ],
)
def test_bundle_that_does_not_fit_is_rejected(
    site: Site, maker: Maker, change: dict[str, object], options: dict[str, object], rule: str
) -> None:
    maker.make(**change)
    with pytest.raises(RejectedError) as caught:
        site.take(maker, **options)  # type: ignore[arg-type]
    assert caught.value.rule == rule


def test_bundle_for_another_site_does_not_raise_the_version_floor(site: Site, maker: Maker) -> None:
    audience = {"site": "other", "arch": ["amd64"], "os": ["debian-13"]}
    maker.make(serial=9, id="other-9", audience=audience)
    with pytest.raises(RejectedError):
        site.take(maker)
    maker.make(serial=2, id="ours-2")
    assert site.take(maker).state == "AWAIT_APPROVAL"


def test_clock_before_the_bundle_is_an_environment_error(site: Site, maker: Maker) -> None:
    maker.make()
    with pytest.raises(EnvironmentNotReadyError, match=r"environment\.clock"):
        site.take(maker, now=datetime(2026, 1, 1, tzinfo=UTC))


def test_clock_set_back_does_not_revive_an_expired_bundle(site: Site, maker: Maker) -> None:
    maker.make(created="2026-11-20T00:00:00Z")
    site.full(maker)
    maker.make(
        id="2026.11-2", serial=2, created="2026-10-01T00:00:00Z", expires="2026-11-01T00:00:00Z"
    )
    with pytest.raises(RejectedError, match=r"signature\.expired"):
        site.take(maker, now=datetime(2026, 10, 15, tzinfo=UTC))
    assert "clock.suspect" in site.events()


def wheel_not_pinned(maker: Maker) -> None:
    maker.parts["wheels-demo"][2]["evil-1-py3-none-any.whl"] = b"evil"


def wheel_absent(maker: Maker) -> None:
    del maker.parts["wheels-demo"][2]["demo_x-1.0-py3-none-any.whl"]


def requirements_open(maker: Maker) -> None:
    maker.parts["wheels-demo"][2]["requirements.txt"] = b"demo-x>=1\n"


def environment_wrong(maker: Maker) -> None:
    files = wheel_part("other", "demo_x-1.0-py3-none-any.whl", b"w")
    maker.parts["wheels-demo"] = ("wheels", "product", files)


def debs_without_index(maker: Maker) -> None:
    del maker.parts["debs-debian-12"][2]["dists/site/Release"]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (wheel_not_pinned, "content.wheels"),
        (wheel_absent, "content.wheels"),
        (requirements_open, "content.wheels"),
        (environment_wrong, "content.wheels"),
        (debs_without_index, "content.debs"),
    ],
)
def test_correctly_signed_but_wrong_content_is_rejected(
    site: Site, maker: Maker, change: object, rule: str
) -> None:
    change(maker)  # type: ignore[operator]
    maker.make()
    with pytest.raises(RejectedError) as caught:
        site.take(maker)
    assert caught.value.rule == rule
    assert not any((site.store.root / "staging").iterdir())
    assert not any((site.store.root / "blobs").rglob("*"))


def test_medium_pulled_out_is_resumable(
    site: Site, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker.make()
    away = maker.root / "away"
    real = copier.Copier._copy_small
    copied: list[str] = []
    pulls: list[bool] = []

    def pulled(self: copier.Copier, entry: object) -> None:
        if len(copied) == 2 and not pulls:
            pulls.append(True)
            maker.bundle.rename(away)
        real(self, entry)  # type: ignore[arg-type]
        copied.append(entry.sha256)  # type: ignore[attr-defined]

    monkeypatch.setattr(copier.Copier, "_copy_small", pulled)
    monkeypatch.setattr(copier, "WORKERS", 1)
    with pytest.raises(EnvironmentNotReadyError, match=r"medium\.gone"):
        site.take(maker)
    assert nothing_active(site)
    assert site.events()[-1] == "import.interrupted"
    away.rename(maker.bundle)
    before = len(copied)
    assert site.take(maker).state == "AWAIT_APPROVAL"
    distinct = {c for _, _, files in maker.parts.values() for c in files.values()}
    assert len(copied) - before == len(distinct) - before, "staged contents were copied twice"


def test_killed_importer_continues(site: Site, maker: Maker, tmp_path: Path) -> None:
    maker.make()
    store = site.store
    with locked(store):
        pass
    manifest = parse_manifest(next((maker.bundle / "targets").iterdir()).read_bytes())
    staging = store.staging(manifest.digest)
    staging.mkdir()
    entry = next(e for e in manifest.blobs().values() if e.size == 3)
    (staging / f"{entry.sha256}.part").write_bytes(b"half")
    other = next(e for e in manifest.blobs().values() if e.size > 10)
    (staging / other.sha256).write_bytes(b"\0" * other.size)  # torn by a power cut
    store.journal.write_bytes(b'{"state":"SEEN"')  # a line cut short
    site.full(maker)
    with locked(store):
        assert site.importer().verify_store() == []


def test_one_importer_at_a_time(site: Site, maker: Maker) -> None:
    maker.make()
    with (
        locked(site.store),
        pytest.raises(EnvironmentNotReadyError, match=r"environment\.locked"),
        locked(site.store),
    ):
        pass


def test_too_little_space_is_an_environment_error(
    site: Site, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker.make()
    monkeypatch.setattr(copier, "SPACE_MARGIN", 1e15)
    with pytest.raises(EnvironmentNotReadyError, match=r"space\.missing"):
        site.take(maker)
    assert nothing_active(site)


def test_no_medium_is_an_environment_error(site: Site, maker: Maker) -> None:
    with pytest.raises(EnvironmentNotReadyError, match=r"medium\.absent"):
        site.take(maker)


def test_one_person_cannot_approve_twice(site: Site, maker: Maker, tmp_path: Path) -> None:
    maker.make()
    site.take(maker)
    with pytest.raises(RejectedError, match=r"approval\.count"):
        site.activate()
    site.approve("alice")
    second = tmp_path / "second"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(second)], check=True)
    with site.signers.open("a") as stream:
        stream.write(f'alice namespaces="tresor-approve" {second.with_suffix(".pub").read_text()}')
    site.approve("alice", second)
    with pytest.raises(RejectedError, match=r"approval\.count"):
        site.activate()
    assert nothing_active(site)


def test_one_key_cannot_approve_for_two_people(site: Site, maker: Maker) -> None:
    maker.make()
    site.take(maker)
    public = site.people["alice"].with_suffix(".pub").read_text()
    with site.signers.open("a") as stream:
        stream.write(f'carol namespaces="tresor-approve" {public}')
    site.approve("alice")
    with pytest.raises(RejectedError, match=r"approval\.same-key"):
        site.approve("carol", site.people["alice"])


def test_approval_of_a_stranger_or_for_another_bundle_is_refused(site: Site, maker: Maker) -> None:
    maker.make()
    site.take(maker)
    with pytest.raises(RejectedError, match=r"approval\.signature"):
        site.approve("mallory", site.people["alice"])
    site.approve("alice")
    signatures = next((site.store.state / "approvals").iterdir())
    maker.make(id="2026.11-2", serial=2)
    outcome = site.take(maker)
    signatures.rename(site.store.approvals(outcome.bundle))
    with pytest.raises(RejectedError, match=r"approval\.kept"):
        site.activate()


def test_list_of_approvers_that_others_may_write_is_refused(site: Site, maker: Maker) -> None:
    maker.make()
    site.take(maker)
    site.signers.chmod(0o666)
    with pytest.raises(EnvironmentNotReadyError, match=r"approval\.allowed-signers"):
        site.approve("alice")


def test_list_of_approvers_of_another_owner_is_refused(
    site: Site, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker.make()
    site.take(maker)
    if os.geteuid() == 0:
        os.chown(site.signers, 65534, -1)
    else:  # the importer of root sees our file as a stranger's
        monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(EnvironmentNotReadyError, match=r"approval\.allowed-signers.*chown root"):
        site.approve("alice")


def test_list_of_approvers_in_a_folder_that_others_may_write_is_refused(
    site: Site, maker: Maker
) -> None:
    maker.make()
    site.take(maker)
    site.signers.parent.chmod(0o777)
    with pytest.raises(
        EnvironmentNotReadyError, match=r"approval\.allowed-signers.*chmod"
    ) as error:
        site.approve("alice")
    assert error.value.path == str(site.signers.parent)


def test_list_of_approvers_behind_a_link_is_refused(
    site: Site, maker: Maker, tmp_path: Path
) -> None:
    maker.make()
    site.take(maker)
    elsewhere = tmp_path / "elsewhere"
    site.signers.rename(elsewhere)
    site.signers.symlink_to(elsewhere)
    with pytest.raises(EnvironmentNotReadyError, match=r"approval\.allowed-signers"):
        site.approve("alice")


@pytest.mark.parametrize("command", ["approve", "activate"])
def test_approval_of_someone_who_left_names_the_file_to_remove(
    site: Site, maker: Maker, command: str
) -> None:
    maker.make()
    digest = site.take(maker).bundle
    site.approve("alice")
    lines = site.signers.read_text().splitlines(keepends=True)
    site.signers.write_text("".join(line for line in lines if not line.startswith("alice ")))
    kept = site.store.approvals(digest) / "alice.sig"
    with pytest.raises(RejectedError, match=rf"approval\.kept.*alice.*rm {kept}"):
        site.approve("bob") if command == "approve" else site.activate()
    kept.unlink()
    assert site.approve("bob").changed


def damaged_at_rest(blob: Path) -> None:
    blob.chmod(0o644)
    blob.write_bytes(b"dec")


def lost_at_rest(blob: Path) -> None:
    blob.unlink()


@pytest.mark.parametrize("damage", [damaged_at_rest, lost_at_rest])
def test_blob_changed_between_import_and_activate_stops_the_activation(
    site: Site, maker: Maker, damage: Callable[[Path], None]
) -> None:
    maker.make()
    site.take(maker)
    site.approve("alice")
    site.approve("bob")
    damage(site.store.blob(hashlib.sha256(b"deb").hexdigest()))
    with pytest.raises(EnvironmentNotReadyError, match=r"state\.content.*import"):
        site.activate()
    assert nothing_active(site)
    assert site.events()[-1] == "import.activation-stopped"
    assert site.take(maker).changed, "the same medium replaces what was damaged"
    assert not site.take(maker).changed
    assert site.activate().state == "ACTIVE"
    with locked(site.store):
        assert site.importer().verify_store() == []


def test_release_left_by_a_killed_activation_is_made_again(
    site: Site, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker.make()
    site.take(maker)
    site.approve("alice")
    site.approve("bob")
    with monkeypatch.context() as patch:
        patch.setattr(
            release, "switch_current", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            site.activate()
    damaged_at_rest(site.store.release("2026.11-1") / "tree/debs-debian-12/pool/x_1_amd64.deb")
    assert site.take(maker).changed
    site.activate()
    with locked(site.store):
        assert site.importer().verify_store() == []


def test_store_damage_is_found(site: Site, maker: Maker) -> None:
    maker.make()
    site.full(maker)
    path = tree(site) / "debs-debian-12/pool/x_1_amd64.deb"
    path.chmod(0o644)
    path.write_bytes(b"dec")
    with locked(site.store):
        findings = site.importer().verify_store()
    assert any("content is not what was imported" in item for item in findings)
    assert any("is writable" in item for item in findings)


def test_changed_journal_is_noticed(site: Site, maker: Maker) -> None:
    maker.make()
    site.take(maker)
    text = site.store.events.read_text().replace("import.seen", "import.sean")
    site.store.events.write_text(text)
    with locked(site.store), pytest.raises(BundleError, match=r"state\.chain"):
        site.importer().events.read()


def test_sharded_content_is_joined_and_checked(site: Site, maker: Maker) -> None:
    big = bytes(range(256)) * 10
    maker.parts["distribution"][2]["big"] = big
    document = maker.manifest()
    digests = [hashlib.sha256(big[i : i + 1024]).hexdigest() for i in range(0, len(big), 1024)]
    for part in document["parts"]:  # type: ignore[attr-defined]
        for entry in part["files"]:
            if entry["path"] == "big":
                entry["shards"] = {"size": 1024, "sha256": digests}
    maker.make(parts=document["parts"])
    whole = maker.blob(big)
    for number in range(3):
        whole.with_name(f"{whole.name}.s{number:04d}").write_bytes(
            big[number * 1024 : (number + 1) * 1024]
        )
    whole.unlink()
    site.full(maker)
    assert (tree(site) / "distribution/big").read_bytes() == big
