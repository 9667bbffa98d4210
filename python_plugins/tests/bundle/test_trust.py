"""Signed metadata: every changed byte is refused, and so is every weaker signature."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root

from python_plugins.tests.bundle.helpers import NOW, Maker
from tresor.bundle.canonical import dump_canonical, sha256_hex
from tresor.bundle.errors import RejectedError, UsageError
from tresor.bundle.manifest import parse_manifest
from tresor.bundle.signing import create_keys, create_lab_keys, sign_bundle
from tresor.bundle.trust import TrustedState, VerifiedMetadata, first_root, verify

FILES = ("1.root.json", "1.targets.json", "1.snapshot.json", "timestamp.json")


class Disk:
    """Metadata in memory, as a fetcher."""

    def __init__(self, folder: Path) -> None:
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}

    def __call__(self, name: str) -> bytes | None:
        return self.files.get(name)

    def verify(self, fingerprint: str, *, lab: bool = True) -> VerifiedMetadata:
        root = first_root(self("1.root.json"), fingerprint)
        return verify(self, TrustedState(root), NOW, allow_single_key=lab)


@pytest.fixture
def disk(maker: Maker) -> Disk:
    return Disk(maker.make() / "tuf")


def test_good_metadata_leads_to_the_manifest(maker: Maker, disk: Disk) -> None:
    verified = disk.verify(maker.fingerprint)
    raw = (maker.bundle / "targets" / f"{verified.bundle_sha256}.bundle.json").read_bytes()
    assert sha256_hex(raw) == verified.bundle_sha256
    assert verified.files == set(FILES)


def flips(raw: bytes) -> Iterator[bytes]:
    for position in range(len(raw)):
        changed = bytearray(raw)
        changed[position] ^= 1 << (position % 8)
        yield bytes(changed)


@pytest.mark.parametrize("name", FILES)
def test_every_changed_byte_of_metadata_is_refused(maker: Maker, disk: Disk, name: str) -> None:
    original = disk.files[name]
    accepted = []
    for number, raw in enumerate(flips(original)):
        disk.files[name] = raw
        try:
            disk.verify(maker.fingerprint)
        except RejectedError:
            continue
        accepted.append(number)
    assert accepted == []


def test_every_changed_byte_of_the_manifest_is_refused_or_another_digest(maker: Maker) -> None:
    maker.make()
    raw = next((maker.bundle / "targets").iterdir()).read_bytes()
    digest = parse_manifest(raw).digest
    for changed in flips(raw):
        assert sha256_hex(changed) != digest
        try:
            parse_manifest(changed)
        except RejectedError:
            continue  # any other exception would be a crash of the parser


@pytest.mark.parametrize("name", FILES[1:])
def test_missing_metadata_is_refused(maker: Maker, disk: Disk, name: str) -> None:
    del disk.files[name]
    with pytest.raises(RejectedError, match=r"signature\.missing"):
        disk.verify(maker.fingerprint)


def test_upper_case_signature_is_refused(maker: Maker, disk: Disk) -> None:
    document = json.loads(disk.files["timestamp.json"])
    document["signatures"][0]["sig"] = document["signatures"][0]["sig"].upper()
    disk.files["timestamp.json"] = dump_canonical(document)
    with pytest.raises(RejectedError, match=r"signature\.metadata"):
        disk.verify(maker.fingerprint)


def test_spaces_in_metadata_are_refused(maker: Maker, disk: Disk) -> None:
    disk.files["timestamp.json"] += b"\n"
    with pytest.raises(RejectedError, match=r"signature\.canonical"):
        disk.verify(maker.fingerprint)


def test_mixed_metadata_of_two_bundles_is_refused(maker: Maker, disk: Disk) -> None:
    maker.make(id="2026.11-2", serial=2)
    newer = Disk(maker.bundle / "tuf")
    newer.files["2.snapshot.json"] = disk.files["1.snapshot.json"]
    with pytest.raises(RejectedError, match=r"signature\.mixed"):
        newer.verify(maker.fingerprint)


def test_lab_keys_are_refused_where_no_lab_is_meant(maker: Maker, disk: Disk) -> None:
    with pytest.raises(RejectedError, match=r"signature\.threshold"):
        disk.verify(maker.fingerprint, lab=False)


@pytest.fixture
def strong(maker: Maker, tmp_path: Path) -> Maker:
    keys = tmp_path / "strong"
    maker.fingerprint = create_keys(
        keys,
        {"root": 3, "targets": 3, "snapshot": 1, "timestamp": 1},
        thresholds={"root": 2, "targets": 2, "snapshot": 1, "timestamp": 1},
    )
    maker.keys = keys
    return maker


def test_two_of_three_keys_are_enough_for_production(strong: Maker) -> None:
    (strong.keys / "targets-3.pem").unlink()
    disk = Disk(strong.make() / "tuf")
    assert not disk.verify(strong.fingerprint, lab=False).single_key


def test_one_of_three_keys_is_not_enough(strong: Maker) -> None:
    strong.make()
    (strong.keys / "targets-3.pem").unlink()
    (strong.keys / "targets-2.pem").unlink()
    with pytest.raises(UsageError, match="needs 2 keys"):
        strong.sign()


def resign(disk: Disk, maker: Maker, change: object) -> None:
    """Change targets and sign snapshot and timestamp again, as a thief of the builder key could."""
    from tuf.api.metadata import Snapshot, Timestamp

    from tresor.bundle.metadata import _meta
    from tresor.bundle.metadata import sign_with as _signed
    from tresor.bundle.signing import _signers

    document = json.loads(disk.files["1.targets.json"])
    change(document)  # type: ignore[operator]
    targets = disk.files["1.targets.json"] = dump_canonical(document)
    root = Metadata[Root].from_bytes(disk.files["1.root.json"]).signed
    expires = Metadata.from_bytes(disk.files["timestamp.json"]).signed.expires
    snapshot = Snapshot(version=1, expires=expires, meta={"targets.json": _meta(targets, 1)})
    raw = disk.files["1.snapshot.json"] = _signed(snapshot, _signers(maker.keys, root, "snapshot"))
    timestamp = Timestamp(version=1, expires=expires, snapshot_meta=_meta(raw, 1))
    disk.files["timestamp.json"] = _signed(timestamp, _signers(maker.keys, root, "timestamp"))


def one_signature(document: dict[str, list[object]]) -> None:
    del document["signatures"][1:]


def same_signature_twice(document: dict[str, list[object]]) -> None:
    document["signatures"] = [document["signatures"][0]] * 2


def foreign_signature(document: dict[str, list[object]]) -> None:
    document["signatures"].append({"keyid": "0" * 64, "sig": "0" * 128})


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (one_signature, r"signature\.invalid"),
        (same_signature_twice, r"signature\.metadata"),
        (foreign_signature, r"signature\.foreign"),
    ],
)
def test_builder_key_alone_cannot_release(strong: Maker, change: object, rule: str) -> None:
    disk = Disk(strong.make() / "tuf")
    resign(disk, strong, change)
    with pytest.raises(RejectedError, match=rule):
        disk.verify(strong.fingerprint, lab=False)


def test_one_key_under_two_names_is_refused(strong: Maker) -> None:
    path = strong.keys / "1.root.json"
    document = json.loads(path.read_bytes())
    role = document["signed"]["roles"]["targets"]
    keys = document["signed"]["keys"]
    keys["f" * 64] = copy.deepcopy(keys[role["keyids"][0]])
    role["keyids"] = [role["keyids"][0], "f" * 64]
    from tresor.bundle.metadata import sign_with as _signed
    from tresor.bundle.signing import _signers

    root = Root.from_dict(document["signed"])
    disk = Disk(strong.make() / "tuf")
    raw = disk.files["1.root.json"] = _signed(root, _signers(strong.keys, root, "root"))
    with pytest.raises(RejectedError, match=r"signature\.key-twice"):
        disk.verify(sha256_hex(raw), lab=False)


def test_root_rotation_is_followed_and_signed_by_old_and_new(strong: Maker) -> None:
    from tresor.bundle.metadata import sign_with as _signed
    from tresor.bundle.signing import _signers

    old = Metadata[Root].from_file(str(strong.keys / "1.root.json")).signed
    new = Metadata[Root].from_file(str(strong.keys / "1.root.json")).signed
    new.version = 2
    lost = old.roles["root"].keyids[0]
    new.revoke_key(lost, "root")
    signers = _signers(strong.keys, old, "root")
    (strong.keys / "2.root.json").write_bytes(_signed(new, signers[1:]))
    verified = Disk(strong.make() / "tuf").verify(strong.fingerprint, lab=False)
    assert json.loads(verified.state.root)["signed"]["version"] == 2
    assert "2.root.json" in verified.files
    (strong.keys / "2.root.json").write_bytes(_signed(new, signers[1:2]))
    strong.make()
    with pytest.raises(RejectedError, match=r"signature\.invalid"):
        Disk(strong.bundle / "tuf").verify(strong.fingerprint, lab=False)


def test_signing_twice_gives_the_same_bytes(maker: Maker) -> None:
    first = Disk(maker.make() / "tuf").files
    assert Disk(maker.make() / "tuf").files == first


def test_existing_keys_are_kept_and_a_partial_set_is_refused(tmp_path: Path) -> None:
    first = create_lab_keys(tmp_path / "k")
    assert create_lab_keys(tmp_path / "k") == first
    assert (tmp_path / "k" / "root-1.pem").stat().st_mode & 0o777 == 0o600
    (tmp_path / "k" / "targets-1.pem").unlink()
    with pytest.raises(UsageError, match=r"targets-1\.pem"):
        create_lab_keys(tmp_path / "k")


def test_manifest_under_a_wrong_name_is_not_signed(maker: Maker) -> None:
    path = next((maker.make() / "targets").iterdir())
    path.rename(path.with_name("0" * 64 + ".bundle.json"))
    with pytest.raises(UsageError, match="not its digest"):
        sign_bundle(maker.bundle, maker.keys)
