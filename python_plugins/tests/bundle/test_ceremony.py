"""The key ceremony: every role, every way to do it wrong, and what an importer makes of it."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import Signature
from tuf.api.metadata import Metadata

from python_plugins.tests.bundle.ceremony_helpers import Ceremony, make_keys
from python_plugins.tests.bundle.fido2 import Device
from python_plugins.tests.bundle.helpers import NOW, Maker, Site
from tresor.bundle import ceremony, importer, openssh, sshsig
from tresor.bundle.canonical import sha256_hex
from tresor.bundle.errors import RejectedError, UsageError
from tresor.bundle.metadata import dump
from tresor.bundle.spoken import describe


@pytest.fixture(scope="session")
def role_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_keys(tmp_path_factory.mktemp("roles"))


@pytest.fixture
def vendor(tmp_path: Path, role_keys: Path) -> Ceremony:
    return Ceremony(role_keys, tmp_path / "roots")


@pytest.fixture
def product(maker: Maker, vendor: Ceremony) -> Maker:
    """A bundle without lab parts, released by two approvers."""
    maker.parts.pop("model-tiny")
    maker.fingerprint = vendor.first()
    build(maker)
    vendor.release(maker, "anna", "ben")
    return maker


def build(maker: Maker, **changes: object) -> None:
    """Make a bundle as the builder leaves it: without signatures."""
    maker.make(**changes)
    shutil.rmtree(maker.bundle / "tuf")


def take(site: Site, maker: Maker, **options: object) -> str:
    return site.take(maker, lab=False, **options).state  # type: ignore[arg-type]


def test_two_of_three_approvers_release_for_production(site: Site, product: Maker) -> None:
    assert take(site, product) == "AWAIT_APPROVAL"
    for person in site.people:
        site.approve(person)
    site.activate()
    receipt = json.loads((site.store.current / "receipt.json").read_bytes())
    assert receipt["released_by"] == ["anna", "ben"]
    assert receipt["single_key"] is False


def test_one_approver_is_not_enough(maker: Maker, vendor: Ceremony) -> None:
    vendor.first()
    build(maker)
    draft = ceremony.draft_release(maker.bundle, vendor.roots)
    assert vendor.sign(draft, "anna", "anna").name.endswith(ceremony.DRAFT)
    with pytest.raises(UsageError, match=r"keys\.draft"):
        ceremony.seal(maker.bundle, vendor.keys / "builder", NOW)


@pytest.mark.parametrize("name", ["root-a", "builder", "spare"])
def test_only_approvers_release(maker: Maker, vendor: Ceremony, name: str) -> None:
    vendor.first()
    build(maker)
    draft = ceremony.draft_release(maker.bundle, vendor.roots)
    with pytest.raises(UsageError, match=r"keys\.role"):
        vendor.sign(draft, name)


def test_only_the_builder_seals(maker: Maker, vendor: Ceremony) -> None:
    vendor.first()
    build(maker)
    vendor.sign(ceremony.draft_release(maker.bundle, vendor.roots), "anna", "ben")
    with pytest.raises(UsageError, match=r"keys\.role"):
        ceremony.seal(maker.bundle, vendor.keys / "anna", NOW)


def no_spare_root(vendor: Ceremony) -> dict[str, list[Path]]:
    return {"root": vendor.pub("root-a", "root-b"), "targets": vendor.pub("anna", "ben", "cleo"),
            "builder": vendor.pub("builder")}  # fmt: skip


def builder_is_approver(vendor: Ceremony) -> dict[str, list[Path]]:
    return {"root": vendor.pub("root-a", "root-b", "root-c"),
            "targets": vendor.pub("anna", "ben", "builder"),
            "builder": vendor.pub("builder")}  # fmt: skip


def no_builder(vendor: Ceremony) -> dict[str, list[Path]]:
    return {"root": vendor.pub("root-a", "root-b", "root-c"),
            "targets": vendor.pub("anna", "ben", "cleo")}  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "terms", "rule"),
    [
        (no_spare_root, {}, r"keys\.spare"),
        (builder_is_approver, {}, r"keys\.twice"),
        (no_builder, {}, r"keys\.builder"),
        (no_spare_root, {"root_threshold": 1}, r"signature\.threshold"),
        (no_builder, {"approver_threshold": 1}, r"signature\.threshold"),
        (no_builder, {"approver_days": -1}, r"keys\.builder|signature\.key-expired"),
    ],
)
def test_unsafe_root_is_not_even_drafted(
    vendor: Ceremony, keys: object, terms: dict[str, int], rule: str
) -> None:
    with pytest.raises((UsageError, RejectedError), match=rule):
        ceremony.draft_root(vendor.roots, keys(vendor), [], terms, NOW)  # type: ignore[operator]
    assert not list(vendor.roots.glob("*")) if vendor.roots.exists() else True


def test_threshold_zero_is_refused(site: Site, product: Maker) -> None:
    path = product.bundle / "tuf" / "1.root.json"
    document = json.loads(path.read_bytes())
    document["signed"]["roles"]["targets"]["threshold"] = 0
    from tresor.bundle.canonical import dump_canonical

    path.write_bytes(dump_canonical(document))
    with pytest.raises(RejectedError, match=r"signature\.(metadata|invalid)"):
        take(site, product, fingerprint=sha256_hex(path.read_bytes()))


def test_builder_key_ends_after_ninety_days(site: Site, maker: Maker, vendor: Ceremony) -> None:
    maker.parts.pop("model-tiny")
    maker.fingerprint = vendor.first(NOW - timedelta(days=80))
    build(maker)
    vendor.release(maker, "anna", "ben")
    end = Metadata.from_file(str(maker.bundle / "tuf/timestamp.json")).signed.expires
    assert end == NOW + timedelta(days=10), "the builder's word lasts no longer than its key"
    with pytest.raises(RejectedError, match=r"signature\.expired"):
        take(site, maker, now=NOW + timedelta(days=11))


def test_signature_of_an_ended_key_is_refused_though_the_metadata_lasts(
    site: Site, maker: Maker, vendor: Ceremony, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker.parts.pop("model-tiny")
    maker.fingerprint = vendor.first(NOW - timedelta(days=80))
    build(maker)
    # A builder that ignores when its key ends.
    monkeypatch.setattr(ceremony, "role_end", lambda _root, _role, wanted: wanted)
    vendor.release(maker, "anna", "ben")
    with pytest.raises(RejectedError, match=r"signature\.key-expired.*builder"):
        take(site, maker, now=NOW + timedelta(days=11))


def test_ended_key_does_not_sign(maker: Maker, vendor: Ceremony) -> None:
    vendor.first(NOW - timedelta(days=366))
    build(maker)
    with pytest.raises(RejectedError, match=r"signature\.key-expired"):
        vendor.sign(ceremony.draft_release(maker.bundle, vendor.roots), "anna")


def test_new_root_needs_the_old_and_the_new_keys(vendor: Ceremony) -> None:
    vendor.first()
    draft = vendor.change("root-b", remove=("root-a",), root=vendor.pub("spare"))
    assert draft.name == "2.root.draft.json", "one old key is not two"
    assert "1 more needed by root 1" in describe(draft)
    assert vendor.sign(draft, "root-c").name == "2.root.json"


def test_removed_approver_cannot_release_any_more(
    site: Site, product: Maker, vendor: Ceremony
) -> None:
    take(site, product)
    site.approve("alice")
    site.approve("bob")
    site.activate()
    stolen = Ceremony(vendor.keys, product.root / "old-roots")
    shutil.copytree(vendor.roots, stolen.roots)
    vendor.change("root-a", "root-b", remove=("ben",), targets=vendor.pub("spare"))
    build(product, id="2026.11-2", serial=2)
    vendor.release(product, "anna", "spare")
    assert take(site, product) == "AWAIT_APPROVAL"
    # Whoever holds the removed key and one more signs under the old root.
    build(product, id="2026.11-3", serial=3)
    stolen.release(product, "anna", "ben")
    with pytest.raises(RejectedError, match=r"signature\.(invalid|foreign)"):
        take(site, product)


def test_revocation_counts_though_the_bundle_that_brought_it_was_refused(
    site: Site, product: Maker, vendor: Ceremony
) -> None:
    stolen = Ceremony(vendor.keys, product.root / "old-roots")
    shutil.copytree(vendor.roots, stolen.roots)
    vendor.change("root-a", "root-b", remove=("ben",), targets=vendor.pub("spare"))
    audience = {"site": "elsewhere", "arch": ["amd64"], "os": ["debian-13"]}
    build(product, audience=audience)
    vendor.release(product, "anna", "spare")
    with pytest.raises(RejectedError, match=r"fit\.site"):
        take(site, product)
    build(product)
    stolen.release(product, "anna", "ben")
    with pytest.raises(RejectedError, match=r"signature\.(invalid|foreign)"):
        take(site, product)


def test_versions_do_not_go_back_when_the_builder_key_was_replaced(
    site: Site, product: Maker, vendor: Ceremony
) -> None:
    build(product, id="2026.11-5", serial=5)
    vendor.release(product, "anna", "ben")
    take(site, product)
    vendor.change("root-a", "root-b", remove=("builder",), builder=vendor.pub("spare"))
    build(product, id="2026.11-4", serial=4)
    vendor.release(product, "anna", "ben", builder="spare")
    with pytest.raises(RejectedError, match=r"signature\.version"):
        take(site, product)


def test_older_root_that_travels_along_must_be_the_trusted_one(
    site: Site, product: Maker, vendor: Ceremony
) -> None:
    take(site, product)
    vendor.change("root-a", "root-b", remove=("ben",), targets=vendor.pub("spare"))
    build(product, id="2026.11-2", serial=2)
    vendor.release(product, "anna", "cleo")
    take(site, product)
    (product.bundle / "tuf" / "1.root.json").write_bytes(b"hidden payload")
    with pytest.raises(RejectedError, match=r"signature\.root-changed"):
        take(site, product)


@pytest.mark.parametrize("namespace", ["tresor-approve", "file"])
def test_signature_of_another_namespace_is_refused(
    role_keys: Path, tmp_path: Path, namespace: str
) -> None:
    message = tmp_path / "message"
    message.write_bytes(b"signed bytes")
    arguments = ["-Y", "sign", "-q", "-f", str(role_keys / "anna"), "-n", namespace, str(message)]
    assert openssh.ssh_keygen(arguments).returncode == 0
    blob = openssh.unarmour((tmp_path / "message.sig").read_text())
    with pytest.raises(RejectedError, match=r"signature\.invalid"):
        sshsig.check(openssh.read_public(role_keys / "anna"), blob, b"signed bytes")


def test_every_changed_byte_of_an_openssh_signature_is_refused(role_keys: Path) -> None:
    public = openssh.read_public(role_keys / "anna")
    blob = sshsig.sign(role_keys / "anna", b"signed bytes")
    sshsig.check(public, blob, b"signed bytes")
    for position in range(0, len(blob), 3):
        changed = bytearray(blob)
        changed[position] ^= 1
        with pytest.raises(RejectedError):
            sshsig.check(public, bytes(changed), b"signed bytes")
    with pytest.raises(RejectedError):
        sshsig.check(public, blob + b"\0", b"signed bytes")
    with pytest.raises(RejectedError):
        sshsig.check(openssh.read_public(role_keys / "ben"), blob, b"signed bytes")


def test_fido2_signature_counts_only_when_the_device_was_touched(tmp_path: Path) -> None:
    device = Device.new()
    public = openssh.read_public(device.write_public(tmp_path / "anna.pub"))
    namespace = sshsig.SCHEME.encode()
    sshsig.check(public, device.sign(b"data", namespace), b"data")
    with pytest.raises(RejectedError, match=r"signature\.touch"):
        sshsig.check(public, device.sign(b"data", namespace, flags=0), b"data")
    with pytest.raises(RejectedError, match=r"signature\.invalid"):
        sshsig.check(public, device.sign(b"other", namespace), b"data")


def test_release_with_fido2_keys(site: Site, maker: Maker, vendor: Ceremony) -> None:
    devices = {name: Device.new() for name in ("dora", "emil", "finn")}
    files = [device.write_public(maker.keys / f"{name}.pub") for name, device in devices.items()]
    added = {
        "root": vendor.pub("root-a", "root-b", "root-c"),
        "targets": files,
        "builder": vendor.pub("builder"),
    }
    draft = ceremony.draft_root(vendor.roots, added, [], {}, NOW)
    maker.fingerprint = sha256_hex(vendor.sign(draft, "root-a", "root-b").read_bytes())
    maker.parts.pop("model-tiny")
    build(maker)
    release = ceremony.draft_release(maker.bundle, vendor.roots)
    metadata = Metadata.from_file(str(release))
    for name in ("dora", "finn"):
        blob = devices[name].sign(metadata.signed_bytes, sshsig.SCHEME.encode())
        keyid = sha256_hex(devices[name].blob())
        metadata.signatures[keyid] = Signature(keyid, blob.hex())
    release.unlink()
    release.with_name("1.targets.json").write_bytes(dump(metadata))
    ceremony.seal(maker.bundle, vendor.keys / "builder", NOW)
    assert take(site, maker) == "AWAIT_APPROVAL"


def test_short_rsa_and_dsa_keys_are_refused(tmp_path: Path) -> None:
    short = tmp_path / "short"
    openssh.ssh_keygen(["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(short)])
    with pytest.raises(UsageError, match="3072"):
        openssh.read_public(short)
    with pytest.raises(UsageError, match=r"signature\.key-type"):
        openssh.parse_public("ssh-dss AAAAB3NzaC1kc3MAAAAA")


def test_commands_lead_through_a_ceremony(
    vendor: Ceremony,
    maker: Maker,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def keys(*words: object) -> tuple[int, str]:
        code = importer.main(["keys", *map(str, words)])
        said = capsys.readouterr()
        return code, said.out + said.err

    roots = [item for path in vendor.pub("root-a", "root-b", "root-c") for item in ("--root", path)]
    people = [item for path in vendor.pub("anna", "ben", "cleo") for item in ("--approver", path)]
    code, said = keys("root", vendor.roots, *roots, *people, "--builder", *vendor.pub("builder"))
    assert code == 0 and "2 more needed" in said and "not a FIDO2 key" in said
    draft = vendor.roots / "1.root.draft.json"
    monkeypatch.setattr("builtins.input", lambda _text: "not the digest")
    code, said = keys("sign", draft, "--key", vendor.keys / "root-a")
    assert code == 2 and "keys.confirm" in said and "2 more needed" in describe(draft)
    assert keys("sign", draft, "--key", vendor.keys / "root-a", "--yes")[0] == 0
    code, said = keys("sign", draft, "--key", vendor.keys / "root-b", "--yes")
    assert code == 0 and "FINGERPRINT for paper" in said
    build(maker)
    assert keys("release", maker.bundle, "--roots", vendor.roots)[0] == 0
    release = maker.bundle / "tuf" / "1.targets.draft.json"
    for name in ("anna", "cleo"):
        code, said = keys("sign", release, "--key", vendor.keys / name, "--yes")
        assert code == 0 and "2026.11-1" in said
    assert keys("seal", maker.bundle, "--key", vendor.keys / "builder")[0] == 0
    assert not list((maker.bundle / "tuf").glob("*.draft.json"))


def test_made_key_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["keys", "new", "--name", "anna", "--out", str(tmp_path), "--type", "ed25519"]
    assert importer.main([*words, "--no-passphrase"]) == 0
    before = (tmp_path / "anna").read_bytes()
    assert importer.main([*words, "--no-passphrase"]) == 2
    assert (tmp_path / "anna").read_bytes() == before
    assert "SHA256:" in capsys.readouterr().out
