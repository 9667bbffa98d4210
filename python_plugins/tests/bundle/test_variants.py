"""More shapes of the attacks in ``test_attacks.py``, and the good bundles that look like them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from python_plugins.tests.bundle.helpers import NOW, Maker, Site, safetensors, sign_unseen
from python_plugins.tests.bundle.test_attacks import Attack, manifest_of, refused
from tresor.bundle import medium as medium_module
from tresor.bundle.canonical import dump_canonical
from tresor.bundle.errors import EnvironmentNotReadyError, RejectedError
from tresor.bundle.machine import locked

WEIGHTS = safetensors(b"w" * 5000)


def hole(maker: Maker) -> None:
    """Leave the right length, and nothing behind it."""
    path = maker.blob(WEIGHTS)
    path.unlink()
    with path.open("wb") as stream:
        stream.truncate(len(WEIGHTS))


def endless_hole(maker: Maker) -> None:
    with maker.blob(WEIGHTS).open("ab") as stream:
        stream.truncate(2**42)


def hard_link_to_another(maker: Maker) -> None:
    path, other = maker.blob(b"deb"), maker.blob(b"w")
    path.unlink()
    path.hardlink_to(other)


def hard_link_of_the_right_size(maker: Maker) -> None:
    path = maker.blob(b"deb")
    other = maker.root / "other"
    other.write_bytes(b"dec")
    path.unlink()
    path.hardlink_to(other)


def device_node(maker: Maker) -> None:
    """Put /dev/zero in a content's place: endless, and of the size 0."""
    path = maker.blob(b"deb")
    path.unlink()
    try:
        os.mknod(path, 0o20644, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root makes device nodes")


def device_node_of_metadata(maker: Maker) -> None:
    path = next((maker.bundle / "tuf").glob("*.snapshot.json"))
    path.unlink()
    os.mkfifo(path)


def listening_socket(maker: Maker) -> None:
    path = maker.blob(b"deb")
    path.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's address is short
        server.bind(path.name)
        os.chdir(here)


def twin_in_other_case(maker: Maker) -> None:
    path = maker.blob(WEIGHTS)
    path.with_name(path.name.upper()).write_bytes(WEIGHTS)


def twin_in_other_form(maker: Maker) -> None:
    """Put a name beside that shows as the manifest's: with a zero-width space."""
    path = manifest_of(maker)
    path.with_name(path.name + "\u200b").write_bytes(path.read_bytes())


def folder_in_other_case(maker: Maker) -> None:
    (maker.bundle / "TUF").mkdir()


def shard_beside_the_whole(maker: Maker) -> None:
    path = maker.blob(b"deb")
    path.with_name(f"{path.name}.s0000").write_bytes(b"deb")


def link_out_of_the_medium(maker: Maker) -> None:
    path = maker.blob(b"deb")
    path.unlink()
    path.symlink_to("/etc/hostname")


MEDIUM: tuple[tuple[Attack, str], ...] = (
    (hole, "content.digest"),
    (endless_hole, "content.size"),
    (hard_link_to_another, "content.size"),
    (hard_link_of_the_right_size, "content.digest"),
    (device_node, "medium.type"),
    (device_node_of_metadata, "medium.type"),
    (listening_socket, "medium.type"),
    (twin_in_other_case, "medium.extra"),
    (twin_in_other_form, "medium.extra"),
    (folder_in_other_case, "medium.extra"),
    (shard_beside_the_whole, "medium.extra"),
    (link_out_of_the_medium, "medium.type"),
)


@pytest.mark.parametrize(("attack", "rule"), MEDIUM, ids=lambda item: getattr(item, "__name__", ""))
def test_hostile_medium(site: Site, maker: Maker, attack: Attack, rule: str) -> None:
    maker.parts["model-tiny"][2]["model.safetensors"] = WEIGHTS
    maker.make()
    attack(maker)
    error = refused(site, rule, lambda: site.take(maker))
    assert error.path


def test_medium_of_hard_links_is_good(site: Site, maker: Maker) -> None:
    """A builder links from its cache, and equal contents are one file."""
    maker.make()
    cache = maker.root / "cache"
    cache.mkdir()
    for path in (maker.bundle / "blobs").rglob("*"):
        if path.is_file():
            (cache / path.name).hardlink_to(path)
    assert site.take(maker).state == "AWAIT_APPROVAL"


def with_text(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(raw: bytes) -> bytes:
        assert old in raw
        return raw.replace(old, new, 1)

    return change


def with_path(*paths: str) -> Callable[[bytes], bytes]:
    """Give the first files of the distribution other paths."""

    def change(raw: bytes) -> bytes:
        document = json.loads(raw)
        for entry, path in zip(document["parts"][1]["files"], paths, strict=False):
            entry["path"] = path
        return dump_canonical(document)

    return change


SIGNED = {
    "key twice": (with_text(b'"serial":1', b'"serial":1,"serial":9'), "manifest.json"),
    "NaN": (with_text(b'"serial":1', b'"serial":NaN'), "manifest.json"),
    "infinity": (with_text(b'"serial":1', b'"serial":1e999'), "manifest.json"),
    "float for an integer": (with_text(b'"serial":1', b'"serial":1.0'), "manifest.json"),
    "true for an integer": (with_text(b'"serial":1', b'"serial":true'), "manifest.value"),
    "integer beyond 2^53": (with_text(b'"serial":1', b'"serial":9007199254740992'),
                            "canonical.type"),
    "integer of 5,000 digits": (with_text(b'"serial":1', b'"serial":' + b"9" * 5000),
                                "manifest.json"),
    "nested 100,000 deep": (
        with_text(b'"models":[', b'"models":' + b"[" * 100_000 + b"]" * 99_999 + b",["),
        "manifest.json",
    ),
    "spaces": (with_text(b'"serial":1', b'"serial": 1'), "manifest.canonical"),
    "escaped key": (with_text(b'"serial"', b'"s\\u0065rial"'), "manifest.canonical"),
    "unknown key": (with_text(b'"serial":1', b'"serial":1,"size":1'), "manifest.unknown"),
    "byte order mark": (lambda raw: b"\xef\xbb\xbf" + raw, "manifest.json"),
    "two documents": (lambda raw: raw + raw, "manifest.json"),
    "names that differ in case": (with_path("a/x", "A/x"), "manifest.path"),
    "name in another normal form": (with_path("e\u0301"), "manifest.path"),
    "file that is a folder": (with_path("a", "a/b"), "manifest.path"),
    "same name twice": (with_path("a", "a"), "manifest.path"),
    "windows device with a stream": (with_path("con:x"), "manifest.path"),
    "percent": (with_path("a%2fb"), "manifest.path"),
    "escape sequence": (with_path("a\x1b[2J"), "manifest.path"),
    "line break": (with_path('x\n{"event":"import.activated"}'), "manifest.path"),
    "right to left": (with_path("x\u202egpj"), "manifest.path"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(SIGNED))
def test_signed_manifest_that_is_not_one_plain_document(
    site: Site, maker: Maker, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, rule = SIGNED[name]
    sign_unseen(maker, change(dump_canonical(maker.manifest())), monkeypatch)
    error = refused(site, rule, lambda: site.take(maker))
    assert str(error).isprintable()


def test_signed_length_beyond_the_limit_is_not_even_read(
    site: Site, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker.make()
    monkeypatch.setattr(medium_module, "MAX_MANIFEST_BYTES", 100)
    read: list[str] = []
    real = medium_module.Medium.read
    monkeypatch.setattr(
        medium_module.Medium,
        "read",
        lambda self, path, limit: (read.append(path), real(self, path, limit))[1],
    )
    refused(site, "manifest.size", lambda: site.take(maker))
    assert not [path for path in read if path.startswith("targets/")]


def test_bundle_from_the_future_and_one_that_ended(site: Site, maker: Maker) -> None:
    maker.make(created="2026-12-24T00:00:00Z")
    with pytest.raises(EnvironmentNotReadyError, match=r"environment\.clock"):
        site.take(maker)
    maker.make(created="2026-10-01T00:00:00Z", expires="2026-11-01T00:00:00Z")
    maker.sign(expires=NOW + timedelta(days=30))
    refused(site, "fit.expired", lambda: site.take(maker))


NAMESPACES = [
    "file",
    "git",
    "tresor-inventory",
    "tresor-release",
    "tresor-approve ",
    "TRESOR-APPROVE",
]


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_approval_signed_for_another_purpose(
    site: Site, maker: Maker, namespace: str, tmp_path: Path
) -> None:
    maker.make()
    digest = site.take(maker).bundle
    message = tmp_path / "message"
    message.write_text(f"sha256:{digest}\n")
    key = str(site.people["alice"])
    sign = ["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", namespace, str(message)]
    subprocess.run(sign, check=True)
    with locked(site.store), pytest.raises(RejectedError, match=r"approval\.signature"):
        signature = message.with_name("message.sig")
        site.importer().approve("alice", site.signers, key=None, signature=signature)
    assert site.events()[-1] == "import.approval-refused"


@pytest.mark.parametrize(
    "raw", [b"", b"\0" * 200, b"-----BEGIN SSH SIGNATURE-----\n", b"x" * 10**6]
)
def test_approval_that_is_no_signature(
    site: Site, maker: Maker, raw: bytes, tmp_path: Path
) -> None:
    maker.make()
    site.take(maker)
    path = tmp_path / "x.sig"
    path.write_bytes(raw)
    with locked(site.store), pytest.raises(RejectedError, match=r"approval\.signature"):
        site.importer().approve("alice", site.signers, key=None, signature=path)
    with pytest.raises(RejectedError, match=r"approval\.count"):
        site.activate()


def test_one_key_listed_for_two_people(site: Site, maker: Maker) -> None:
    """The list names a person for each, but the one key is in one pair of hands."""
    public = site.people["alice"].with_suffix(".pub").read_text()
    with site.signers.open("a") as stream:
        stream.write(f'carol namespaces="tresor-approve" {public}')
    maker.make()
    site.take(maker)
    site.approve("alice")
    with pytest.raises(RejectedError, match=r"approval\.same-key"):
        site.approve("carol", site.people["alice"])
    with pytest.raises(RejectedError, match=r"approval\.count"):
        site.activate()
    assert not site.store.current.exists()
