"""Hostile media, lists and clocks: each attack has its own rule, its own record, and no effect."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from python_plugins.tests.bundle.helpers import NOW, Maker, Site, safetensors, sign_unseen
from tresor.bundle import importer, metadata
from tresor.bundle.canonical import dump_canonical
from tresor.bundle.errors import BundleError, EnvironmentNotReadyError, RejectedError, UsageError
from tresor.bundle.machine import Machine, Request, locked
from tresor.bundle.medium import Medium

Attack = Callable[[Maker], None]


def refused(site: Site, rule: str, command: Callable[[], object]) -> RejectedError:
    """Run what must be refused: by this rule, recorded as an event, without effect."""
    before = site.store.current.readlink() if site.store.current.exists() else None
    with pytest.raises(RejectedError) as caught:
        command()
    assert caught.value.rule == rule, caught.value
    events = [json.loads(line) for line in site.store.events.read_text().splitlines()]
    assert events[-1]["rule"] == rule
    assert events[-1]["event"].startswith("import.")
    assert before == (site.store.current.readlink() if site.store.current.exists() else None)
    assert not any((site.store.root / "staging").iterdir())
    with locked(site.store):
        site.importer().events.read()
    return caught.value


def manifest_of(maker: Maker) -> Path:
    return next((maker.bundle / "targets").iterdir())


def swap(maker: Maker) -> None:
    one, other = maker.blob(b"deb"), maker.blob(b"---\n")
    content = one.read_bytes()
    one.write_bytes(other.read_bytes()[:3])
    other.write_bytes(content + b"\n")


def grown(maker: Maker) -> None:
    maker.blob(b"deb").write_bytes(b"deb\0")


def emptied(maker: Maker) -> None:
    maker.blob(b"deb").write_bytes(b"")


def flipped(maker: Maker) -> None:
    maker.blob(b"deb").write_bytes(b"eeb")


def extra_folder(maker: Maker) -> None:
    (maker.bundle / "blobs" / "zz").mkdir()


def extra_hidden(maker: Maker) -> None:
    (maker.bundle / ".hidden").write_bytes(b"")


def extra_deep(maker: Maker) -> None:
    (maker.bundle / "blobs" / "aa" / "b").mkdir(parents=True)


def extra_root(maker: Maker) -> None:
    (maker.bundle / "tuf" / "7.root.json").write_bytes(b"{}")


def extra_beside_importer(maker: Maker) -> None:
    (maker.bundle / "bootstrap").mkdir(exist_ok=True)
    (maker.bundle / "bootstrap" / "setup.sh").write_bytes(b"")


def linked_folder(maker: Maker) -> None:
    folder = maker.blob(b"deb").parent
    away = maker.root / "away"
    folder.rename(away)
    folder.symlink_to(away)


def linked_metadata(maker: Maker) -> None:
    path = maker.bundle / "tuf" / "timestamp.json"
    path.rename(maker.root / "timestamp.json")
    path.symlink_to(maker.root / "timestamp.json")


def linked_folder_of_metadata(maker: Maker) -> None:
    (maker.bundle / "tuf").rename(maker.root / "tuf")
    (maker.bundle / "tuf").symlink_to(maker.root / "tuf")


def device(maker: Maker) -> None:
    path = maker.blob(b"deb")
    path.unlink()
    os.mkfifo(path)


def folder_for_a_file(maker: Maker) -> None:
    path = maker.blob(b"deb")
    path.unlink()
    path.mkdir()


def other_importer(maker: Maker) -> None:
    (maker.bundle / "bootstrap" / "importer.pyz").write_bytes(b"#!/bin/sh\n")


def other_fingerprint(maker: Maker) -> None:
    (maker.bundle / "bootstrap" / "root.sha256").write_text("0" * 64 + "\n")


def hidden_in_fingerprint(maker: Maker) -> None:
    path = maker.bundle / "bootstrap" / "root.sha256"
    path.write_text(path.read_text() + " " * 5000)


def unlisted_signature_of_importer(maker: Maker) -> None:
    (maker.bundle / "bootstrap" / "importer.pyz.sig").write_bytes(b"sig")


def fat_hint(maker: Maker) -> None:
    (maker.bundle / "volume.json").write_bytes(b" " * 1_000_000)


MEDIUM: tuple[tuple[Attack, str], ...] = (
    (swap, "content.digest"),
    (flipped, "content.digest"),
    (grown, "content.size"),
    (emptied, "content.size"),
    (extra_folder, "medium.extra"),
    (extra_hidden, "medium.extra"),
    (extra_deep, "medium.extra"),
    (extra_root, "medium.extra"),
    (extra_beside_importer, "medium.extra"),
    (linked_folder, "medium.type"),
    (linked_metadata, "medium.type"),
    (linked_folder_of_metadata, "medium.type"),
    (device, "medium.type"),
    (folder_for_a_file, "medium.extra"),
    (other_importer, "medium.bootstrap"),
    (other_fingerprint, "medium.bootstrap"),
    (hidden_in_fingerprint, "medium.bootstrap"),
    (unlisted_signature_of_importer, "medium.bootstrap"),
    (fat_hint, "medium.size"),
)


@pytest.mark.parametrize(("attack", "rule"), MEDIUM, ids=lambda item: getattr(item, "__name__", ""))
def test_hostile_medium(site: Site, maker: Maker, attack: Attack, rule: str) -> None:
    maker.make()
    with_importer(maker)
    attack(maker)
    if rule == "medium.type" and "metadata" in attack.__name__:
        # There is not even a timestamp to quarantine: the look at the medium ends it.
        with pytest.raises(RejectedError) as caught:
            site.take(maker)
        assert caught.value.rule == rule
        return
    refused(site, rule, lambda: site.take(maker))


def with_importer(maker: Maker) -> None:
    """Carry an importer and the fingerprint, signed as the builder does."""
    folder = maker.bundle / "bootstrap"
    folder.mkdir(exist_ok=True)
    (folder / "importer.pyz").write_bytes(b"the importer")
    (folder / "importer.pyz.sha256").write_text(
        f"{hashlib.sha256(b'the importer').hexdigest()}  importer.pyz\n"
    )
    maker.sign()
    (folder / "root.sha256").write_text(f"{maker.fingerprint}\n")


def test_good_bundle_with_everything_beside_is_taken(site: Site, maker: Maker) -> None:
    maker.make()
    with_importer(maker)
    (maker.bundle / "volume.json").write_text('{"volume":1,"volumes":1}')
    assert site.take(maker).state == "AWAIT_APPROVAL"


@dataclass(frozen=True)
class TwoFaced(Medium):
    """A medium whose answers change after the first one, as a FUSE file system's can."""

    path: str = ""
    second: bytes = b""
    asked: list[str] = field(default_factory=list)

    def open(self, path: str, flags: int = 0) -> int:
        if path == self.path and path in self.asked:
            reader, writer = os.pipe()
            os.close(reader)
            os.close(writer)
            other = self.root.parent / "second"
            other.write_bytes(self.second)
            return os.open(other, os.O_RDONLY)
        self.asked.append(path)
        return super().open(path, flags)


@pytest.mark.parametrize("name", ["tuf/timestamp.json", "manifest", "tuf/1.root.json", "blob"])
def test_answers_that_change_never_get_in(site: Site, maker: Maker, name: str) -> None:
    maker.make()
    path = {
        "manifest": f"targets/{manifest_of(maker).name}",
        "blob": str(maker.blob(b"deb").relative_to(maker.bundle)),
    }.get(name, name)
    medium = TwoFaced(maker.bundle, path=path, second=b"other")
    with locked(site.store):
        try:
            site.importer().import_bundle(medium, Request("lab", maker.fingerprint, True))
        except RejectedError:
            return
    digest = hashlib.sha256(b"deb").hexdigest()
    assert site.store.blob(digest).read_bytes() == b"deb"
    pending = next((site.store.state / "pending").iterdir())
    assert (pending / "bundle.json").read_bytes() == manifest_of(maker).read_bytes()


def test_endless_metadata_is_cut_off(site: Site, maker: Maker) -> None:
    maker.make()
    path = maker.bundle / "tuf" / "1.targets.json"
    with path.open("wb") as stream:
        stream.truncate(2**40)
    refused(site, "medium.size", lambda: site.take(maker))


def test_endless_listing_ends_at_the_first_stranger(
    site: Site, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker.make()
    real, given = os.scandir, []

    class Endless:
        def __init__(self, descriptor: int) -> None:
            self.found = [entry for entry in real(os.dup(descriptor)) if entry.is_file()]

        def __enter__(self) -> Endless:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def __iter__(self) -> Endless:
            return self

        def __next__(self) -> os.DirEntry[str]:
            if not self.found:
                raise StopIteration
            given.append(1)
            return self.found[len(given) % len(self.found)]

    tuf = (maker.bundle / "tuf").stat().st_ino

    def scandir(descriptor: int) -> object:
        return Endless(descriptor) if os.fstat(descriptor).st_ino == tuf else real(descriptor)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(RejectedError, match=r"medium\.extra"):
        site.take(maker)
    assert len(given) < 100


PATHS = [
    "../x",
    "/etc/cron.d/x",
    "a/../../x",
    ".git/config",
    "-rf",
    "a//b",
    "a\x00b",
    "a\nb",
    "CON:",
]


@pytest.mark.parametrize("path", PATHS)
def test_signed_path_that_leaves_its_folder(
    site: Site, maker: Maker, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = maker.manifest()
    document["parts"][1]["files"][0]["path"] = path  # type: ignore[index]
    sign_unseen(maker, dump_canonical(document), monkeypatch)
    refused(site, "manifest.path", lambda: site.take(maker))


NAMES = [
    b'x\nNov 25 bastion tresor-bundle: {"event":"import.activated"}',
    b"x\x1b[2J\x1b[31mall is well",
    b"x\r\x08\x08",
    b"caf\xe9",
    "x\u202egpj.exe".encode(),
    "x\u2028y".encode(),
    b"x" * 250,
]


@pytest.mark.parametrize("name", NAMES)
def test_names_on_the_medium_cannot_forge_records(
    site: Site, maker: Maker, name: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    maker.make()
    Path(os.fsdecode(os.fsencode(maker.bundle / "blobs") + b"/" + name)).touch()
    error = refused(site, "medium.extra", lambda: site.take(maker))
    assert error.path.isprintable()
    reason = next((site.store.root / "quarantine").iterdir()) / "reason.json"
    assert json.loads(reason.read_bytes())["path"] == error.path
    words = ["import", "--medium", maker.bundle, "--store", site.store.root, "--site", "lab"]
    code = importer.main([*map(str, words), "--accept-scope", "lab"])
    assert code == 3
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.strip().isprintable()


def test_two_bundles_released_under_one_number(site: Site, maker: Maker) -> None:
    maker.make()
    site.take(maker)
    maker.make(id="2026.11-other", serial=1)
    maker.sign(version=1)
    # The builder gives it a fresh timestamp and snapshot; the release has the number of the first.
    second = metadata.only_manifest(maker.bundle)[0]
    assert second.id == "2026.11-other"
    refused(site, "signature.version-reused", lambda: site.take(maker))


def test_manifest_of_one_bundle_with_signatures_of_another(site: Site, maker: Maker) -> None:
    maker.make()
    old = manifest_of(maker).read_bytes()
    maker.make(id="2026.11-2", serial=2)
    manifest_of(maker).write_bytes(old)
    refused(site, "signature.target", lambda: site.take(maker))


def test_older_bundle_than_one_that_waits(site: Site, maker: Maker) -> None:
    maker.make(id="2026.11-5", serial=5)
    site.take(maker)
    maker.make(id="2026.11-4", serial=4)
    maker.sign(version=9)
    refused(site, "fit.serial", lambda: site.take(maker))


def test_clock_set_back_after_a_bundle_was_seen(site: Site, maker: Maker) -> None:
    maker.make()
    site.take(maker)
    maker.make(
        id="2026.11-2", serial=2, created="2026-10-01T00:00:00Z", expires="2026-11-01T00:00:00Z"
    )
    past = NOW - timedelta(days=40)
    refused(site, "signature.expired", lambda: site.take(maker, now=past))
    assert "clock.suspect" in site.events()


def test_bundle_that_ended_while_it_waited(site: Site, maker: Maker) -> None:
    maker.make()
    site.take(maker)
    for person in site.people:
        site.approve(person)
    with locked(site.store), pytest.raises(RejectedError, match=r"fit\.expired"):
        site.importer(NOW + timedelta(days=400)).activate(site.signers)
    assert site.events()[-1] == "import.activation-refused"
    assert not site.store.current.exists()


AUDIENCES = [
    ({"glibc": ">=2.42"}, "fit.glibc"),
    ({"python": ["3.12"]}, "fit.python"),
    ({"os": ["debian-12"]}, "fit.os"),
    ({"arch": ["arm64"]}, "fit.arch"),
    ({"site": "berlin"}, "fit.site"),
]


@pytest.mark.parametrize(("change", "rule"), AUDIENCES)
def test_bundle_for_another_machine(
    site: Site, maker: Maker, change: dict[str, object], rule: str
) -> None:
    audience = {"site": "*", "arch": ["amd64"], "os": ["debian-13"], "glibc": ">=2.36",
                "python": ["3.11", "3.13"]}  # fmt: skip
    machine = Machine("amd64", "debian-13", "2.41", "3.13")
    maker.make(audience={**audience, **change})
    refused(site, rule, lambda: site.take(maker, machine=machine))
    maker.make(audience=audience)
    assert site.take(maker, machine=machine).state == "AWAIT_APPROVAL"


def test_delta_on_its_base_is_taken_and_on_another_is_not(site: Site, maker: Maker) -> None:
    maker.make()
    digest = site.full(maker).bundle
    old = {path for path in (maker.bundle / "blobs").rglob("*") if path.is_file()}
    maker.parts["distribution"][2]["playbooks/new.yml"] = b"--- # new\n"
    base = {"id": "2026.11-1", "digest": f"sha256:{digest}"}
    maker.make(id="2026.11-2", serial=2, base=base)
    for path in old:
        path.unlink()
    other = Site(type(site.store)(site.store.root.with_name("other")), site.signers, site.people)
    refused(other, "fit.base", lambda: other.take(maker))
    assert site.full(maker).release == "2026.11-2"
    maker.make(id="2026.11-3", serial=3, base={"id": "x", "digest": "sha256:" + "0" * 64})
    refused(site, "fit.base", lambda: site.take(maker))


def test_delta_whose_base_was_changed_at_rest(site: Site, maker: Maker) -> None:
    maker.make()
    digest = site.full(maker).bundle
    maker.make(id="2026.11-2", serial=2, base={"id": "1", "digest": f"sha256:{digest}"})
    maker.blob(b"deb").unlink()
    blob = site.store.blob(hashlib.sha256(b"deb").hexdigest())
    blob.chmod(0o644)
    blob.write_bytes(b"dec")
    with pytest.raises(EnvironmentNotReadyError, match=r"state\.content"):
        site.take(maker)
    assert str(site.store.current.readlink()) == "releases/2026.11-1"


def approver(site: Site, folder: Path, line: str) -> Path:
    """Add a line for a new key to the list; ``{}`` stands for the key. Return the key."""
    key = folder / "new-key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    with site.signers.open("a") as stream:
        stream.write(line.format(key.with_suffix(".pub").read_text().strip()) + "\n")
    return key


LINES = [
    '* namespaces="tresor-approve" {}',
    '!alice,* namespaces="tresor-approve" {}',
    'carol,dave namespaces="tresor-approve" {}',
    "carol {}",
    'carol namespaces="file" {}',
    'carol cert-authority,namespaces="tresor-approve" {}',
    'carol namespaces="tresor-approve" not-a-key {}',
]


@pytest.mark.parametrize("line", LINES)
def test_loose_line_in_the_list_of_approvers(
    site: Site, maker: Maker, tmp_path: Path, line: str
) -> None:
    maker.make()
    site.take(maker)
    key = approver(site, tmp_path, line)
    with pytest.raises(EnvironmentNotReadyError, match=r"approval\.allowed-signers.*line 3"):
        site.approve("carol", key)


def test_approver_whose_time_is_over_also_with_the_clock_set_back(
    site: Site, maker: Maker, tmp_path: Path
) -> None:
    maker.make()
    site.take(maker)
    line = 'carol namespaces="tresor-approve",valid-before="202611192300Z" {}'
    key = approver(site, tmp_path, line)
    # By the second clock she may still approve, but a bundle of the 20th was seen.
    for now in (NOW, datetime(2026, 11, 19, 10, tzinfo=UTC)):
        with locked(site.store), pytest.raises(RejectedError, match=r"approval\.signature"):
            site.importer(now).approve("carol", site.signers, key=key, signature=None)
        assert site.events()[-1] == "import.approval-refused"


def test_revoked_key_of_an_approver(site: Site, maker: Maker) -> None:
    maker.make()
    site.take(maker)
    site.approve("alice")
    revoked = site.signers.with_name("revoked_keys")
    revoked.write_text(site.people["alice"].with_suffix(".pub").read_text())
    revoked.chmod(0o644)
    with pytest.raises(RejectedError, match=r"approval\.kept"):
        site.approve("bob")
    next((site.store.state / "approvals").glob("*/alice.sig")).unlink()
    with pytest.raises(RejectedError, match=r"approval\.revoked"):
        site.approve("alice")
    assert site.events()[-1] == "import.approval-refused"


@pytest.mark.parametrize("person", ["Alice", "bob", "mallory"])
def test_key_of_one_person_under_another_name(site: Site, maker: Maker, person: str) -> None:
    maker.make()
    site.take(maker)
    site.approve("alice")
    with pytest.raises(RejectedError, match=r"approval\.signature"):
        site.approve(person, site.people["alice"])
    with pytest.raises(RejectedError, match=r"approval\.count"):
        site.activate()


@pytest.mark.parametrize("person", ["*", "../bob", "a b", "", "x\ny"])
def test_name_that_is_a_pattern_or_a_path(site: Site, maker: Maker, person: str) -> None:
    maker.make()
    site.take(maker)
    with pytest.raises(UsageError, match=r"approval\.person"):
        site.approve(person, site.people["alice"])


def test_signature_of_another_bundle_or_namespace(site: Site, maker: Maker, tmp_path: Path) -> None:
    maker.make()
    digest = site.take(maker).bundle
    for number, (text, namespace) in enumerate(
        (("sha256:" + "0" * 64, "tresor-approve"), (f"sha256:{digest}", "file"))
    ):
        message = tmp_path / f"message-{number}"
        message.write_text(f"{text}\n")
        key = str(site.people["alice"])
        subprocess.run(
            ["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", namespace, str(message)], check=True
        )
        with locked(site.store), pytest.raises(RejectedError, match=r"approval\.signature"):
            signature = message.with_name(f"{message.name}.sig")
            site.importer().approve("alice", site.signers, key=None, signature=signature)


def test_gate_that_breaks_or_says_nothing_refuses(
    site: Site, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tresor.bundle import gates

    maker.make()
    for gate, rule in (
        (lambda _given: 1 / 0, "x.error"),
        (lambda _given: [], "x.silent"),
        (lambda _given: [gates.Verdict("x", "x.bad", "unknown", "t", "s")], "x.bad"),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(gates.GATES, "x", gate)  # type: ignore[arg-type]
            refused(site, rule, lambda: site.take(maker))
    site.take(maker)
    for person in site.people:
        site.approve(person)
    pending = next((site.store.state / "pending").iterdir())
    (pending / "verdicts.json").unlink()
    with pytest.raises(EnvironmentNotReadyError, match=r"policy\.missing"):
        site.activate()
    assert not site.store.current.exists()


def test_gate_added_after_the_import_must_have_spoken(
    site: Site, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tresor.bundle import gates

    maker.make()
    site.take(maker)
    monkeypatch.setitem(gates.GATES, "new", lambda _given: [])  # type: ignore[arg-type]
    with pytest.raises(RejectedError, match=r"new\.silent"):
        site.approve("alice")


def test_two_importers_at_once_in_two_processes(site: Site, maker: Maker) -> None:
    maker.make()
    started, go = threading.Event(), threading.Event()
    seen: list[BundleError] = []

    def second() -> None:
        started.wait(10)
        words = ["--store", str(site.store.root), "--medium", str(maker.bundle), "--site", "lab"]
        seen.append(importer.main(["import", *words, "--quiet"]))  # type: ignore[arg-type]
        go.set()

    thread = threading.Thread(target=second)
    thread.start()
    with locked(site.store):
        started.set()
        assert go.wait(10)
    thread.join()
    assert seen == [4]


def flips(maker: Maker, count: int, seed: int) -> list[tuple[Path, int, int]]:
    """Return (file, byte, bit) drawn over all contents by their sizes."""
    chance = random.Random(seed)  # noqa: S311 - which bits to try
    files = [path for path in (maker.bundle / "blobs").rglob("*") if path.stat().st_size]
    files = [path for path in files if path.is_file()]
    weights = [path.stat().st_size for path in files]
    drawn = chance.choices(files, weights, k=count)
    return [(path, chance.randrange(path.stat().st_size), chance.randrange(8)) for path in drawn]


def try_flips(site: Site, maker: Maker, count: int, seed: int = 1) -> None:
    """Flip single bits of the payload; every one must be refused."""
    maker.parts["model-tiny"][2]["model.safetensors"] = safetensors(bytes(3000))
    maker.make()
    for path, byte, bit in flips(maker, count, seed):
        good = path.read_bytes()
        changed = bytearray(good)
        changed[byte] ^= 1 << bit
        path.write_bytes(bytes(changed))
        with pytest.raises(RejectedError, match=r"content\.digest"):
            site.take(maker)
        path.write_bytes(good)
        shutil.rmtree(site.store.root / "quarantine")
    assert not any((site.store.root / "blobs").rglob("*"))
    assert site.take(maker).state == "AWAIT_APPROVAL"


def test_flipped_bits_of_the_payload_are_refused(site: Site, maker: Maker) -> None:
    try_flips(site, maker, 25)
